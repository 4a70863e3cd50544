"""Methods side by side: the same config with each of them, over seeds, as one table."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from ltjax import rundir
from ltjax.choices import pick
from ltjax.console import own_console, say
from ltjax.errors import UserError
from ltjax.loop import Diverged
from ltjax.methods import METHODS
from ltjax.settings import settings_from
from ltjax.tables import as_markdown
from ltjax.train import info_of, read, recipe_of, run

COLUMNS = {  # of the average of experts, in percent
    "accuracy": "acc",
    "many": "many",
    "medium": "med",
    "few": "few",
    "ece": "ECE",
}


def compare(
    config: Any, methods: Sequence[str], seeds: Sequence[int], workdir: str | None = None
) -> list[dict]:
    """Run a config with each method and each seed, in folders below one; then tabulate.

    What is complete in that folder is not run again, and what was stopped goes on, so that the same
    command finishes a comparison that was interrupted. A method that diverges is left out.

    Args:
      config: an ml_collections.ConfigDict; its method's name and its seed are replaced.
      methods: rows of METHODS, or ("all",).
      seeds: of the runs; the selection of images (data.seed) stays as it is.
      workdir: the folder above those of the runs; "runs/comparison" by default.

    Returns:
      One summary per method, as comparison.json in the folder has them.

    Raises:
      UserError: for an unknown method, or whatever a run says; before anything is run. Of "all"
        methods, those that do not go with the config are left out, and it is said why.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds is {list(seeds)}; it must hold different numbers from 0 on.")
    folder, console = pathlib.Path(workdir or "runs/comparison"), own_console()
    methods = _that_can_run(config, methods, console)
    rows = []
    for number, name in enumerate(methods, 1):
        reports = []
        for seed in seeds:
            say(console, f"{name} ({number} of {len(methods)}), seed {seed}")
            try:
                reports.append(run(_with(config, name, seed), str(folder / f"{name}-{seed}")))
            except Diverged as diverged:
                say(console, f"{name} is left out: {diverged}")
                break
        if len(reports) < len(seeds):
            continue
        rows.append(summary(name, seeds, reports))
        rundir.save_json(folder / "comparison.json", rows)
        rundir.write(folder / "comparison.md", page(rows))
    if not rows:
        raise UserError(f"All of {', '.join(methods)} diverged; there is nothing to tabulate.")
    console.print("", table(rows))
    say(console, f"Comparison: {folder / 'comparison.md'}")
    return rows


def _that_can_run(config, methods, console):
    """The methods, but for those of "all" that refuse the config; mistakes are said first."""
    named, found = list(methods) != ["all"], []
    for name in methods if named else ():
        pick(METHODS, name, "--compare")
    info = info_of(read(settings_from(_with(config, "classifier", 0)), console))  # for all the same
    for name in methods if named else METHODS:
        try:
            recipe_of(settings_from(_with(config, name, 0)), info)
        except UserError as error:
            if named:
                raise
            say(console, f"{name} is left out: {error}")
        else:
            found.append(name)
    if not found:
        raise UserError("No method goes with this config; the lines above say why.")
    return found


def summary(method: str, seeds: Sequence[int], reports: Sequence[dict]) -> dict:
    """A method's numbers: {name: one value per seed}, what is None for lack of classes left out."""
    tests = [report["splits"]["test"] for report in reports]
    values = {name: [test["average"][name] for test in tests] for name in (*COLUMNS, "nll")}
    experts = [[one["accuracy"] for one in test["experts"]] for test in tests]
    return {
        "method": method,
        "seeds": list(seeds),
        "title": reports[0]["title"],
        "test": {name: value for name, value in values.items() if None not in value},
        "mean_expert": [statistics.mean(one) for one in experts],
        "num_experts": reports[0]["config"]["num_experts"],
        "epochs": reports[0]["epochs"],
        "train_seconds": [report["cost"]["train_seconds"] for report in reports],
        "multiply_adds": reports[0]["cost"]["multiply_adds"],
        "device": reports[0]["device"],
        "versions": reports[0]["versions"],
    }


def table(rows: Sequence[dict]) -> Table:
    """Methods in the order of their accuracy; means over seeds, of accuracy their deviation too."""
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=0)
    out.add_column("method", no_wrap=True)
    for title in (*COLUMNS.values(), "expert", "MACs", "ep.", "min"):
        out.add_column(title, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: -statistics.mean(row["test"]["accuracy"])):
        out.add_row(
            row["method"],
            _with_spread(row["test"]["accuracy"]),
            *(_percent(row["test"].get(name)) for name in COLUMNS if name != "accuracy"),
            _percent(row["mean_expert"]),
            _multiply_adds(row["multiply_adds"]),
            f"{row['epochs']:.0f}",
            f"{statistics.mean(row['train_seconds']) / 60:,.0f}",
        )
    return out


def page(rows: Sequence[dict]) -> str:
    """The comparison as a Markdown page."""
    versions = ", ".join(f"{name} {version}" for name, version in rows[0]["versions"].items())
    parts = [
        f"# Methods compared on {rows[0]['title'].rpartition(': ')[0]}",
        f"{rows[0]['num_experts']} expert(s); seeds {', '.join(map(str, rows[0]['seeds']))}. Test "
        "split, last state, in percent; after ±, the standard deviation over seeds. *expert* is "
        "the mean accuracy of single experts, the other numbers are of their average; *MACs*, "
        "multiply-adds of all experts for an image; *ep.*, the epochs of all phases; *min*, "
        "minutes of training.",
        as_markdown(table(rows)),
        f"{rows[0]['device']}; {versions}.",
    ]
    return "\n\n".join(parts) + "\n"


def _with(config, method, seed):
    """The config as plain dicts, with another method and seed."""
    config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    given = config.get("method") or {}
    group = {**given, "name": method} if isinstance(given, Mapping) else given  # or an error later
    return config | {"method": group, "seed": seed}


def _multiply_adds(count):
    unit, name = (1e9, "G") if count >= 1e9 else (1e6, "M")
    return f"{count / unit:.3g}{name}"


def _percent(values):
    return "none" if values is None else f"{100 * statistics.mean(values):.1f}"


def _with_spread(values):
    mean = f"{100 * statistics.mean(values):.2f}"
    return f"{mean} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else mean
