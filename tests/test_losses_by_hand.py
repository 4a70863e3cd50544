"""Losses and class weights worked by hand, and their numbers without options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import classification as losses
from ltjax.losses.classification import LOSSES
from ltjax.losses.reweighting import REWEIGHTINGS, cost_sensitive, effective_number


def test_without_options_margins_are_at_most_a_half_in_cosines():
    loss = LOSSES["ldam"](np.array([160, 10]), 2.0)  # margins 1/4 and 1/2, so 1/2 and 1 in logits
    label = np.array([0, 1])
    values, weights = loss(jnp.zeros((2, 2)), label, jnp.ones(2), None)
    np.testing.assert_allclose(values, np.log(1 + np.exp([0.5, 1.0])), rtol=1e-6)
    np.testing.assert_array_equal(weights, 1)


def test_without_options_class_weights_have_the_numbers_of_their_source():
    counts = np.array([5000, 500, 50])
    np.testing.assert_allclose(cost_sensitive(counts), [0.01, 0.1, 1.0])
    np.testing.assert_array_equal(effective_number(counts), effective_number(counts, beta=0.9999))


def test_no_reweighting_gives_every_class_weight_one():
    np.testing.assert_array_equal(REWEIGHTINGS["none"](np.array([9, 3, 1])), [1, 1, 1])


def test_divergence_worked_by_hand():
    p, q = np.array([0.75, 0.25]), np.array([0.5, 0.5])
    of, other = (jnp.log(jnp.array(x))[:, None] for x in ([p, q, p], [q, p, p]))  # [3, 1, 2]
    found = losses.divergence(of, other)[:, 0]
    there, back = 0.75 * np.log(1.5) + 0.25 * np.log(0.5), 0.5 * np.log(4 / 3)
    np.testing.assert_allclose(found, [there, back, 0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "shape, middle", [("concave", 0.5**0.5), ("linear", 0.5), ("convex", 1 - 0.5**0.5)]
)
def test_smoothing_goes_from_the_smallest_class_to_the_largest(shape, middle):
    found = losses.smoothing(np.array([90, 10, 50]), head=0.4, tail=0.1, shape=shape)
    np.testing.assert_allclose(found, [0.4, 0.1, 0.1 + 0.3 * middle])
    balanced = losses.smoothing(np.array([7, 7]), head=0.4, tail=0.1, shape=shape)
    np.testing.assert_allclose(balanced, 0.4)


def test_a_class_with_exactly_the_limiting_share_is_not_tail():
    np.testing.assert_array_equal(losses.tail(np.array([901, 50, 49]), 0.05), [False, False, True])


def test_without_options_equalization_leaves_out_classes_below_half_a_percent():
    loss = LOSSES["equalization"](np.array([9900, 55, 45]))
    label = np.repeat([0, 1, 2], 4000)
    keys = jax.random.split(jax.random.key(2), len(label))
    values, _ = loss(jnp.zeros((len(label), 3)), label, jnp.ones(len(label)), keys)
    left = 3 - np.round(np.exp(values))
    # five standard deviations of a mean of 4,000 draws are below 0.024
    np.testing.assert_allclose(left.reshape(3, 4000).mean(1), [0.9, 0.9, 0], atol=0.024)
