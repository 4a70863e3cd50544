"""Named choices: a row of a table, picked by name and given its options, both checked at once.

A config says `sampler = dict(name="power", q=0.5)`; the table is a plain dict of functions whose
keyword-only arguments are the options, with their types and defaults.
"""

import difflib
import functools
import inspect
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from ltjax.errors import UserError


def choose(table: Mapping[str, Callable], field: str, /, name: str, **options: Any) -> Callable:
    """The function called `name` in `table`, with its options bound.

    Args:
      table: name -> function.
      field: the config field that holds the choice, for messages: "sampler", "network", ...
      name: a key of the table.
      **options: values for the function's keyword-only arguments; ints may stand for floats, and
        None is as good as not given.

    Raises:
      UserError: if the name or an option is unknown, missing, or has the wrong type.
    """
    return _bound(table, field, name, options)


def _bound(table, field, name, options, also=()):
    """`choose`; `also` are options that the caller takes."""
    function = pick(table, name, f"config.{field}.name")
    known = {
        key: parameter
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    bound = {}
    for key, value in options.items():
        if value is None:
            continue
        if key not in known:
            takes = [*known, *also]
            close = difflib.get_close_matches(key, takes, n=1)
            takes = f"takes {', '.join(takes)}" if takes else "takes no options"
            guess = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(f"Unknown config field config.{field}.{key}{guess}: {name!r} {takes}.")
        bound[key] = typed(value, known[key].annotation, f"config.{field}.{key}")
    for key, parameter in known.items():
        if key not in bound and parameter.default is inspect.Parameter.empty:
            raise UserError(f"config.{field}.{key} is missing: {name!r} needs it.")
    return functools.partial(function, **bound)


def choose_with_start(
    table: Mapping[str, Callable], field: str, /, name: str, start: Any = 0.0, **options: Any
) -> tuple[float, Callable]:
    """As `choose`, of a choice that may set in at a fraction `start` of its phase.

    Returns:
      start, in [0, 1), and the function.

    Raises:
      UserError: as `choose`, and if start is no such fraction.
    """
    start = typed(start, float, f"config.{field}.start")
    within(f"config.{field}.start", start, at_least=0, below=1)
    return start, _bound(table, field, name, options, also=("start",))


def pick(table: Mapping[str, Any], name: str, field: str) -> Any:
    """`table[name]`.

    Raises:
      UserError: if there is no such row, naming `field` and what is known.
    """
    if name not in table:
        raise UserError(f"{field} is {name!r}, which is not known{unknown_of(name, table)}.")
    return table[name]


def typed(value: Any, kind: type, field: str) -> Any:
    """`value` as a `kind`; an int may stand for a float, a list for a tuple.

    Raises:
      UserError: naming `field`, the value and the type it needs.
    """
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is tuple and isinstance(value, list):
        value = tuple(value)
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if not fits:
        raise UserError(f"{field} is {value!r}; it must be {_TYPE_NAMES[kind]}.")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{field} is {value!r}; it must be a finite number.")
    return value


def within(
    field: str,
    value: Any,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    one_of: tuple = (),
) -> None:
    """Refuse a value outside its limits.

    Args:
      field: where it is in the config, such as "config.loss.gamma".
      value: a number, or one of `one_of`.
      at_least, above, at_most, below: limits, each or none of them.
      one_of: all values there are.

    Raises:
      UserError: naming the field, the value and what would work.
    """
    if one_of and value not in one_of:
        raise UserError(f"{field} is {value!r}; choose one of {', '.join(one_of)}.")
    for limit, keeps, words in (
        (at_least, operator.ge, "at least"),
        (above, operator.gt, "above"),
        (at_most, operator.le, "at most"),
        (below, operator.lt, "below"),
    ):
        if limit is not None and not keeps(value, limit):
            raise UserError(f"{field} is {value}; it must be {words} {limit}.")


def only_with(field: str, value: Any, given: Mapping[str, Any], *options: str) -> None:
    """Refuse options that do nothing while `field` is off.

    Args:
      field: such as "config.method.distill".
      value: of it.
      given: the group that it is in, as the config says it.
      options: names in that group.

    Raises:
      UserError: naming the first such option.
    """
    for option in options if not value else ():
        if option in given:
            group = field.rpartition(".")[0]
            raise UserError(
                f"{group}.{option} is {given[option]!r}, but {field} is {value!r}, without which "
                f"it does nothing; leave it out."
            )


def unknown_of(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """The end of an 'unknown name' message: a guess at what was meant, then all that is known."""
    close = difflib.get_close_matches(str(name).lower(), known, n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{guess}; known: {', '.join(sorted(known))}"


_TYPE_NAMES = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a string",
    tuple: "a tuple",
    dict: "a group of fields",
}
