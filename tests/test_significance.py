"""Paired tests against numbers worked by hand, exact enumeration, and their own error rates."""

import itertools

import numpy as np
import pytest

from ltjax.analysis import significance


def pair(both, only, others_only, neither):
    right = [1] * (both + only) + [0] * (others_only + neither)
    other = [1] * both + [0] * only + [1] * others_only + [0] * neither
    return np.array(right, bool), np.array(other, bool)


@pytest.mark.parametrize(
    "only, others_only, expected",
    [(0, 0, 1.0), (5, 5, 1.0), (0, 6, 2 / 64), (1, 9, 2 * 11 / 1024), (10, 2, 2 * 79 / 4096)],
)
def test_mcnemar_is_the_exact_binomial(only, others_only, expected):
    assert significance.mcnemar(*pair(30, only, others_only, 7)) == pytest.approx(expected)
    assert significance.mcnemar(*pair(0, others_only, only, 0)) == pytest.approx(expected)


def test_signs_are_flipped_an_image_at_a_time():
    """Over 8 images all 256 patterns of signs can be gone through."""
    rng = np.random.default_rng(0)
    right, other = rng.integers(0, 2, (3, 8)), rng.integers(0, 2, (2, 8))
    values = right.mean(0) - other.mean(0)
    sums = [abs(np.dot(s, values)) for s in itertools.product([-1, 1], repeat=8)]
    exact = np.mean(np.array(sums) >= abs(values.sum()) - 1e-9)
    assert significance.p_value(right, other) == pytest.approx(exact, abs=0.02)
    assert significance.p_value(right, right) == 1.0
    assert significance.p_value(right[:1], other[:1]) == significance.mcnemar(right[0], other[0])


def test_copies_of_a_seed_say_no_more_than_one():
    """Three equal runs are one draw of images: taken for 3 N images, p would be far smaller."""
    right, other = pair(60, 14, 5, 21)
    once = significance.mcnemar(right, other)
    thrice = significance.p_value(np.stack([right] * 3), np.stack([other] * 3))
    assert thrice == pytest.approx(once, abs=0.02)
    found = significance.difference(np.stack([right] * 3), np.stack([other] * 3))
    assert found == significance.difference(right[None], other[None])


def test_the_interval_is_that_of_a_difference_of_proportions():
    right, other = pair(5000, 800, 600, 3600)
    found = significance.difference(right[None], other[None])
    values = right.astype(float) - other
    half = 1.96 * values.std() / 100
    assert found.estimate == pytest.approx(0.02)
    assert found.low == pytest.approx(0.02 - half, abs=3e-4)
    assert found.high == pytest.approx(0.02 + half, abs=3e-4)
    same = significance.difference(right[None], right[None])
    assert same == (0, 0, 0)


def test_of_equal_methods_few_are_called_different():
    rng = np.random.default_rng(1)
    skill = rng.random(400)
    p_values = []
    for number in range(200):
        right, other = (rng.random((2, 400)) < skill for _ in range(2))
        p_values.append(significance.p_value(right, other, seed=number))
    assert np.mean(np.array(p_values) < 0.05) < 0.08


def test_holm_worked_by_hand():
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.6, 0.7]) == [1.0, 1.0]
    assert significance.holm([]) == []
