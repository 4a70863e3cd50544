"""How a comparison of methods is shown: a table for the console, and a Markdown page."""

import statistics
from collections.abc import Sequence

from rich import box
from rich.table import Table

from ltjax.config.settings import own_choices
from ltjax.report.summary import data_title
from ltjax.report.tables import LEGEND, as_markdown, in_words, measured, setting

COLUMNS = {  # of the average of experts, in percent
    "accuracy": "acc",
    "many": "many",
    "medium": "med",
    "few": "few",
    "ece": "ECE",
}


def table(rows: Sequence[dict], narrow: bool = True) -> Table:
    """Methods in the order of their accuracy; means over seeds, of accuracy their deviation too.

    Args:
      rows: from ltjax.compare.sweep.summary.
      narrow: for a console of 80 columns, so without the number of parameters.
    """
    more = () if narrow else ("parameters",)
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=0)
    out.add_column("method", no_wrap=not narrow, overflow="fold")
    for title in (*COLUMNS.values(), "expert", *more, "MACs", "ep.", "min"):
        out.add_column(title, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: -statistics.mean(row["test"]["accuracy"])):
        out.add_row(
            row["method"],
            _with_spread(row["test"]["accuracy"]),
            *(_percent(row["test"].get(name)) for name in COLUMNS if name != "accuracy"),
            _percent(row["mean_expert"]),
            *(_short(row[name]) for name in (*more, "multiply_adds")),
            f"{row['epochs']:.3g}",
            _minutes(statistics.mean(row["train_seconds"])),
        )
    return out


def page(rows: Sequence[dict]) -> str:
    """The comparison as a Markdown page."""
    parts = [
        f"# Methods compared on {data_title(rows[0]['base'])}",
        _for_all(rows[0]["base"]),
        f"Experts: {_experts(rows)}; seeds: {', '.join(map(str, rows[0]['seeds']))}. Test split, "
        f"last state; after ±, the standard deviation over seeds. {LEGEND} *expert* is "
        "the mean accuracy of single experts, the other numbers are of their average; *parameters* "
        "and *MACs*, multiply-adds for an image, are of all experts as they predict, without "
        "teachers; *ep.*, the epochs of all phases, passes that only gather included; *min*, "
        "minutes of training, compiling and saving on the way included.",
        as_markdown(table(rows, narrow=False)),
        *notes(rows),
        *machines(rows),
    ]
    return "\n\n".join(parts) + "\n"


def notes(rows: Sequence[dict]) -> list[str]:
    """What neither its name nor the numbers of a row say: its options, and what it measures."""
    found = []
    for row in rows:
        known = own_choices(row["base"])
        said = [
            f"{field}={value}"
            for field, value in row["options"].items()
            if known.get(field) != value and f"+{field}=" not in row["method"]
        ]
        if row["adapted"]:
            said.append("adapted to the test images without their labels")
        for name in row["measures"][0]:
            # of all experts, the mean over seeds
            together = sum if name == "multiply_adds_used" else statistics.mean
            value = statistics.mean(together(one[name]) for one in row["measures"])
            said.append(f"{in_words(name)} {measured(name, value, row['multiply_adds'])}")
        if said:
            found.append(f"{row['method']}: {'; '.join(said)}.")
    return found


def _for_all(base):
    """What all methods have in common."""
    own = ", ".join(f"{field}={value}" for field, value in own_choices(base).items())
    return setting(base) + (f" For all: {own}." if own else "")


def _experts(rows):
    """How many each method has, as page says it."""
    given = ["as after the colon"] * any(":" in row["method"] for row in rows)
    return ", or ".join([str(rows[0]["base"]["num_experts"]), *given])


def machines(rows: Sequence[dict]) -> list[str]:
    """On what, and with which versions, rows were made; a line each where they differ."""
    made = {}
    for row in rows:
        versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        made.setdefault(f"{row['device']}; {versions}.", []).append(row["method"])
    if len(made) == 1:
        return list(made)
    return [f"{', '.join(names)}: {machine}" for machine, names in made.items()]


def _short(count):
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count}"


def _minutes(seconds):
    return f"{seconds / 60:.1f}" if seconds < 600 else f"{seconds / 60:,.0f}"


def _percent(values):
    return "none" if values is None else f"{100 * statistics.mean(values):.1f}"


def _with_spread(values):
    mean = f"{100 * statistics.mean(values):.2f}"
    return f"{mean} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else mean
