"""The binder: picks a row of a table by name and binds its options; both are checked.

A config says `sampler = dict(name="power", q=0.5)`; the table is a plain dict of functions whose
keyword-only arguments are the options, declared with types, limits and defaults (`ltjax.limits`).
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from ltjax.config import requires
from ltjax.errors import FieldError, Missing, UserError, shortened
from ltjax.limits import among, at_least, below, conform, declared, guess

START = Annotated[float, at_least(0), below(1)]  # a fraction of the phase


def choose(table: Mapping[str, Callable], field: str, /, name: str, **options: Any) -> Callable:
    """The function called `name` in `table`, with its options bound.

    A FieldError that the function raises gets the whole path of its field. A function whose first
    argument is `settings` is only called with settings that it accepts (`ltjax.config.requires`).

    Args:
      table: name -> function.
      field: the config field that holds the choice, for messages: "sampler", "network", ...
      name: a key of the table.
      **options: values for the function's keyword-only arguments; None means not given.

    Raises:
      UserError: if the name or an option is unknown; if an option is missing, has the wrong type,
        is outside its limits, or has no effect because another one is off.
    """
    function, bound, known = _bound(table, field, name, options)
    takes_settings = next(iter(inspect.signature(function).parameters), None) == "settings"

    @functools.wraps(function)
    def make(*args, **kwargs):
        try:
            if takes_settings:
                requires.check(function, args[0])
            return function(*args, **bound, **kwargs)
        except FieldError as error:
            error.place(field, known)
            raise

    return make


def choose_with_start(
    table: Mapping[str, Callable], field: str, /, name: str, start: Any = None, **options: Any
) -> tuple[float, Callable]:
    """As `choose`, for a choice that may start at a fraction `start` of its phase, by default 0.

    Before that, the first row of the table applies, with its default options.

    Returns:
      start, in [0, 1), and the function.

    Raises:
      UserError: as `choose`; if start is not in [0, 1); if start has no effect.
    """
    start = 0.0 if start is None else conform(start, START, f"{field}.start")
    _, bound, known = _bound(table, field, name, options, also=("start",))
    is_first = name == next(iter(table))
    if start and is_first and all(value == known[key].default for key, value in bound.items()):
        why = f"{name!r} is also used before it, so it has no effect; leave it out"
        raise FieldError(f"{field}.start", start, why)
    return start, choose(table, field, name, **options)


def pick(table: Mapping[str, Any], name: str, field: str) -> Any:
    """`table[name]`.

    Raises:
      FieldError: if there is no such row; it names `field` and the known rows.
    """
    if name not in table:
        raise FieldError(field, name, f"it must be {among(name, sorted(table))}")
    return table[name]


def options_of(row: Callable) -> dict[str, inspect.Parameter]:
    """The options of a row: its keyword-only arguments."""
    parameters = inspect.signature(row).parameters.items()
    return {name: p for name, p in parameters if p.kind is p.KEYWORD_ONLY}


def _bound(table, field, name, options, also=()):
    """(the row, its given options, checked, all options that it has); `also` names others."""
    function = pick(table, name, f"{field}.name")
    known, bound = options_of(function), {}
    for key, value in options.items():
        if value is None:
            continue
        if key not in known:
            takes = [*known, *also]
            words = f"takes {', '.join(takes)}" if takes else "takes no options"
            where = f"config.{field}.{shortened(str(key))}"
            raise UserError(f"Unknown config field {where}{guess(key, takes)}: {name!r} {words}.")
        bound[key] = conform(value, known[key].annotation, f"{field}.{key}")
    for key, parameter in known.items():
        if key not in bound and parameter.default is inspect.Parameter.empty:
            text = declared(parameter.annotation).text
            why = f"it must be set with {name!r}{text and f': {text}'}"
            raise FieldError(f"{field}.{key}", Missing(), why)
    _refuse_what_does_nothing(field, bound, known)
    return function, bound, known


def _refuse_what_does_nothing(field, bound, known):
    for key, value in bound.items():
        for note in declared(known[key].annotation).only_with:
            other = bound.get(note.option, known[note.option].default)
            if not other:
                off = f"it has no effect while {note.option} is {other!r}; leave it out"
                raise FieldError(f"{field}.{key}", value, off)
