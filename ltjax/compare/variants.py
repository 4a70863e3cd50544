"""A variant: a method, options of its own and its number of experts, as one name.

"ride", "ride+method.routing=False", "classifier:3", "focal+loss.gamma=1.0+sampler.name=power:3".
Whether such a method exists is checked later; nothing here needs JAX.
"""

import ast
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ltjax.config.settings import METHOD_GROUPS
from ltjax.errors import UserError, shown


class Variant(NamedTuple):
    """What a name says."""

    method: str
    options: dict[str, dict[str, Any]]  # {group of the config: {field: value}}
    num_experts: int | None  # None is the config's


def parse(name: str) -> Variant:
    """Take a name apart.

    Raises:
      UserError: for a name of another form, or a group in which variants cannot differ. The method
        and its options are checked when a run is made from them.
    """
    if "/" in name or len(name.encode(errors="replace")) > 200 or not name.isprintable():
        raise UserError(
            f"--compare is {shown(name)}, but it names a folder: it must have at most 200 "
            f"characters, all of them printable, and no slash."
        )
    text, colon, number = name.partition(":")
    method, *changes = re.split(r"\+(?=[A-Za-z_])", text)  # not at that of 1e+3
    if colon and not 1 <= (int(number) if number.isdecimal() else 0) <= 1000:
        raise UserError(
            f"--compare is {name!r}; a number of experts, 1 to 1,000, must follow the colon, as in "
            f"{method}:3."
        )
    if re.search(r"-x\d+$", text):  # the folder's name would be that of another number of experts
        raise UserError(
            f"--compare is {name!r}, but this ending is that of a folder of several experts; "
            f"write {method}:3 for that."
        )
    options: dict[str, dict[str, Any]] = {}
    for change in changes:
        path, equals, value = change.partition("=")
        group, dot, field = path.partition(".")
        if not (equals and dot and field and value):
            raise UserError(
                f"--compare is {name!r}; each + must be followed by a field and its value, as in "
                f"focal+loss.gamma=1.0, not by {change!r}."
            )
        if group not in METHOD_GROUPS or path == "method.name":
            raise UserError(
                f"--compare is {name!r}; each + must be followed by an option of "
                f"{', '.join(METHOD_GROUPS)}, not by {path}. Set other fields for all "
                f"methods, as --config.num_epochs=10."
            )
        if field in options.setdefault(group, {}):
            raise UserError(f"--compare is {name!r}, which sets {path} twice. Remove one.")
        options[group][field] = _value(value)
    return Variant(method, options, int(number) if colon else None)


def entered(config: Any, name: str, seed: int) -> dict[str, Any]:
    """A config as plain dicts, with what the name of a variant says, and another seed."""
    method, options, num_experts = parse(name)
    config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    changes = options | {"method": {"name": method, **options.get("method", {})}}
    for group, fields in changes.items():
        given = config.get(group) or {}
        # anything but a group of fields is refused later
        config[group] = {**given, **fields} if isinstance(given, Mapping) else given
    return config | {"seed": seed} | ({"num_experts": num_experts} if num_experts else {})


def folder_name(variant: str, seed: int) -> str:
    """The folder of a run in that of its comparison: of "classifier:3", 0: "classifier-x3-0"."""
    return f"{variant.replace(':', '-x')}-{seed}"


def of_folder(name: str) -> tuple[str, int] | None:
    """The variant and seed whose `folder_name` this is, or None; no other variant has the same."""
    found = re.fullmatch(r"(.+?)(?:-x(\d+))?-(\d+)", name)
    if not found:
        return None
    text, number, seed = found.groups()
    made = (text if number is None else f"{text}:{number}", int(seed))
    return made if folder_name(*made) == name else None


def _value(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text  # a name
