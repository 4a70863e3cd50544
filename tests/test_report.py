import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from rich.console import Console

from ltjax.config.settings import as_dict
from ltjax.data.splits import groups
from ltjax.evaluation import metrics
from ltjax.learner import Variables
from ltjax.models import NETWORKS, cost
from ltjax.recipes import own_choices
from ltjax.report import summary as report
from ltjax.report import tables
from ltjax.run.console import Display, Speed


def result(num_experts=3, combine="probs"):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(6), 50)
    logits = rng.normal(size=(num_experts, 300, 6)) + 2 * np.eye(6)[label]
    totals = jax.jit(metrics.sums)(jnp.asarray(logits), jnp.asarray(label), jnp.ones(300))
    totals = jax.tree.map(lambda x: np.asarray(x, np.float64), totals)
    summary = metrics.summary(totals, groups([300, 150, 90, 60, 30, 25]), combine)
    return summary | {"images_per_second": 100.0}


def described(num_experts=3, combine="probs", rates=(900.0, 1100.0, 5000.0)):
    settings = toy.settings(num_experts=num_experts)
    recipe = (toy.phase(num_experts=num_experts),)
    results = {"test": result(num_experts, combine)}
    return report.describe(settings, toy.splits(), recipe, results, 12.3, list(rates), {})


def shown(found, width=80):
    page = Console(file=io.StringIO(), width=width, force_terminal=False)
    page.print(tables.for_console(found))
    return page.file.getvalue()


def test_the_console_tables_fit_80_columns_whole():
    text = shown(described())
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    assert re.search(r"expert 3 +\d+\.\d\d", text)
    average = described()["splits"]["test"]["average"]
    assert f"{100 * average['accuracy']:.2f}" in text
    assert re.search(r"average probs .* none ", text)  # no few-shot class


def test_the_facts_name_what_was_spent():
    page = tables.markdown(described())
    assert re.search(r"- memory at most: \d+\.\d\d GiB of the process\n", page)
    assert re.search(r"- convolutions: (native|plain)", page)


@pytest.mark.parametrize("surroundings", [{}, {"FORCE_COLOR": "1"}])
def test_the_markdown_has_the_same_numbers_wherever_it_is_written(monkeypatch, surroundings):
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    page = tables.markdown(described())
    assert "\x1b" not in page
    rows = [line for line in page.splitlines() if line.startswith("| expert")]
    assert len(rows) == 6
    for one, row in zip(described()["splits"]["test"]["experts"], rows[:3], strict=True):
        assert f"| {100 * one['accuracy']:.2f} |" in re.sub(" +", " ", row)


def test_one_expert_has_no_average_to_speak_of():
    assert "average" not in shown(described(num_experts=1))


def test_the_sentence_names_the_average_that_was_chosen():
    assert "average of softmax outputs of 3 experts" in shown(described())
    assert "average of logits of 3 experts" in shown(described(combine="logits"))


def test_costs_are_counted_not_guessed():
    found = described()
    assert found["cost"]["train_images_per_second"] == 1100.0  # the median
    assert found["cost"]["parameters"] == 3 * found["cost"]["parameters_per_expert"]
    assert "speed not measured" in tables.markdown(described(rates=()))
    assert found["steps"] == 8 * 5 and found["epochs"] == 8


def test_resnet32_costs_what_the_field_says():
    network = NETWORKS["resnet32"](100)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = Variables(*jax.eval_shape(network.init, jax.random.key(0), image))
    assert cost.parameters(variables.params) == 470_004
    stem, stage = 32 * 32 * 27 * 16, 32 * 32 * 9 * 16 * 16  # a convolution costs the same in all
    convolutions = stem + 10 * stage + 2 * (stage // 2 + 9 * stage)

    def predict(variables, image):
        return toy.outputs(network, variables, image)

    assert cost.multiply_adds(predict, variables, image) == convolutions + 64 * 100


def test_multiply_adds_of_loops_count_every_turn():
    def f(x):
        return jax.lax.scan(lambda carry, _: (carry @ x, None), x, length=5)[0]

    assert cost.multiply_adds(f, jnp.ones((3, 3))) == 5 * 27


def test_speed_leaves_out_what_is_paused(monkeypatch):
    now = iter([10.0, 12.0, 100.0, 101.0])
    monkeypatch.setattr("ltjax.run.console.time.perf_counter", lambda: next(now))
    speed = Speed(images_per_step=32)
    speed.begin(1)
    speed.begin(2)  # runs already; does not look at the clock
    assert speed.lap(5) == 32 * 4 / 2
    speed.pause()
    speed.begin(8)
    assert speed.lap(10) == 32 * 2 / 1


def test_progress_is_plain_lines_where_there_is_no_terminal():
    page = Console(file=io.StringIO(), width=80)
    with Display(page, "train", 200, 0, images_per_step=64) as display:
        display.advance(1)
        display.numbers(100, [1.234, 2.0], 640.0)
    assert page.file.getvalue() == (
        "train: compiling\ntrain 100/200  loss 1.23 2.00  640 img/s  0:10 left\n"
    )


def test_progress_on_a_terminal_is_one_line_of_80_columns():
    page = Console(file=io.StringIO(), width=80, force_terminal=True, legacy_windows=False)
    with Display(page, "train", 17_000, 0, images_per_step=384) as display:
        display.numbers(8_500, [1.234, 2.0, 3.456], 640.0)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", page.file.getvalue()).split("\r")[-1]
    assert "8500/17000" in last and "loss 1.23 2.00 3.46" in last and "640 img/s" in last
    assert max(map(len, last.splitlines())) <= 80


def test_the_title_says_what_is_shared_and_what_was_adapted():
    def title(phases=(), **fields):
        settings = toy.settings(num_experts=3, **fields)
        results = {"test": result(3)}
        recipe = phases or (toy.phase(num_experts=3),)
        options = own_choices(as_dict(settings))
        return report.describe(settings, toy.splits(), recipe, results, 1.0, [], options)["title"]

    assert "3 independent experts" in title()
    shared = title(share={"initialisation": True, "order": True})
    assert "3 experts of the same initialisation and order" in shared
    adapting = toy.phase(num_experts=3)._replace(source="test")
    assert "adapted to the test images (without their labels)" in title((adapting,))


def numbers(text):
    """All numbers of a text, in order of their size."""
    return sorted(re.findall(r"[-+]?\d[\d,]*(?:\.\d+)?", text))


@pytest.mark.parametrize("width", [60, 40, 30, 25])
def test_numbers_are_whole_on_a_narrow_console(width):
    found = described()
    found["splits"]["test"] |= {"images": 123_456_789, "heads": result()["experts"] * 2}
    narrow, wide = shown(found, width), shown(found)
    assert max(map(len, narrow.splitlines())) <= width and "…" not in narrow
    without_names = [re.sub(r"(expert|head) \d", "", text) for text in (narrow, wide)]
    assert numbers(without_names[0]) == numbers(without_names[1])
    for word in ("top-5", "Brier", "gain", "wrong"):
        assert word in narrow


def test_a_group_says_how_many_of_its_classes_have_images():
    images = np.array([50, 50, 50, 50, 0, 0])
    of = {"few": np.array([0, 0, 0, 1, 1, 1], bool), "many": np.array([1, 1, 1, 0, 0, 0], bool)}
    found = described()
    found["splits"]["test"] |= {
        "classes_per_group": {name: int(group.sum()) for name, group in of.items()},
        "seen_per_group": {name: int((group & (images > 0)).sum()) for name, group in of.items()},
    }
    assert "classes: 3 few (only 1 with images), 3 many" in shown(found)
    assert result()["seen_per_group"] == {"many": 2, "medium": 4, "few": 0}


def test_the_report_says_what_in_the_environment_may_move_roundings(monkeypatch):
    monkeypatch.setenv("LTJAX_KERNELS", "none")
    monkeypatch.setenv("XLA_FLAGS", "--xla_something=1")
    found = described()
    assert found["environment"]["LTJAX_KERNELS"] == "none"
    page = tables.markdown(found)
    assert "- environment: XLA_FLAGS=--xla_something=1, LTJAX_KERNELS=none" in page
    assert "- environment" not in tables.markdown(found | {"environment": {}})
    del found["environment"]  # a report of before
    assert "- environment" not in tables.markdown(found)
