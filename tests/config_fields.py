"""All fields of a config and all options of rows of tables, for tests that try each of them."""

import functools
import typing

import toy

from ltjax.config.choices import START, options_of
from ltjax.config.settings import Settings, all_fields
from ltjax.errors import FieldError
from ltjax.limits import declared
from ltjax.recipes import DEFERRABLE, TABLES, functions_of, recipe_of, settings_of


class Field(typing.NamedTuple):
    """A place in a config."""

    path: str
    row: str | None  # that it is an option of
    annotation: typing.Any


def base():
    """A config of the toy tail."""
    return {"network": {"name": "tiny"}, "batch_size": 16, "num_epochs": 8.0, "num_experts": 2}


def annotation_of(path):
    kind, hints = Settings, None
    for name in path.split("."):
        hints = typing.get_type_hints(kind, include_extras=True)
        kind = hints[name]
    return kind


FIELDS = [
    Field(path, None, str if path.split(".")[0] in TABLES else annotation_of(path))
    for path, _ in all_fields()
    if path != "schedule.lr"  # an option of its row
]
GROUPS = [Field(group, None, dict) for group in (*TABLES, "data", "optimizer", "compute")]
OPTIONS = [
    Field(f"{group}.{name}", row, parameter.annotation)
    for group in TABLES
    for row, function in functions_of(group).items()
    for name, parameter in options_of(function).items()
]
OPTIONS += [
    Field(f"{group}.start", row, START)
    for group in DEFERRABLE
    for row, function in functions_of(group).items()
    if "start" not in options_of(function)
]


def function_of(field):
    """The function that a field is an option of; several rows may share it."""
    return field.row and functions_of(field.path.split(".")[0])[field.row]


def config_with(path, row, value):
    """A config in which one field is set, and what the row that it is an option of requires."""
    group = path.split(".")[0]
    config = base()
    if row:
        put(config, f"{group}.name", row)
        for field, other in mends(group, row).items():
            put(config, field, other)
    put(config, path, value)
    return config


def put(config, path, value):
    group, _, name = path.partition(".")
    if not name:
        config[group] = value
    else:
        config.setdefault(group, {})[name] = value


@functools.cache
def mends(group, row):
    """{field: value} that a row asks for: what its errors say that one may use."""
    found = {"schedule.lr": 0.1} if group == "schedule" else {}
    while True:
        config = base()
        put(config, f"{group}.name", row)
        for field, value in found.items():
            put(config, field, value)
        try:
            recipe_of(settings_of(config), toy.info())
            return found
        except FieldError as error:
            if "is missing" in str(error):
                annotation = options_of(functions_of(group)[row])[error.field.split(".")[1]]
                found[error.field] = {int: 1, float: 0.5}[declared(annotation.annotation).kind]
                continue
            assert error.use and not error.use.keys() & found.keys(), (row, str(error))
            found |= dict([next(iter(error.use.items()))])
