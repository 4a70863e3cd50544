"""What an analysis finds, as tables: on the console, and as a Markdown page."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.table import Table

from ltjax.errors import plain
from ltjax.report.tables import as_markdown

_NUMBERS = {  # name: (title, factor)
    "accuracy": ("accuracy, %", 100),
    "macro_f1": ("macro F1, %", 100),
    "geometric_mean": ("g-mean of recalls, %", 100),
    "worst_class": ("worst recall, %", 100),
    "nll": ("NLL, nats", 1),
    "brier": ("Brier", 1),
    "ece": ("ECE, %", 100),
    "ece_adaptive": ("ECE, equal bins, %", 100),
    "ece_classwise": ("ECE, classwise, %", 100),
    "mce": ("MCE, %", 100),
    "aurc": ("AURC, %", 100),
}


def tables(found: Mapping[str, Any]) -> Iterable[Table | str]:
    """The tables of one analysis, and a sentence each where there is none."""
    interval = found["interval"]
    one = found["experts"] == 1
    what = "the expert" if one else f"the average {found['combine']} of {found['experts']} experts"
    yield (
        f"Accuracy of {what}: {_percent(interval['estimate'])} %, 95 % interval over "
        f"{found['images']:,} test images {_percent(interval['low'])} to "
        f"{_percent(interval['high'])}."
    )
    columns, fitted = dict(found["numbers"]), found["temperature"]
    if fitted:
        columns[f"at T = {fitted['value']:.3f}"] = fitted["numbers"]
    table = _table(f"test split, {found['bins']} bins of confidence", columns)
    for key, (name, factor) in _NUMBERS.items():
        table.add_row(name, *(_number(numbers[key], factor) for numbers in columns.values()))
    yield table
    if not one:
        yield _by_number(found)
    yield _priors(found["priors"])
    conformal = found["conformal"]
    if conformal:
        groups = ", ".join(
            f"{name} {_percent(share)}"
            for name, share in conformal["coverage"].items()
            if share is not None
        )
        yield (
            f"Conformal sets that should hold the true class on {100 * conformal['level']:g} % of "
            f"images have {conformal['size']:.2f} classes on average and hold it on, in percent: "
            f"{groups}. They and the temperature T, of the average above, were fitted on "
            f"{fitted['images']:,} held-out images, classes weighted as in the test "
            f"split.{_not_held_out(conformal)}"
        )
    else:
        yield (
            "No temperature and no conformal sets: these are fitted on held-out images, and the "
            "run held none out (config.data.validation)."
        )


def markdown(analyses: Mapping[str, Mapping[str, Any]]) -> str:
    """All analyses as a page."""
    parts = []
    for name, found in analyses.items():
        parts.append(f"# {name}")
        for part in tables(found):
            if isinstance(part, Table):
                parts.append(f"## {part.title}")
            parts.append(as_markdown(part) if isinstance(part, Table) else part)
    return plain("\n\n".join(parts) + "\n")


def _not_held_out(conformal):
    count = conformal["classes_not_held_out"]
    if not count:
        return ""
    return f" Of {count} classes nothing was held out: they are in every set, and T ignores them."


def _by_number(found):
    table = _table("accuracy by number of experts", ["subsets", "acc", "groups", "acc of groups"])
    independent = {one["size"]: one for one in found["ensembles"]}
    for one in found["by_number"]:
        own = independent.get(one["number"])
        table.add_row(
            str(one["number"]),
            str(one["subsets"]),
            _with(one["mean"], one["deviation"]),
            str(own["number"]) if own else "",
            _with(own["mean"], own["deviation"]) if own else "",
        )
    return table


def _priors(found):
    """Rows are test sets, columns how predictions are made for them."""
    if not found:
        return "No other class frequencies: some class has no test image."
    columns = list(next(iter(found.values())))
    table = _table("accuracy on test sets of other class frequencies", columns)
    for name, row in found.items():
        table.add_row(name, *(_percent(row[column]) for column in columns))
    return table


def _table(title, columns):
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", min_width=max(map(len, column.split())))
    return table


def _number(value, factor):
    return f"{factor * value:.2f}" if factor == 100 else f"{value:.3f}"


def _with(mean, deviation):
    return _percent(mean) + (f" ± {_percent(deviation)}" if deviation is not None else "")


def _percent(share):
    return f"{100 * share:.2f}"
