"""Exceptions that mean "the user can mend this"; `ltjax.main` prints them as one line."""

from collections.abc import Container, Mapping
from typing import Any


class UserError(ValueError):
    """A value from outside that cannot be used: the message names it, what would work, and where.

    Everything else that is raised is a bug of ours and keeps its traceback.
    """


class FieldError(UserError):
    """A value of a config that cannot be used.

    All such messages have one grammar: "config.FIELD is VALUE; it must be WHAT." or "config.FIELD
    is VALUE, but WHY.", and where a value is known that works, "; use --config.FIELD=OTHER" before
    the end.
    """

    def __init__(self, field: str, value: Any, why: str, use: Any = None):
        """Make an error; its text is made when it is read.

        Args:
          field: below config, as "network.head". A row of a table gives its own options by their
            names alone: the binder (ltjax.config.choices) knows the group that they are in.
          value: what the config says.
          why: "it must be ...", or what speaks against the value.
          use: a value that works; or {field: value}, of which each alone would do.
        """
        super().__init__(field, value, why, use)
        self.field, self.value, self.why = field, value, why
        self.use = use if isinstance(use, Mapping) else {} if use is None else {field: use}

    def place(self, group: str, options: Container[str]) -> None:
        """Fields of these names are in a group of the config."""

        def whole(field):
            return f"{group}.{field}" if field in options else field

        self.field = whole(self.field)
        self.use = {whole(field): value for field, value in self.use.items()}

    def __str__(self) -> str:
        between = "; " if self.why.startswith("it must ") else ", but "
        others = [f"--config.{field}={value}" for field, value in self.use.items()]
        use = f"; use {' or '.join(others)}" if others else ""
        return f"config.{self.field} is {shown(self.value)}{between}{self.why}{use}."


class Missing:
    """In place of a value that a config must give and does not."""

    def __repr__(self) -> str:
        return "missing"


def shown(value: Any) -> str:
    """A value as a message repeats it: its repr in one line, cut to some 60 characters."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # too many digits, or too deep, for Python to write
        return f"a very large {type(value).__name__}"


def shortened(text: str) -> str:
    """Text in one line, the middle left out where it has more than 60 characters."""
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:38]}...{text[-19:]}"
