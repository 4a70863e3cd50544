"""Tables on narrow consoles: columns that do not fit go on below, so that numbers stay whole."""

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions
from rich.table import Column, Table

BETWEEN = 2  # characters from a column to the next


class Continued:
    """A table that is cut between its columns where a console is too narrow for all of them.

    Each part begins with the first column, the names of the rows. Headers are cut between words;
    cells are not cut, unless the console is narrower than a single one.
    """

    def __init__(self, table: Table):
        """A table of plain strings, its first column the names of its rows."""
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """The table, or its parts one below the other."""
        parts = _parts(self.table.columns, options.max_width)
        if len(parts) == 1:
            yield self.table
            return
        for number, columns in enumerate(parts):
            room = options.max_width - sum(BETWEEN + _needs(column) for column in columns)
            yield _part(self.table, columns, room, title=None if number else self.table.title)


def _parts(columns: list[Column], width: int) -> list[list[Column]]:
    """As few groups of columns as fit beside the first one."""
    names, *others = columns
    left = width - _needs(names)
    groups, used = [[]], 0
    for column in others:
        more = BETWEEN + _needs(column)
        if groups[-1] and used + more > left:
            groups.append([])
            used = 0
        groups[-1].append(column)
        used += more
    return groups


def _needs(column: Column) -> int:
    """Characters of its longest cell, or of the longest word of its header."""
    cells = [len(line) for cell in column.cells for line in str(cell).splitlines()]
    return max([*cells, *map(len, str(column.header).split())], default=0)


def _part(table: Table, columns: list[Column], room: int, title) -> Table:
    """Some columns beside the first one, for which there is so much room."""
    names = table.columns[0]
    part = Table(
        title=title,
        title_justify=table.title_justify,
        title_style=table.title_style,
        box=table.box,
        padding=table.padding,
        pad_edge=table.pad_edge,
        show_edge=table.show_edge,
    )
    for column in (names, *columns):
        least = _needs(column) if column is not names else max(1, min(_needs(names), room))
        part.add_column(column.header, justify=column.justify, overflow="fold", width=least)
    cells = [list(column.cells) for column in (names, *columns)]
    for row, values in zip(table.rows, zip(*cells, strict=True), strict=True):
        part.add_row(*values, style=row.style)
    return part
