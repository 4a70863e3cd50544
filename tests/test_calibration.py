"""Calibration by hand, against the evaluation's own numbers, and a temperature that is known."""

import numpy as np
import pytest
from scipy.special import log_softmax

from ltjax.analysis import calibration, ensembles
from ltjax.data.splits import groups
from ltjax.evaluation import metrics

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=2, size=(3, 400, 6)).astype(np.float32)
LABEL = RNG.integers(6, size=400)


def test_numbers_are_those_of_the_evaluation():
    import jax

    sums = jax.device_get(metrics.sums(LOGITS, LABEL, np.ones(400, np.float32)))
    counts = np.array([200, 150, 90, 40, 15, 5])
    expected = metrics.summary(sums, groups(counts), "probs")["average"]
    found = ensembles.average(LOGITS)
    assert calibration.nll(found, LABEL) == pytest.approx(expected["nll"], rel=1e-5)
    assert calibration.brier(found, LABEL) == pytest.approx(expected["brier"], rel=1e-5)
    assert calibration.expected_error(found, LABEL) == pytest.approx(expected["ece"], rel=1e-4)


# confidences .95 .85 .85 .55; right, wrong, right, right
PROBS = np.log([[0.95, 0.05], [0.85, 0.15], [0.15, 0.85], [0.55, 0.45]])
LABELS = np.array([0, 1, 1, 0])


def test_errors_worked_by_hand():
    gaps = np.array([0.05, 0.35, 0.45])  # of .95, of both .85, of .55
    assert calibration.expected_error(PROBS, LABELS, 10) == pytest.approx(gaps @ [1, 2, 1] / 4)
    assert calibration.maximum_error(PROBS, LABELS, 10) == pytest.approx(0.45)
    assert calibration.expected_error(PROBS, LABELS, 1) == pytest.approx(abs(0.75 - 0.8))
    # .55 and .85, then .85 and .95; of both .85 one half is right
    assert calibration.adaptive_error(PROBS, LABELS, 2) == pytest.approx((0.05 + 0.15) / 2)
    # of class 0: .95 right, .85 wrong, .15 wrong, .55 right; class 1 has the same gaps
    assert calibration.classwise_error(PROBS, LABELS, 10) == pytest.approx(
        (0.05 + 0.85 + 0.15 + 0.45) / 4
    )
    assert calibration.nll(PROBS, LABELS) == pytest.approx(-np.log([0.95, 0.15, 0.85, 0.55]).mean())
    assert calibration.brier(PROBS, LABELS) == pytest.approx(
        2 * np.mean(np.square([0.05, 0.85, 0.15, 0.45]))
    )


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(true):
    rng = np.random.default_rng(1)
    logits = rng.normal(scale=3, size=(20_000, 5))
    probs = np.exp(log_softmax(logits / true, axis=-1))
    label = (rng.random((20_000, 1)) > probs.cumsum(-1)).sum(-1)
    found = calibration.temperature(logits, label)
    assert found == pytest.approx(true, rel=0.05)
    before, after = (calibration.scaled(logits, by) for by in (true * 2, found))
    assert calibration.nll(after, label) < calibration.nll(before, label)
    assert calibration.expected_error(after, label) < 0.01
    twice = calibration.temperature(np.tile(logits, (2, 1)), np.tile(label, 2))
    half = np.repeat([1, 0], 20_000)
    other = np.tile((label + 1) % 5, 1)
    weighted = calibration.temperature(np.tile(logits, (2, 1)), np.append(label, other), half)
    assert found == pytest.approx(twice, rel=1e-4) and weighted == pytest.approx(found, rel=1e-4)


def test_the_order_of_images_says_nothing_where_confidences_are_equal():
    log_probs = np.log(np.tile([0.8, 0.2], (100, 1)))
    label = (np.arange(100) >= 80).astype(int)  # 80 right, then 20 wrong
    assert calibration.adaptive_error(log_probs, label) == pytest.approx(0, abs=1e-12)
    assert calibration.adaptive_error(log_probs, label[::-1]) == pytest.approx(0, abs=1e-12)
