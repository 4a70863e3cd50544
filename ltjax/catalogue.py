"""All choices by name: every row of every table, in a line with its source."""

import inspect
import re
from collections.abc import Iterator
from typing import NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ltjax.config.choices import START, options_of
from ltjax.config.requires import requirements
from ltjax.data.datasets import DATASETS
from ltjax.limits import declared
from ltjax.recipes import DEFERRABLE, TABLES

NARROW = 70  # columns below which a name and its text do not stand side by side
SOURCE = re.compile(r"[A-Z][\w-]+ (?:et al\.|and [A-Z][\w-]+)[^:;]*?\b(?:19|20)\d\d")


def rows() -> Iterator[tuple[str, str, str]]:
    """(config field, name, what it is and where it comes from), for every choice by name."""
    for field, table in TABLES.items():
        described = set()
        for name, row in table.items():
            if field == "method":
                text, row = f"{row.about} {row.source}.", row.recipe
            else:
                text = about(row)
            if row not in described:  # several names may share a row: its options are listed once
                # the first row applies before `start`
                late = field in DEFERRABLE and described
                text += required(row) + options(row, with_start=bool(late))
            described.add(row)
            yield field, name, text
    for name, dataset in DATASETS.items():
        yield "data", name, dataset.about


def about(row) -> str:
    """The first sentence of a row's docstring, and the first paper that it names."""
    summary, *more = inspect.getdoc(row).split("\n")
    source = SOURCE.search(" ".join([summary, *more]))
    return f"{summary} {source.group()}." if source and source.group() not in summary else summary


def required(row) -> str:
    """What a row requires of other fields, as the end of a line."""
    texts = [requirement.text for requirement in requirements(row)]
    return f" Requires {', '.join(texts)}." if texts else ""


def options(row, with_start: bool = False) -> str:
    """The options of a row with their defaults and limits, as the end of a line.

    Args:
      row: of a table.
      with_start: whether it may start late.
    """
    known = [_option(name, p.default, p.annotation) for name, p in options_of(row).items()]
    known += [_option("start", 0.0, START)] * with_start
    return f" Options: {', '.join(known)}." if known else ""


def tables() -> Iterator["Choices"]:
    """One table a field, for the console."""
    found = list(rows())
    for field in dict.fromkeys(field for field, _, _ in found):
        yield Choices(field, [(name, text) for of, name, text in found if of == field])


class Choices(NamedTuple):
    """The rows of a field: a table, or on a narrow console each name above its text."""

    field: str
    rows: list[tuple[str, str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As wide as the console is."""
        title = f"config.{self.field}.name"
        if options.max_width < NARROW:
            yield Text(title, style="bold")
            for name, text in self.rows:
                yield Text(name)
                yield Padding(Text(text), (0, 0, 0, 2))
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
        table.add_column(title, no_wrap=True, min_width=28)
        table.add_column("what it is, and its source")
        for name, text in self.rows:
            table.add_row(name, Text(text))
        yield table


def _option(name, default, annotation):
    """Such as "gamma=2.0 (at least 0)"."""
    value = "" if default is inspect.Parameter.empty else f"={_shown(default)}"
    limits = declared(annotation).text
    return f"{name}{value}{limits and f' ({limits})'}"


def _shown(value):
    """A default as one would write it, a third as 0.3333."""
    return repr(float(f"{value:.4g}") if isinstance(value, float) else value)
