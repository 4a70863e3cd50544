"""What a row of a table requires of the rest of a config, declared on the row.

    @requires_head("cosine", because="its margins are in cosines")
    def ldam(class_counts, ...): ...

`check` is called where a row and the settings meet: by `ltjax.config.choices` for rows that take
settings, by `ltjax.build` for losses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ltjax.errors import FieldError


class Requirement(NamedTuple):
    """One thing that a row requires."""

    text: str  # for `--list`
    check: Callable[[Any], None]  # settings -> None, or it raises a FieldError


def requires_head(head: str, because: str) -> Callable[[Callable], Callable]:
    """A row that works with one kind of head only; `because` continues a sentence after "but"."""

    def check(settings):
        found = head_of(settings)
        if found != head:
            raise FieldError("network.head", found, because, use=head)

    return _requiring(Requirement(f"network.head={head}", check))


def requires_defaults(*groups: str, because: str) -> Callable[[Callable], Callable]:
    """A method that cannot use a choice in some groups; see `refuse_choices`."""
    return _requiring(
        Requirement(
            f"default {', '.join(groups)}",
            lambda settings: refuse_choices(settings, *groups, because=because),
        )
    )


def refuse_choices(settings: Any, *groups: str, because: str) -> None:
    """Refuse a config with a choice in a group that the method cannot use.

    Args:
      settings: to look at.
      groups: such as "loss", "reweight", "mixing"; they must have their defaults.
      because: continues a sentence after the method's name.

    Raises:
      FieldError: naming the first such choice.
    """
    name = settings.method["name"]
    for group in groups:
        default = getattr(type(settings)(), group)
        for key, value in getattr(settings, group).items():
            if value is not None and default.get(key) != value:
                why = f"method {name!r} {because}; leave it out"
                raise FieldError(f"{group}.{key}", value, why)


def head_of(settings: Any) -> str:
    """The head of the config's network; linear if none is named."""
    return settings.network.get("head") or "linear"


def requirements(row: Callable) -> tuple[Requirement, ...]:
    """What a row requires."""
    return getattr(row, "requires", ())


def check(row: Callable, settings: Any) -> None:
    """Refuse settings that do not meet the requirements of a row.

    Raises:
      FieldError: naming the field.
    """
    for requirement in requirements(row):
        requirement.check(settings)


def _requiring(requirement):
    def declare(row):
        row.requires = (requirement, *requirements(row))
        return row

    return declare
