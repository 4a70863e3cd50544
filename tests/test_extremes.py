"""Each field and option, set to each extreme: accepted or refused in a short line, and at once."""

import functools
import math
import resource
import time

import numpy as np
import pytest
import toy
from config_fields import FIELDS, GROUPS, OPTIONS, config_with, function_of

from ltjax.errors import UserError
from ltjax.limits import declared
from ltjax.recipes import recipe_of, settings_of

SECONDS = 2  # of CPU
MEBIBYTES = 500


def nested(depth, around):
    return functools.reduce(lambda inner, _: around(inner), range(depth), 0)


def cycle():
    itself = []
    itself.append(itself)
    return itself


def shared():
    """A thousand million values, in three thousand places of memory."""
    return nested(3, lambda inner: [inner] * 1000)


class Speechless:
    def __repr__(self):
        raise RuntimeError("no words")


class Loud:
    def __repr__(self):
        return "a\nb\x1b[31m"


NUMBERS = [0, 1, 2, 64, 100, 1000, 10**5, 10**6, 10**9, 2**31 - 1, 2**31, 2**32, 2**63, 2**64]
NUMBERS += [10**400, 10**5000, -1, -(2**31), -(10**400)]
NUMBERS += [-0.0, 5e-324, 1e-9, 1 - 1e-16, 1.5, 1e9, 1e30, 1e308, -1e-9, -1e308]
NUMBERS += [math.nan, math.inf, -math.inf, np.float32("nan"), np.int64(2**62), np.uint8(200)]
OTHERS = [None, True, "", "x" * 100_000, "a\x1b[31m\0\r\nb\u2028\u202e", "\ud800", b"x" * 1000]
OTHERS += [[0.5] * 1_000_000, tuple(i / 1001 for i in range(1, 1001)), (), shared(), cycle()]
OTHERS += [nested(100_000, lambda x: [x]), nested(900, lambda x: [x]), [10**5000]]
OTHERS += [nested(100_000, lambda x: {"a": x}), {f"a{i}": i for i in range(2000)}]
OTHERS += [{"x" * 100_000: 1}, {"a\nb": 1}, set(range(10_000)), np.zeros(10**6), print]
OTHERS += [Speechless(), Loud()]

# Rows that share a function share its options.
DISTINCT = {(f.path, function_of(f)): f for f in reversed([*FIELDS, *GROUPS, *OPTIONS])}.values()


def name_of(field):
    return f"{field.path} of {field.row}" if field.row else field.path


# Recipes of these take longer to build.
LONG = [field for field in DISTINCT if field.row == "ride"]
EVERY = [
    *(field for field in DISTINCT if field not in LONG),
    *(pytest.param(field, marks=pytest.mark.slow) for field in LONG),
]


@pytest.mark.parametrize("field", EVERY, ids=name_of)
def test_an_extreme_is_accepted_or_refused_in_a_short_line(field):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for value in [*NUMBERS, *OTHERS]:
        config, start = config_with(field.path, field.row, value), time.process_time()
        try:
            recipe_of(settings_of(config), toy.info())
        except UserError as error:
            said = str(error)
            assert said.isprintable() and len(said) < 400, said
        assert time.process_time() - start < SECONDS, str(value)[:60]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1024 * MEBIBYTES


@pytest.mark.parametrize("field", DISTINCT, ids=name_of)
def test_every_number_has_a_lower_and_an_upper_limit(field):
    kind, limits, *_ = declared(field.annotation)
    if kind in (int, float):
        assert not all(limit.check(1e300) for limit in limits)
        assert not all(limit.check(-1e300) for limit in limits)
    if kind in (str, tuple) and not field.path.endswith("name"):
        assert limits


PRODUCTS = [
    ({"num_experts": 1000, "method": {"name": "ncl", "num_heads": 64}}, "num_experts is 1000"),
    ({"num_experts": 20, "method": {"name": "balpoe", "num_heads": 64}}, "at most 15 where each"),
    ({"num_experts": 400, "method": {"name": "sade"}}, "at most 333 where each has 3 heads"),
    ({"num_experts": 501, "method": {"name": "ride"}}, "num_experts is 501"),
    ({"num_experts": 334, "method": {"name": "lfme"}}, "at most 333: phase 'teachers' has 1,002"),
    (
        {"num_epochs": 1e6, "method": {"name": "crt", "extra_share": 100.0}},
        "Phase 'cRT' would have 500,000,000 steps; it must have at most 20,000,000",
    ),
    ({"num_epochs": 1e6, "batch_size": 1}, "Phase 'train' would have 75,000,000 steps"),
    (
        {"num_experts": 1000, "batch_size": 75, "compute": {"steps_per_call": 10_000}},
        "config.compute.steps_per_call is 10000; it must be at most 894",
    ),
]


@pytest.mark.parametrize("change, words", PRODUCTS, ids=[words[:40] for _, words in PRODUCTS])
def test_numbers_that_are_too_large_together_name_one_to_lower(change, words):
    config = {"network": {"name": "tiny"}, "log_every_steps": 10_000, **change}
    if change.get("method", {}).get("name") in ("sade", "balpoe", "ride"):
        config["network"] = {"name": "tiny", "head": "cosine"}
    with pytest.raises(UserError) as caught:
        recipe_of(settings_of({"batch_size": 16, **config}), toy.info())
    assert words in str(caught.value) and len(str(caught.value)) < 400


def test_images_of_a_step_that_no_machine_holds_are_refused():
    large = toy.info()._replace(image_shape=(224, 224, 3), class_counts=np.full(4, 10**5))
    settings = toy.settings(network={"name": "tiny"}, num_experts=1000, batch_size=100_000)
    with pytest.raises(UserError, match=r"config\.batch_size is 100000; it must be at most 28 for"):
        recipe_of(settings, large)
