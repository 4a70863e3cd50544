"""Whatever a config says is accepted, or refused in one line that names the field; and soon.

Fields and options are those of the settings and of the rows of all tables; values are drawn around
their limits and from other types.
"""

import functools
import re
import time
import typing

import numpy as np
import pytest
import toy
from config_fields import FIELDS, GROUPS, OPTIONS, config_with
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltjax.errors import UserError
from ltjax.limits import declared
from ltjax.recipes import TABLES, recipe_of, settings_of

SECONDS = 2  # of CPU, at most, for a config; most take a hundredth


class Unprintable(typing.NamedTuple):
    """What Python cannot write out, and hypothesis neither."""

    name: str

    def __repr__(self):
        return self.name

    def value(self):
        """It."""
        deep = functools.reduce(lambda inner, _: [inner], range(3000), 0)
        return {"digits": 10**5000, "deep": deep}[self.name]


ODD = [None, True, False, "", "a\nb", "x" * 100_000, b"x", 1j, (), [], [1, "a"], (0.5, None), {}]
ODD += [
    {"name": "a"},
    {"a": {"b": 1}},
    {1: 2},
    {None: 1},
    {10**400: 1},
    [[]],
    set(),
    object,
    10**400,
]
ODD += [-(10**400), 2**31, 2**63, 2**64, 1e308, -1e308, 1e-320, float("nan")]
ODD += [float("inf"), -float("inf"), -0.0, [float("nan")], (10**400,), [True], (0.2, 0.2), "none"]
ODD += [np.int64(3), np.float32(0.5), np.float64("nan"), np.bool_(True), np.str_("a")]
ODD += [
    np.zeros(2),
    np.zeros(()),
    np.array(["a", "b"]),
    np.float16("inf"),
    np.datetime64("NaT", "s"),
]


UNPRINTABLE = [Unprintable("digits"), Unprintable("deep")]


def values(annotation):
    """Of its type and around its limits; then anything."""
    kind, limits, *_ = declared(annotation)
    near = []
    for limit in limits:
        if hasattr(limit, "values"):
            near += [*limit.values, *map(np.str_, limit.values)]
        if kind not in (int, float):
            continue
        at = float(limit.text.split()[-1].replace(",", ""))
        near += [int(at) + d for d in (-1, 0, 1)] + [
            at,
            np.float32(at),
            at / 2,
            np.int32(min(at, 9)),
        ]
        near += [np.nextafter(at, side).item() for side in (-np.inf, np.inf)]
    usual = {
        bool: st.booleans(),
        int: st.integers(-2, 300) | st.integers(),
        float: st.floats(-0.5, 3) | st.floats() | st.integers(-2, 300),
        str: st.text(max_size=20)
        | st.sampled_from([row for rows in TABLES.values() for row in rows]),
        tuple: st.lists(st.floats(0, 1) | st.sampled_from(ODD), max_size=4).map(tuple),
        dict: st.dictionaries(st.text(max_size=5), st.sampled_from(ODD), max_size=2),
    }[kind]
    return st.one_of(
        usual, *[st.sampled_from(near)] * bool(near), st.sampled_from([*ODD, *UNPRINTABLE])
    )


def check(path, row, value):
    config = config_with(path, row, value.value() if isinstance(value, Unprintable) else value)
    start = time.process_time()
    try:
        recipe_of(settings_of(config), toy.info())
    except UserError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 400
        assert "config." in text
        # another field may be named that is at odds with this one; then this one is said, too
        name = path.split(".")[-1]
        assert re.search(rf"\b{name}\b", text) or (name == "name" and repr(value) in text), text
    assert time.process_time() - start < SECONDS


drawn = st.sampled_from(FIELDS + GROUPS).flatmap(
    lambda of: st.tuples(st.just(of[0]), st.just(of[1]), values(of[2]))
)
drawn_options = st.sampled_from(OPTIONS).flatmap(
    lambda of: st.tuples(st.just(of[0]), st.just(of[1]), values(of[2]))
)
few = settings(
    max_examples=500,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
many = settings(few, max_examples=10_000)


@few
@given(drawn)
def test_a_field_is_accepted_or_refused_in_a_line(of):
    check(*of)


@few
@given(drawn_options)
def test_an_option_is_accepted_or_refused_in_a_line(of):
    check(*of)


@pytest.mark.slow
@many
@given(drawn | drawn_options)
def test_many_more_are_accepted_or_refused_in_a_line(of):
    check(*of)
