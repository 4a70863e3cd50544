"""Any value of any field and any option of any row: accepted, or refused in one line."""

import dataclasses
import re
import typing

import numpy as np
import pytest
import toy
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltjax.config.choices import options_of
from ltjax.config.settings import Settings
from ltjax.errors import UserError
from ltjax.limits import Limit, OneOf, declared
from ltjax.recipes import TABLES, functions_of, recipe_of, settings_of

GROUPS = [field.name for field in dataclasses.fields(Settings) if field.name in TABLES]
BASE = {
    "network": {"name": "tiny"},
    "schedule": {"name": "step", "lr": 0.05},
    "num_experts": 2,
    "batch_size": 16,
    "num_epochs": 8.0,
}


def typed_fields(kind=Settings, path=()):
    """(path, annotation) of every field that is not a choice by name."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from typed_fields(hints[field.name], (*path, field.name))
        elif field.name not in TABLES:
            yield (*path, field.name), hints[field.name]


FIELDS = list(typed_fields())
OPTIONS = [
    (group, name, option, parameter.annotation)
    for group in GROUPS
    for name, row in functions_of(group).items()
    if name not in toy.NAMES
    for option, parameter in options_of(row).items()
]


def edges(annotation):
    """Numbers at, just inside and just outside of the limits of a declaration."""
    found = []
    for limit in declared(annotation).limits:
        if isinstance(limit, OneOf):
            found += list(limit.values)
        elif isinstance(limit, Limit):
            number = re.search(r"-?[\d.,e+]+$", limit.text)[0].replace(",", "")
            found += [float(number), float(number) - 1, float(number) + 1, float(number) * 0.999]
            found += [int(float(number)), int(float(number)) + 1, int(float(number)) - 1]
    return found


ODD = [
    *(None, True, False, 0, -1, 1, 2, 0.5, 1.5, -0.0, 1e-308, 1e308, 10**400, -(10**400), 2**31),
    *(2**63, float("nan"), float("inf"), -float("inf"), "", "x", "x" * 100_000, "a\nb", "1"),
    *((), (1,), [0.5, 0.1], {}, {"name": 1}, {"a": {"b": 1}}, np.int64(3), np.float32(0.5)),
    *(np.bool_(True), np.zeros(3), b"x", object, 1j, "[red]", "\x1b[31m"),
]


def values(annotation):
    return st.one_of(
        st.sampled_from([*edges(annotation), None]),
        st.sampled_from(ODD),
        st.floats(),
        st.integers(),
    )


def accepted_or_one_line(config, field):
    """Whether a config is accepted; if not, the error names the field in one short line."""
    try:
        recipe_of(settings_of(config), toy.info())
    except UserError as error:
        said = str(error)
        assert "\n" not in said and len(said) < 1000, said
        assert "config." in said or "method" in said, said
        assert field in said or "config." in said, said
        return False
    return True


def set_in(config, path, value):
    *groups, last = path
    for group in groups:
        config = config.setdefault(group, {})
    config[last] = value


def check_field(data):
    path, annotation = data.draw(st.sampled_from(FIELDS), label="field")
    config = {key: dict(of) if isinstance(of, dict) else of for key, of in BASE.items()}
    set_in(config, path, data.draw(values(annotation), label="value"))
    accepted_or_one_line(config, path[-1])


def check_option(data):
    group, name, option, annotation = data.draw(st.sampled_from(OPTIONS), label="option")
    config = {key: dict(of) if isinstance(of, dict) else of for key, of in BASE.items()}
    config[group] = {**config.get(group, {}), "name": name}
    if group in ("network", "schedule"):
        config[group] = {"name": name, **({"lr": 0.05} if group == "schedule" else {})}
    config[group][option] = data.draw(values(annotation), label="value")
    accepted_or_one_line(config, option)


def check_group(data):
    """What stands in the place of a whole group, or of its name."""
    group = data.draw(st.sampled_from([field.name for field in dataclasses.fields(Settings)]))
    odd = data.draw(st.sampled_from(ODD))
    whole = data.draw(st.booleans())
    accepted_or_one_line(BASE | {group: odd if whole else {"name": odd}}, group)


few = settings(max_examples=150, derandomize=True, deadline=None, database=None,
               suppress_health_check=list(HealthCheck))  # fmt: skip
many = settings(few, max_examples=1500)


@pytest.mark.parametrize("check", [check_field, check_option, check_group])
def test_any_value_is_accepted_or_refused_in_a_line(check):
    few(given(st.data())(check))()


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_field, check_option, check_group])
def test_thousands_of_values_are_accepted_or_refused_in_a_line(check):
    many(given(st.data())(check))()


def test_every_field_of_a_config_is_read_somewhere():
    """A field that nothing reads is an option that is accepted and ignored."""
    source = "\n".join(
        path.read_text()
        for path in (ROOT / "ltjax").rglob("*.py")
        if path.relative_to(ROOT / "ltjax").as_posix() != "config/settings.py"
    )
    for path, _ in FIELDS:
        assert re.search(rf"\.{path[-1]}\b", source), path
    for group in GROUPS:
        assert re.search(rf"settings\.{group}\b|getattr\(settings, field\)", source), group
