"""Withheld predictions and sets of classes."""

import numpy as np
import pytest
from scipy.special import log_softmax

from ltjax.analysis import selective


def test_risk_and_coverage_worked_by_hand():
    log_probs = np.log([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.45, 0.55]])
    coverage, risk = selective.risk_coverage(log_probs, np.array([1, 0, 1, 1]))
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risk, [0, 0, 1 / 3, 1 / 4])  # .9 .8 .6 .55: only .6 is wrong
    area = selective.area_under_risk(log_probs, np.array([1, 0, 1, 1]))
    assert area == pytest.approx((1 / 3 + 1 / 4) / 4)


def drawn(rng, size, prior):
    label = rng.choice(len(prior), size, p=prior)
    logits = rng.normal(size=(size, len(prior)))
    logits[np.arange(size), label] += 1.5
    return log_softmax(logits, axis=-1), label


def test_sets_hold_the_class_as_often_as_promised():
    rng, shares = np.random.default_rng(0), []
    for _ in range(200):
        held_out, held_label = drawn(rng, 100, np.full(6, 1 / 6))
        test, label = drawn(rng, 500, np.full(6, 1 / 6))
        sets = selective.conformal_sets(held_out, held_label, test, 0.9)
        shares.append(selective.coverage(sets, label))
    assert 0.895 < np.mean(shares) < 0.915  # at least 0.9, at most 0.9 + 1/101


def test_weights_hold_the_promise_where_frequencies_differ():
    """The rare class is the hard one: without weights its sets are too small."""
    rng, shares, plain = np.random.default_rng(0), [], []
    tail, flat = np.array([0.8, 0.15, 0.05]), np.full(3, 1 / 3)

    def of(size, prior):
        log_probs, label = drawn(rng, size, prior)
        return log_softmax(log_probs + np.log(tail), axis=-1), label

    for _ in range(200):
        held_out, held_label = of(400, tail)
        test, label = of(500, flat)
        sets = selective.conformal_sets(held_out, held_label, test, 0.9, flat / tail)
        shares.append(selective.coverage(sets, label))
        plain.append(
            selective.coverage(selective.conformal_sets(held_out, held_label, test, 0.9), label)
        )
    assert 0.895 < np.mean(shares) < 0.94 and np.mean(plain) < 0.87


def test_the_threshold_worked_by_hand():
    held_out = np.log([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])  # own: .9 .6 .7
    test = np.log([[0.95, 0.05], [0.65, 0.35], [0.5, 0.5]])
    sets = selective.conformal_sets(held_out, np.array([0, 0, 1]), test, 0.5)
    assert sets.tolist() == [[True, False], [False, False], [False, False]]  # at least .7
    everything = selective.conformal_sets(held_out, np.array([0, 0, 1]), test, 0.9)
    assert everything.all()  # three images cannot promise more than 3 in 4


def test_a_class_without_held_out_images_is_in_every_set():
    rng = np.random.default_rng(0)
    held_out, label = drawn(rng, 200, np.array([0.5, 0.5, 0.0]))
    test, test_label = drawn(rng, 3000, np.full(3, 1 / 3))
    weight = np.array([2 / 3, 2 / 3, np.inf])
    sets = selective.conformal_sets(held_out, label, test, 0.9, weight)
    assert sets[:, 2].all() and not sets[:, :2].all()
    known = test_label < 2
    assert selective.coverage(sets[known], test_label[known]) > 0.87


def test_the_order_of_images_says_nothing_where_confidences_are_equal():
    log_probs = np.log(np.tile([0.8, 0.2], (100, 1)))
    label = (np.arange(100) >= 80).astype(int)
    for one in (label, label[::-1]):
        assert selective.area_under_risk(log_probs, one) == pytest.approx(0.2)
