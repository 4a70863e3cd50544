"""What there is to choose from: every row of every table, in a line with its source."""

import inspect
import re
from collections.abc import Iterator

from rich import box
from rich.table import Table

from ltjax.data.datasets import DATASETS
from ltjax.presets import PRESETS
from ltjax.recipes import DEFERRABLE, TABLES

SOURCE = re.compile(r"[A-Z][\w-]+ (?:et al\.|and [A-Z][\w-]+)[^:;]*?\b(?:19|20)\d\d")


def rows() -> Iterator[tuple[str, str, str]]:
    """(config field, name, what it is and where it comes from), for every choice by name."""
    for field, table in TABLES.items():
        described = set()
        for name, row in table.items():
            is_preset = field == "method" and name in PRESETS
            text = PRESETS[name].about if is_preset else about(row)
            if row not in described:  # several names may stand for one row: options are said once
                text += options(row, ("start=0.0",) if field in DEFERRABLE else ())
            described.add(row)
            yield field, name, text
    for name, dataset in DATASETS.items():
        yield "data", name, dataset.about


def about(row) -> str:
    """The first sentence of a row's docstring, and the first paper that it names."""
    summary, *more = inspect.getdoc(row).split("\n")
    source = SOURCE.search(" ".join([summary, *more]))
    return f"{summary} {source.group()}." if source and source.group() not in summary else summary


def options(row, more: tuple[str, ...] = ()) -> str:
    """The options of a row with their defaults, and more of them, as the end of a line."""
    known = [
        f"{name}{'' if p.default is p.empty else f'={_shown(p.default)}'}"
        for name, p in inspect.signature(row).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    ]
    known += more
    return f" Options: {', '.join(known)}." if known else ""


def tables() -> Iterator[Table]:
    """One table a field, for the console."""
    found = list(rows())
    for field in dict.fromkeys(field for field, _, _ in found):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
        table.add_column(f"config.{field}.name", no_wrap=True, min_width=28)
        table.add_column("what it is, and its source")
        for of, name, text in found:
            if of == field:
                table.add_row(name, text)
        yield table


def _shown(value):
    """A default as one would write it, a third as 0.3333."""
    return repr(float(f"{value:.4g}") if isinstance(value, float) else value)
