"""Numbers of classes, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from ltjax.analysis import recall

RNG = np.random.default_rng(0)
LABEL = RNG.choice(5, 300, p=[0.5, 0.2, 0.15, 0.1, 0.05])
PREDICTION = np.where(RNG.random(300) < 0.6, LABEL, RNG.integers(5, size=300))


def test_numbers_are_those_of_scikit_learn():
    found = recall.per_class(PREDICTION, LABEL, 5)
    np.testing.assert_allclose(found, recall_score(LABEL, PREDICTION, average=None))
    assert found.mean() == pytest.approx(balanced_accuracy_score(LABEL, PREDICTION))
    assert recall.worst(found) == found.min()
    assert recall.geometric_mean(found) == pytest.approx(found.prod() ** (1 / 5))
    f1 = recall.macro_f1(PREDICTION, LABEL, 5)
    assert f1 == pytest.approx(f1_score(LABEL, PREDICTION, average="macro"))


def test_classes_without_images_do_not_count_and_one_never_right_does():
    label, prediction = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2])
    found = recall.per_class(prediction, label, 4)
    np.testing.assert_array_equal(found, [0.5, np.nan, 1, np.nan])
    assert recall.worst(found) == 0.5
    assert recall.geometric_mean(found) == pytest.approx(0.5**0.5)
    expected = f1_score(label, prediction, average="macro")
    assert recall.macro_f1(prediction, label, 4) == pytest.approx(expected)
    assert recall.geometric_mean(np.array([0.0, 1.0])) == 0
