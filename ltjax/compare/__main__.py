"""The table of finished runs, `python -m ltjax.compare runs/a ...`, or a planned one, --table."""

import pathlib
import sys
from collections.abc import Sequence

from ltjax import storage
from ltjax.compare import rows as runs_as_rows
from ltjax.compare.against import against_best, lines
from ltjax.compare.bands import verdicts
from ltjax.compare.tables import notes, page, table
from ltjax.errors import UserError
from ltjax.report.narrow import Continued
from ltjax.terminal import Interrupts, Parser, console, fail, finish, say


def main(argv: Sequence[str]) -> int:
    """Print the table of the runs in or below folders, or work on one; returns the exit code."""
    parser = Parser(
        "python -m ltjax.compare",
        description="The table of the finished runs in or below folders; or with --table, runs "
        "what is missing of a planned one.",
    )
    add = parser.add_argument
    add("folders", nargs="*", type=pathlib.Path, metavar="FOLDER")
    add("--markdown", type=pathlib.Path, metavar="FILE", help="write a page, too")
    add("--table", help="a planned table: a TOML file, or the name of one that comes with ltjax")
    add("--workdir", help="of --table, above the folders of its runs")
    add("--show", action="store_true", help="of --table, only show what is finished")
    given = parser.parse_args(argv)
    if given.table:
        return _planned(parser, given)
    if not given.folders or given.workdir is not None or given.show:
        parser.error("give FOLDER, or --table with its options")
    out = console()
    try:
        runs, unfinished = runs_as_rows.find(given.folders)
        named = runs_as_rows.named(runs)
        rows = runs_as_rows.rows(named)
        against = against_best(named)
        if given.markdown:
            given.markdown.write_text(page(rows, against))
    except UserError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{given.markdown} cannot be written: {error.strerror}.")
    out.print(table(rows, out.width))
    for note in [*notes(rows), *lines(against), *verdicts(rows)]:
        say(out, note)
    first = {}
    for name, run in named:
        same = first.setdefault((name, run.report["config"]["seed"]), run)
        if same is not run:
            say(out, f"{run.folder} is left out: it has the config and seed of {same.folder}.")
    for folder in unfinished:
        say(out, f"{folder} is left out: it is not finished.")
    if given.markdown:
        say(out, f"Page: {given.markdown}")
    return 0


def _planned(parser, given) -> int:
    """Work on a planned table, and show it."""
    from ltjax.compare import grid, plan, work  # here: they import JAX

    if given.folders or given.markdown:
        parser.error("--table goes with --workdir and --show alone")
    out = console()
    try:
        table_ = plan.read(given.table)
        default = pathlib.Path("runs", f"table-{pathlib.Path(given.table).stem}")
        folder = storage.usable(default if given.workdir is None else given.workdir, "--workdir")
        work.check(table_, folder)

        def tell(text):
            say(out, text)

        def write(failed):
            text = grid.page(table_, work.finished(table_, folder), failed)
            work.write_page(folder, text)

        left = work.Left({}, []) if given.show else work.work(table_, folder, tell, write)
        runs = work.finished(table_, folder)
        out.print(Continued(grid.grid(table_, runs, left.failed)))
        if not given.show:
            write(left.failed)
            say(out, f"Page: {folder / 'table.md'}")
    except UserError as error:
        return fail(str(error))
    except work.Stopped as stopped:
        say(out, f"{stopped} To resume, repeat the command.")
        return stopped.exit_code
    for line in grid.failures(left.failed, left.elsewhere):
        say(out, line)
    return 1 if left.failed else 0


if __name__ == "__main__":
    Interrupts().after = "What is finished is kept."
    finish(main(sys.argv[1:]))
