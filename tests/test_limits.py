"""Limits of options: what is declared once is checked, said in one grammar, and listed."""

import dataclasses
from typing import Annotated, Any

import numpy as np
import pytest
import toy

from ltjax import catalogue
from ltjax.config.choices import choose, choose_with_start, options_of
from ltjax.config.requires import requires_head
from ltjax.config.settings import Settings, as_dict
from ltjax.errors import FieldError, UserError, shown
from ltjax.limits import (
    above,
    at_least,
    at_most,
    below,
    conform,
    declared,
    one_of,
    only_with,
)
from ltjax.methods import METHODS
from ltjax.recipes import TABLES, functions_of, settings_of

Fraction = Annotated[float, at_least(0), below(1)]


def message(field="x", value=1, why="it must be 2", use=None):
    return str(FieldError(field, value, why, use))


@pytest.mark.parametrize(
    "limit, kept, broken, text",
    [
        (at_least(0), [0, 0.5], [-1, -1e-9], "at least 0"),
        (above(0), [1e-9], [0, -1], "above 0"),
        (at_most(1_000_000), [1_000_000], [1_000_001], "at most 1,000,000"),
        (below(1.0), [0.999], [1, 10**400], "below 1.0"),
        (one_of("a", "b"), ["a", "b"], ["c", ""], "a | b"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_limit_says_what_it_keeps(limit, kept, broken, text):
    assert limit.text == text
    assert all(map(limit.check, kept)) and not any(map(limit.check, broken))


@pytest.mark.parametrize(
    "value, annotation, result",
    [
        (0.5, Fraction, 0.5),
        (0, Fraction, 0.0),
        (np.int64(64), Annotated[int, at_least(1)], 64),
        (np.int32(1), float, 1.0),
        (np.float32(0.5), Fraction, 0.5),
        (np.bool_(True), bool, True),
        (np.str_("a"), Annotated[str, one_of("a")], "a"),
        ([0.5, np.float32(0.75)], tuple, (0.5, 0.75)),
        (None, str | None, None),
        ("here", str | None, "here"),
    ],
)
def test_a_value_comes_out_as_it_is_declared(value, annotation, result):
    found = conform(value, annotation, "x")
    assert found == result and type(found) is type(result)


@pytest.mark.parametrize(
    "value, annotation, says",
    [
        (1.0, Fraction, "config.x is 1.0; it must be at least 0, below 1."),
        ("half", Fraction, "config.x is 'half'; it must be a number, at least 0, below 1."),
        (float("nan"), float, "config.x is nan; it must be a finite number."),
        (10**400, float, "it must be a finite number."),
        (-(10**400), float, "it must be a finite number."),
        (10**5000, Annotated[int, at_most(9)], "config.x is a very large int; it must be at most"),
        (True, int, "config.x is True; it must be an integer."),
        (True, float, "config.x is True; it must be a number."),
        (np.True_, int, "config.x is True; it must be an integer."),
        (np.float32(2), int, "config.x is 2.0; it must be an integer."),
        (1, bool, "config.x is 1; it must be True or False."),
        (None, int, "config.x is None; it must be an integer."),
        (np.zeros((9, 9)), float, "it must be a number."),
        ("stp", Annotated[str, one_of("exp", "step")], "one of exp, step (did you mean 'step'?)."),
        (3, Annotated[str, one_of("exp", "step")], "config.x is 3; it must be one of exp, step."),
    ],
    ids=range(15),
)
def test_what_is_not_as_declared_is_refused_in_one_line(value, annotation, says):
    with pytest.raises(FieldError) as caught:
        conform(value, annotation, "x")
    text = str(caught.value)
    assert says in text and len(text) < 150 and "\n" not in text


def test_all_messages_have_one_grammar():
    assert message("a.b", 3.0, "it must be at most c, 2.0") == (
        "config.a.b is 3.0; it must be at most c, 2.0."
    )
    assert message("network.head", "cosine", "it bends", use="linear") == (
        "config.network.head is 'cosine', but it bends; use --config.network.head=linear."
    )
    assert message("a", 1, "it must not", use={"a": 2, "b.c": 0.5}).endswith(
        "; use --config.a=2 or --config.b.c=0.5."
    )
    assert message("a", True, "needs two of them", use=False) == (
        "config.a needs two of them; use --config.a=False."
    )


def test_a_long_value_is_shortened():
    assert shown("x" * 100_000) == "'" + 37 * "x" + "..." + 18 * "x" + "'"
    assert len(shown([1.5] * 1000)) <= 60 and shown(0.1) == "0.1"


def row(
    size,
    *,
    q: Annotated[float, above(0)],
    on: bool = False,
    strength: Annotated[int, at_least(1), only_with("on")] = 3,
):
    """A row. Somebody et al., 1999."""
    if q > size:
        raise FieldError("q", q, f"it must be at most {size}", use={"q": size, "batch_size": 9})
    if q == 2:
        raise FieldError("network.head", "cosine", "it does not fit", use="linear")
    if q == 3:
        raise FieldError("num_epochs", 1, "it must be more")
    return q, on, strength


TABLE = {"row": row}


def refusal(size=5, **options):
    with pytest.raises(UserError) as caught:
        choose(TABLE, "loss", "row", **options)(size)
    return str(caught.value)


def test_the_binder_binds_what_conforms():
    assert choose(TABLE, "loss", "row", q=1, on=True, strength=np.int64(7))(5) == (1.0, True, 7)
    assert choose(TABLE, "loss", "row", q=1, strength=None)(5) == (1.0, False, 3)


def test_the_binder_knows_the_path_of_an_option():
    assert refusal(q=0) == "config.loss.q is 0; it must be above 0."
    assert refusal() == "config.loss.q is missing; it must be set with 'row': above 0."
    said = refusal(q=1, strength=2)
    assert "config.loss.strength is 2" in said and "on is False; leave it out" in said
    assert "config.loss.qq (did you mean 'q'?): 'row' takes q, on, strength" in refusal(qq=1)


def test_a_row_names_its_options_alone_and_other_fields_by_path():
    assert refusal(q=9).startswith("config.loss.q is 9.0; it must be at most 5; use ")
    assert refusal(q=9).endswith("; use --config.loss.q=5 or --config.batch_size=9.")
    assert refusal(q=2).startswith("config.network.head is 'cosine', but it does not fit")
    assert refusal(q=3) == "config.num_epochs is 1; it must be more."


def test_an_error_of_a_row_within_a_row_keeps_its_path():
    def outer(*, q: float = 2.0):
        return choose(TABLE, "loss", "row", q=q + 7)(5)

    with pytest.raises(FieldError, match=r"config\.loss\.q is 9\.0"):
        choose({"outer": outer}, "method", "outer")()


def _functions():
    return {field: functions_of(field) for field in TABLES}


def test_no_option_has_the_name_of_a_field_at_the_top():
    """So that a bare name in a FieldError is either a row's own option or a field at the top."""
    groups = [field.name for field in dataclasses.fields(Settings) if field.name in TABLES]
    top = {field.name for field in dataclasses.fields(Settings)} - set(groups)
    for table in _functions().values():
        for one in table.values():
            assert not top & options_of(one).keys()


def test_every_number_and_string_has_limits():
    free = {
        (field, name, option)
        for field, table in _functions().items()
        for name, one in table.items()
        for option, parameter in options_of(one).items()
        if declared(parameter.annotation).kind in (int, float, str)
        and not declared(parameter.annotation).limits
    }
    assert free == set()


def test_defaults_are_within_their_limits():
    for field, table in _functions().items():
        for one in table.values():
            for name, parameter in options_of(one).items():
                if parameter.default is not parameter.empty:
                    conform(parameter.default, parameter.annotation, f"{field}.{name}")


def test_a_row_says_what_it_requires_of_other_fields():
    @requires_head("cosine", because="it measures angles")
    def angled(settings):
        """Angles."""
        return settings

    bound = choose({"angled": angled}, "method", "angled")
    with pytest.raises(FieldError, match=r"'linear', but it measures angles; use .*head=cosine"):
        bound(toy.settings())
    settings = toy.settings(network={"name": "toy", "head": "cosine"})
    assert bound(settings) is settings
    assert catalogue.required(angled) == " Requires network.head=cosine."


def test_a_start_that_changes_nothing_is_refused():
    table = {"plain": lambda: 0, "row": row}
    assert choose_with_start(table, "loss", "plain", start=0.0)[0] == 0
    assert choose_with_start(table, "loss", "row", start=0.5, q=1)[0] == 0.5
    with pytest.raises(FieldError, match=r"config\.loss\.start is 0\.5, but 'plain'.*leave it out"):
        choose_with_start(table, "loss", "plain", start=0.5)


def test_the_list_shows_limits():
    assert catalogue.options(row) == (
        " Options: q (above 0), on=False, strength=3 (at least 1, with on)."
    )
    assert "start=0.0 (at least 0, below 1)" in catalogue.options(row, with_start=True)


@pytest.mark.parametrize(
    "field, value, result",
    [
        ("batch_size", np.int64(64), 64),
        ("num_epochs", np.float32(0.5), 0.5),
        ("loss", {"name": "focal", "gamma": np.float32(0.5)}, {"name": "focal", "gamma": 0.5}),
    ],
)
def test_a_number_of_numpy_is_as_good_as_pythons(field, value, result):
    found: Any = as_dict(settings_of({field: value}))[field]
    assert found == result and type(found) is type(result)
    assert not isinstance(dict(found).get("gamma") if isinstance(found, dict) else 0, np.generic)


def test_more_steps_than_can_be_counted_are_refused():
    settings = dataclasses.replace(toy.settings(network={"name": "tiny"}), num_epochs=1e9)
    with pytest.raises(UserError, match=r"would have 5,000,000,000 .* Lower config\.num_epochs"):
        METHODS["classifier"].recipe(settings, toy.info())
