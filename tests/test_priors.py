"""Test sets of other class frequencies, on classes whose true posteriors are known."""

import numpy as np
import pytest

from ltjax.analysis import priors

MEANS = np.array([-1.5, 0.0, 1.5])


def posteriors(x, prior):
    """Of three normal distributions, f64[N, C]."""
    density = np.exp(-((x[:, None] - MEANS) ** 2) / 2) * prior
    return np.log(density / density.sum(-1, keepdims=True))


def drawn(prior, size, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.choice(3, size, p=prior)
    return MEANS[label] + rng.normal(size=size), label


SOURCE = np.array([0.7, 0.2, 0.1])


def test_predictions_for_another_prior_are_bayes_rule():
    x, _ = drawn(SOURCE, 50)
    target = np.array([0.1, 0.3, 0.6])
    found = priors.shifted(posteriors(x, SOURCE), SOURCE, target)
    np.testing.assert_allclose(found, posteriors(x, target), rtol=1e-9)
    without = priors.shifted(posteriors(x, SOURCE), SOURCE, np.array([0.5, 0.5, 0.0]))
    assert (without[:, 2] == -np.inf).all() and np.isfinite(without[:, :2]).all()


@pytest.mark.parametrize("target", [(0.1, 0.3, 0.6), (1 / 3, 1 / 3, 1 / 3), (0.9, 0.05, 0.05)])
def test_an_unknown_prior_is_found_without_labels(target):
    x, label = drawn(np.array(target), 20_000)
    found = priors.estimated(posteriors(x, SOURCE), SOURCE)
    np.testing.assert_allclose(found, np.bincount(label) / len(label), atol=0.015)
    assert found.sum() == pytest.approx(1)


def test_a_step_is_the_mean_of_the_shifted_predictions():
    x, _ = drawn(SOURCE, 50)
    once = priors.estimated(posteriors(x, SOURCE), SOURCE, most_steps=1)
    np.testing.assert_allclose(once, np.exp(posteriors(x, SOURCE)).mean(0), rtol=1e-9)
    twice = priors.estimated(posteriors(x, SOURCE), SOURCE, most_steps=2)
    shifted = priors.shifted(posteriors(x, SOURCE), SOURCE, once)
    np.testing.assert_allclose(twice, np.exp(shifted).mean(0), rtol=1e-9)


def test_weights_count_as_copies_do():
    x, _ = drawn(SOURCE, 60)
    times = np.arange(60) % 3
    copies = priors.estimated(posteriors(np.repeat(x, times), SOURCE), SOURCE)
    np.testing.assert_allclose(
        priors.estimated(posteriors(x, SOURCE), SOURCE, times), copies, atol=1e-6
    )


def test_long_tails_fall_or_rise_by_the_factor():
    forward, backward = priors.long_tailed(10, 50), priors.long_tailed(10, 50, backward=True)
    assert forward[0] / forward[-1] == pytest.approx(50) and forward.sum() == pytest.approx(1)
    np.testing.assert_array_equal(backward, forward[::-1])
    np.testing.assert_allclose(np.diff(np.log(forward)), -np.log(50) / 9)
    np.testing.assert_allclose(priors.long_tailed(1, 50), [1])


def test_accuracy_under_a_prior_is_that_of_a_set_drawn_by_it():
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(3), 100)
    prediction = np.where(rng.random(300) < 0.6, label, (label + 1) % 3)
    prior = np.array([0.5, 0.3, 0.2])
    kept = np.concatenate([np.flatnonzero(label == c)[::1] for c in range(3)])
    rights = [(prediction[label == c] == c).mean() for c in range(3)]
    assert priors.accuracy(prediction, label, prior) == pytest.approx(prior @ rights)
    weights = priors.weights_of(label, prior)
    assert np.average(prediction[kept] == label[kept], weights=weights) == pytest.approx(
        prior @ rights
    )
    assert weights.mean() == pytest.approx(1)
    balanced = priors.accuracy(prediction, label, priors.uniform(3))
    assert balanced == pytest.approx((prediction == label).mean())
