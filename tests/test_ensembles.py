"""Averages of experts, by hand, and over subsets."""

import itertools

import numpy as np
import pytest

from ltjax.analysis import ensembles

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3, size=(4, 50, 5)).astype(np.float32)
LABEL = RNG.integers(5, size=50)


def softmax(logits):
    exp = np.exp(np.asarray(logits, np.float64))
    return exp / exp.sum(-1, keepdims=True)


def test_averages_are_of_softmax_outputs_or_of_logits():
    probs = softmax(LOGITS)
    np.testing.assert_allclose(np.exp(ensembles.average(LOGITS)), probs.mean(0), rtol=1e-12)
    of_logits = np.exp(ensembles.average(LOGITS, "logits"))
    np.testing.assert_allclose(of_logits, softmax(np.float64(LOGITS).mean(0)), rtol=1e-12)
    tiny = ensembles.average(np.array([[[0.0, -2000.0]], [[0.0, -2000.0]]]))
    np.testing.assert_allclose(tiny, [[0.0, -2000.0]])


@pytest.mark.parametrize("combine", ["probs", "logits"])
def test_accuracy_by_number_is_over_all_subsets(combine):
    found = ensembles.by_number(LOGITS, LABEL, combine)
    assert [one.subsets for one in found] == [4, 6, 4, 1]
    for one in found:
        right = [
            (ensembles.average(LOGITS[list(subset)], combine).argmax(-1) == LABEL).mean()
            for subset in itertools.combinations(range(4), one.number)
        ]
        assert one.mean == pytest.approx(np.mean(right))
        expected = np.std(right, ddof=1) if len(right) > 1 else None
        assert one.deviation == (expected and pytest.approx(expected))


def test_of_very_many_subsets_different_ones_are_drawn():
    found = list(ensembles.subsets(20, 10))
    assert len(set(found)) == len(found) == ensembles.MOST_SUBSETS
    assert all(len(set(one)) == 10 and max(one) < 20 for one in found)
    assert found == list(ensembles.subsets(20, 10)) != list(ensembles.subsets(20, 10, seed=1))


def test_disjoint_groups_share_no_expert():
    assert [list(group) for group in ensembles.disjoint(9, 3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert [list(group) for group in ensembles.disjoint(5, 2)] == [[0, 1], [2, 3]]
    assert ensembles.disjoint(2, 3) == []
