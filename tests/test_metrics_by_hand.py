"""Evaluation numbers worked by hand, at the limits of their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_metrics import evaluate, sums

from ltjax.data.splits import groups
from ltjax.evaluation import metrics


def by_hand(heads=None):
    """Two experts, three images of six classes: sums and summary, many 0 and 1, few 5."""
    p = np.full((2, 3, 6), 0.05)
    p[0, 0, 0] = p[0, 1, 2] = p[0, 2, 5] = 0.75  # right, wrong, right
    p[1, 0, 0] = p[1, 1, 1] = p[1, 2, 3] = 0.75  # right, right, wrong
    label = jnp.array([0, 1, 5])
    totals = sums(jnp.log(jnp.asarray(p, jnp.float32)), label, jnp.ones(3), heads)
    totals = jax.tree.map(lambda x: np.asarray(x, np.float64), totals)
    return metrics.summary(totals, groups([500, 400, 90, 80, 50, 5]), "probs")


def test_a_summary_worked_by_hand():
    found = by_hand()
    assert (found["images"], found["combine"]) == (3, "probs")
    assert found["classes_per_group"] == {"many": 2, "medium": 3, "few": 1}
    assert found["seen_per_group"] == {"many": 2, "medium": 0, "few": 1}
    assert [one["accuracy"] for one in found["experts"]] == pytest.approx([2 / 3, 2 / 3])
    assert [one["many"] for one in found["experts"]] == [0.5, 1.0]
    assert [one["few"] for one in found["experts"]] == [1.0, 0.0]
    assert [one["medium"] for one in found["experts"]] == [None, None]
    balanced = [one["balanced_accuracy"] for one in found["experts"]]
    assert balanced == pytest.approx([2 / 3, 2 / 3])
    assert found["experts"][0]["per_class"] == [1.0, 0.0, None, None, None, 1.0]
    np.testing.assert_allclose(found["disagreement"], [[0, 2 / 3], [2 / 3, 0]])
    nll = -(2 * np.log(0.75) + np.log(0.05)) / 3
    assert [one["nll"] for one in found["experts"]] == pytest.approx([nll, nll])
    # of a right image 0.25^2 + 5 * 0.05^2, of a wrong one 0.95^2 + 0.75^2 + 4 * 0.05^2
    brier = (2 * (0.0625 + 0.0125) + 0.9025 + 0.5625 + 0.01) / 3
    assert found["experts"][0]["brier"] == pytest.approx(brier)
    assert found["experts"][0]["ece"] == pytest.approx(0.75 - 2 / 3)
    assert [sorted(one) for one in found["first_k"]] == [["accuracy", "few", "many", "medium"]] * 2


def test_the_other_average_is_the_one_that_is_not_combined():
    rng = np.random.default_rng(1)
    logits, label = rng.normal(size=(3, 60, 6)).astype(np.float32), rng.integers(0, 6, 60)
    probs, logits = (evaluate(logits, label, np.full(6, 50), of) for of in ("probs", "logits"))
    assert probs["average"]["nll"] != logits["average"]["nll"]
    assert probs["other_average"] == logits["average"]
    assert logits["other_average"] == probs["average"]


def test_heads_are_counted_one_by_one_and_by_the_mean_of_their_logits():
    logits = np.random.default_rng(0).normal(size=(2, 3, 40, 6)).astype(np.float32)  # [E, K, B, C]
    label = jnp.arange(40) % 6
    totals = sums(jnp.asarray(logits.mean(1)), label, jnp.ones(40), jnp.asarray(logits))
    alone = sums(jnp.asarray(logits.reshape(6, 40, 6)), label, jnp.ones(40))["experts"]
    jax.tree.map(np.testing.assert_allclose, totals["heads"], alone)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5),
        totals["heads_mean"],
        totals["experts"],
    )
    totals = jax.tree.map(lambda x: np.asarray(x, np.float64), totals)
    found = metrics.summary(totals, groups(np.full(6, 50)), "probs")
    assert (len(found["heads"]), len(found["heads_mean"])) == (6, 2)


@pytest.mark.parametrize("num_classes, top5", [(5, None), (6, 2 / 3), (7, 2 / 3)])
def test_the_top_five_of_five_classes_say_nothing(num_classes, top5):
    logits = np.tile(-np.arange(num_classes, dtype=np.float32), (1, 3, 1))
    average = evaluate(logits, [0, 0, num_classes - 1], np.full(num_classes, 50))["average"]
    assert average["top5"] == (None if top5 is None else pytest.approx(top5))


@pytest.mark.usefixtures("float64")
def test_a_bin_has_its_upper_edge_and_not_its_lower(monkeypatch):
    monkeypatch.setattr(metrics, "NUM_BINS", 4)
    totals = metrics.sums(jnp.zeros((1, 3, 2)), jnp.array([0, 0, 1]), jnp.ones(3))
    # a confidence of 1/2 belongs to (1/4, 1/2]; two of three are right
    expected = [[0, 0, 0], [3, 1.5, 2], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(totals["experts"]["bins"][0], expected)


def test_confidence_above_one_by_rounding_is_in_the_last_bin():
    bins = metrics._bins(jnp.array([[1.0000001, 1.0]]), jnp.ones((1, 2)), jnp.ones(2))
    np.testing.assert_allclose(bins[0, :, 0], [0] * 14 + [2])


def test_an_evaluation_as_a_line_and_as_an_event():
    found = by_hand() | {"expert_numbers": [1, 3]}
    found["average"] |= {"accuracy": 0.98765, "ece": 0.25, "nll": 1.5, "many": 1.0, "few": 0.5}
    line = metrics.one_line("test", found)
    assert line == "test accuracy 98.77 (experts 66.67 66.67)"
    event = metrics.scalars("test", found, num_experts=3)
    assert event.pop("test/experts") == [pytest.approx(2 / 3), None, pytest.approx(2 / 3)]
    assert event == {
        "test/accuracy": 0.98765,
        "test/many": 1.0,
        "test/few": 0.5,
        "test/nll": 1.5,
        "test/ece": 0.25,
    }  # no medium class


def test_the_open_set_f_measure_at_its_limits():
    label = np.array([0, 1, 0, -1, -1, -1])
    probs = [[0.5, 0.4], [0.4, 0.5], [0.5, 0.1], [0.25, 0.2], [0.1, 0.2], [0.05, 0.09]]
    f_measure = metrics.open_set_f_measure
    # 3 right, and 1 of the unknown taken for a class: P = 1, R = 3/4
    assert f_measure(probs, label, threshold=0.25) == pytest.approx(6 / 7)
    assert f_measure(probs, label, threshold=0.3) == 1
    assert f_measure(probs, label, threshold=0.6) == 0
    assert f_measure(probs[4:], label[4:], threshold=0.6) == 0  # nothing to find, nothing wrong
    assert f_measure(probs, label) == pytest.approx(6 / 8)  # from 0.1 on, 2 are taken for one
