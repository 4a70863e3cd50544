"""How a comparison of methods is shown: a table for the console, and a Markdown page."""

import statistics
from collections.abc import Sequence

from rich import box
from rich.table import Table

from ltjax.tables import as_markdown, measure, used

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
      rows: from ltjax.comparison.summary.
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
        f"# Methods compared on {rows[0]['data']}",
        _setting(rows[0]["base"]),
        f"Experts: {_experts(rows)}; seeds: {', '.join(map(str, rows[0]['seeds']))}. Test split, "
        "last state, in percent; after ±, the standard deviation over seeds. *expert* is "
        "the mean accuracy of single experts, the other numbers are of their average; *parameters* "
        "and *MACs*, multiply-adds for an image, are of all experts as they predict, without "
        "teachers; *ep.*, the epochs of all phases; *min*, minutes of training.",
        as_markdown(table(rows, narrow=False)),
        *notes(rows),
        *machines(rows),
    ]
    return "\n\n".join(parts) + "\n"


def notes(rows: Sequence[dict]) -> list[str]:
    """What the numbers of a row do not say: its options, and what its method measures."""
    found = []
    for row in rows:
        said = [row["options"]] if row.get("options") else []
        if row.get("adapted"):
            said.append("adapted to the test images without their labels")
        measures = row.get("measures") or [{}]
        if "multiply_adds_used" in measures[0]:  # of each expert, for every seed
            heads = statistics.mean(value for one in measures for value in one["heads_used"])
            spent = statistics.mean(sum(one["multiply_adds_used"]) for one in measures)
            said.append(f"heads used for an image {measure(heads)}")
            said.append(f"multiply-adds used for an image {used(spent, row['multiply_adds'])}")
        if said:
            found.append(f"{row['method']}: {'; '.join(said)}.")
    return found


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


def _setting(config):
    """What methods have in common, in words: nothing that a method may choose."""
    schedule, optimizer = config["schedule"], config["optimizer"]
    steps = ", ".join(f"{key} {value}" for key, value in schedule.items() if key != "name")
    return (
        f"{config['network']['name']}, {config['num_epochs']:g} epochs of {config['batch_size']} "
        f"images an expert and step, augmentation {config['augment']['name']}, schedule "
        f"{schedule['name']} ({steps}), momentum {optimizer['momentum']:g}, weight decay "
        f"{optimizer['weight_decay']:g}."
    )
