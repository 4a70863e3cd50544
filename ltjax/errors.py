"""Exceptions for mistakes that the user can correct; `ltjax.main` prints them as one line."""

import reprlib
from collections.abc import Container, Mapping
from typing import Any

_SHORT = reprlib.Repr()  # a list may hold millions of values, or itself
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 20
_SHORT.maxlevel = 3


class UserError(ValueError):
    """A value from outside that cannot be used; the message names it and what would work.

    Any other exception is a bug and keeps its traceback.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class FieldError(UserError):
    """A value of a config that cannot be used.

    All such messages have one grammar: "config.FIELD is VALUE; it must be WHAT.", "config.FIELD
    is VALUE, but WHY." or "config.FIELD needs WHAT."; if a value is known to work, "; use
    --config.FIELD=OTHER" precedes the full stop.
    """

    def __init__(self, field: str, value: Any, why: str, use: Any = None):
        """Make an error; its text is put together when it is read.

        Args:
          field: its path below config, such as "network.head". A row of a table names its own
            options without the group, which the binder (ltjax.config.choices) adds.
          value: what the config says.
          why: "it must be ...", "needs ...", or the reason against the value.
          use: a value that works; or {field: value}, where each entry alone works.
        """
        super().__init__(field, value, why, use)
        self.field, self.value, self.why = field, value, why
        self.use = use if isinstance(use, Mapping) else {} if use is None else {field: use}

    def place(self, group: str, options: Container[str]) -> None:
        """Put the options named without their group into `group`."""

        def whole(field):
            return f"{group}.{field}" if field in options else field

        self.field = whole(self.field)
        self.use = {whole(field): value for field, value in self.use.items()}

    def __str__(self) -> str:
        between = "; " if self.why.startswith("it must ") else ", but "
        given = f"is {shown(self.value)}{between}"
        given = "" if self.why.startswith("needs ") else given
        others = [f"--config.{field}={value}" for field, value in self.use.items()]
        use = f"; use {' or '.join(others)}" if others else ""
        return f"config.{self.field} {given}{self.why}{use}."


class Missing:
    """Stands for a required value that a config does not give."""

    def __repr__(self) -> str:
        return "missing"


def plain(text: str) -> str:
    """Text from elsewhere as it can be shown: what a terminal obeys is written as an escape."""
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


def shown(value: Any) -> str:
    """The repr of a value for a message, in one line of at most 60 characters."""
    kind, holds_others = (
        shortened(type(value).__name__),
        isinstance(value, list | tuple | set | dict),
    )
    try:
        return shortened(_SHORT.repr(value) if holds_others else repr(value))
    except (ValueError, RecursionError):  # too many digits, or too deep, for Python to write
        return f"a very large {kind}"
    except Exception:  # the value's own code, which may raise anything
        return f"a value of type {kind}"


def shortened(text: str) -> str:
    """Text in one line; beyond 60 characters its middle is left out."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= 60 else f"{text[:38]}...{text[-19:]}"


def printable(text: str) -> str:
    """Text with an escape, such as \\n, for each character that would not be shown as itself."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
