"""The table of finished runs: `python -m ltjax.compare runs/a runs/b ...`."""

import pathlib
import sys
from collections.abc import Sequence

from rich.console import Console

from ltjax.compare import rows as runs_as_rows
from ltjax.compare.against import against_best, lines
from ltjax.compare.tables import notes, page, table
from ltjax.errors import UserError, plain
from ltjax.terminal import Parser, fail


def main(argv: Sequence[str]) -> int:
    """Print the table of the runs in or below folders; returns the exit code."""
    parser = Parser(
        "python -m ltjax.compare", description="The table of the finished runs in or below folders."
    )
    parser.add_argument("folders", nargs="+", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="write a page, too")
    given = parser.parse_args(argv)
    console = Console(file=sys.stdout, markup=False, emoji=False)

    def say(text):
        console.print(plain(text), highlight=False, soft_wrap=True)

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
    console.print(table(rows, console.width))
    for note in [*notes(rows), *lines(against)]:
        say(note)
    first = {}
    for name, run in named:
        same = first.setdefault((name, run.report["config"]["seed"]), run)
        if same is not run:
            say(f"{run.folder} is left out: it has the config and seed of {same.folder}.")
    for folder in unfinished:
        say(f"{folder} is left out: it is not finished.")
    if given.markdown:
        say(f"Page: {given.markdown}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
