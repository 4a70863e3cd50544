"""Limits of options, declared with each option, and the one check of types and limits.

    gamma: Annotated[float, at_least(0)] = 2.0
    box: Annotated[str, one_of("as_code", "full")] = "as_code"
    passes: Annotated[int, at_least(1), at_most(1000), only_with("aggregate")] = 5

Rows of tables and the fields of `ltjax.config.settings` are declared in this way; `conform` checks
a value against its declaration, and `ltjax.catalogue` shows its `text`. An option that sizes
arrays, loops or programs has an upper limit, far above useful values and below a hang.
"""

import dataclasses
import difflib
import math
import operator
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ltjax.errors import FieldError

MOST_VALUES = 1000  # of a list in a config; no option has as many


@dataclasses.dataclass(frozen=True)
class Limit:
    """A condition on a value."""

    text: str  # such as "at least 0"
    check: Callable[[Any], bool]  # whether a value meets it


@dataclasses.dataclass(frozen=True)
class OneOf:
    """A choice among some values."""

    values: tuple

    @property
    def text(self) -> str:
        """Such as "as_code | full"."""
        return " | ".join(map(str, self.values))

    def check(self, value: Any) -> bool:
        """Whether a value is one of these."""
        return value in self.values


@dataclasses.dataclass(frozen=True)
class OnlyWith:
    """An option without effect while another one of its row is off: False, 0 or None."""

    option: str

    @property
    def text(self) -> str:
        """Such as "with distill"."""
        return f"with {self.option}"


def at_least(limit: float) -> Limit:
    """A number of `limit` or more."""
    return _compared("at least", operator.ge, limit)


def above(limit: float) -> Limit:
    """A number larger than `limit`."""
    return _compared("above", operator.gt, limit)


def at_most(limit: float) -> Limit:
    """A number of `limit` or less."""
    return _compared("at most", operator.le, limit)


def below(limit: float) -> Limit:
    """A number less than `limit`."""
    return _compared("below", operator.lt, limit)


def one_of(*values: Any) -> OneOf:
    """One of these values."""
    return OneOf(values)


def at_most_values(limit: int) -> Limit:
    """A tuple of no more than `limit` values."""
    return Limit(f"at most {limit} values", lambda value: len(value) <= limit)


def only_with(option: str) -> OnlyWith:
    """An option that may be given only while another one of its row is on."""
    return OnlyWith(option)


class Declared(typing.NamedTuple):
    """What an annotation declares."""

    kind: type
    limits: tuple[Limit | OneOf, ...] = ()
    only_with: tuple[OnlyWith, ...] = ()
    optional: bool = False  # whether None is allowed

    @property
    def text(self) -> str:
        """Its limits, such as "at least 0, below 1"; empty if there are none."""
        return ", ".join(note.text for note in (*self.limits, *self.only_with))


def declared(annotation: Any) -> Declared:
    """Take an annotation apart: a type, `type | None` or `Annotated[type, limits]`."""
    notes = getattr(annotation, "__metadata__", ())
    kind = typing.get_args(annotation)[0] if notes else annotation
    optional = isinstance(kind, types.UnionType)
    if optional:
        kind, _ = typing.get_args(kind)
    limits = tuple(note for note in notes if isinstance(note, Limit | OneOf))
    others = tuple(note for note in notes if isinstance(note, OnlyWith))
    return Declared(kind, limits, others, optional)


def conform(value: Any, annotation: Any, field: str) -> Any:
    """A value of its declared type: an int is accepted for a float, a list for a tuple.

    NumPy's numbers are accepted like Python's. True and False are not accepted as numbers.

    Args:
      value: what the config says.
      annotation: see `declared`.
      field: for messages; as FieldError has it.

    Raises:
      FieldError: if the value has another type, or is outside its limits.
    """
    kind, limits, _, optional = declared(annotation)
    given = value.item() if isinstance(value, np.generic) else value
    value = plain(value, field)
    if value is None and optional:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = _float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise FieldError(field, given, f"it must be {_wanted(given, _KINDS[kind], limits)}")
    if kind is float and not math.isfinite(value):
        raise FieldError(field, given, f"it must be {_wanted(given, 'a finite number', limits)}")
    if not all(limit.check(value) for limit in limits):
        raise FieldError(field, given, f"it must be {_wanted(given, '', limits)}")
    return value


def plain(value: Any, field: str) -> Any:
    """A value without NumPy's scalars, and with tuples for lists.

    Raises:
      FieldError: if it holds more than any option does, or is nested too deeply for Python.
    """
    if _holds_too_many(value):
        raise FieldError(field, value, f"it must hold at most {MOST_VALUES:,} values")
    try:
        return _plain(value)
    except RecursionError:
        raise FieldError(field, value, "it must not be nested so deeply") from None


def among(name: Any, known: Iterable[str]) -> str:
    """ "one of a, b (did you mean 'a'?)": the known names, and the closest one.

    If they are many, as the methods are, --list shows them instead.
    """
    known = list(known)
    names = ", ".join(known) if len(known) <= 20 else f"the {len(known)} that --list shows"
    return f"one of {names}{guess(name, known)}"


def guess(name: Any, known: Iterable[str]) -> str:
    """ " (did you mean 'a'?)", if a known name is close."""
    text = name[:100].lower() if isinstance(name, str) else ""
    close = difflib.get_close_matches(text, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _holds_too_many(value):
    """Whether the lists of a value, one inside another, hold more than MOST_VALUES in all."""
    found, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, list | tuple):
            found += len(one)
            if found > MOST_VALUES:
                return True
            left += one
    return False


def _compared(words, keeps, limit):
    number = f"{limit:,}" if isinstance(limit, int) else f"{limit}"
    return Limit(f"{words} {number}", lambda value: keeps(value, limit))


def _wanted(value, kind, limits):
    choices = [among(value, limit.values) for limit in limits if isinstance(limit, OneOf)]
    return choices[0] if choices else ", ".join(filter(None, [kind, *(x.text for x in limits)]))


def _float(value):
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


_KINDS = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a string",
    tuple: "a tuple",
    dict: "a group of fields",
}
