"""A loss and the weights of classes count from when they are said to start, and not before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.axes import DATA
from ltjax.errors import UserError
from ltjax.losses.objective import objective

WEIGHTS = np.array([2.0, 3.0])
LABEL = jnp.array([1, 0, 1])


def one_each(logits, label, weight, keys):
    """A loss of 1 for every example, which divides by the sum of weights."""
    return jnp.ones_like(weight), weight


def four_each(logits, label, weight, keys):
    """A loss of 4, which divides by the number of examples."""
    return 4 * weight, jnp.ones_like(weight)


def at(progress, aim):
    """(values, weights) of three examples at a time of the phase, on one device."""

    def run(logits):
        return aim(logits, LABEL, jax.random.key(0), jnp.float32(progress))

    values, weights = jax.vmap(run, axis_name=DATA)(jnp.zeros((1, 3, 2)))
    return values[0].tolist(), weights[0].tolist()


def test_without_a_start_loss_and_weights_count_from_the_beginning():
    assert at(0, objective(one_each, WEIGHTS)) == ([1, 1, 1], [3, 2, 3])


@pytest.mark.parametrize("progress, weights", [(0, 1), (0.79, 1), (0.8, WEIGHTS), (1, WEIGHTS)])
def test_weights_are_one_until_they_start(progress, weights):
    found = at(progress, objective(one_each, WEIGHTS, weights_start=0.8))
    assert found == ([1, 1, 1], np.broadcast_to(weights, 2)[LABEL].tolist())


@pytest.mark.parametrize("progress, late", [(0, False), (0.49, False), (0.5, True), (1, True)])
def test_a_loss_that_starts_late_is_another_before(progress, late):
    aim = objective(one_each, WEIGHTS, loss_start=0.5, before=four_each)
    assert at(progress, aim) == (([1, 1, 1], [3, 2, 3]) if late else ([12, 8, 12], [1, 1, 1]))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda logits, label, weight, keys: (jnp.mean(logits), weight),
        lambda logits, label, weight, keys: (logits, weight),
        lambda logits, label, weight, keys: weight,
        lambda logits, label, weight, keys: None,
    ],
)
def test_a_loss_without_a_value_and_a_weight_an_example_is_refused(wrong):
    with pytest.raises(UserError, match=r"each of shape \(3,\): one number for each example"):
        at(0, objective(wrong, WEIGHTS))


def test_both_losses_draw_from_a_key_for_each_example():
    def drawn(logits, label, weight, keys):
        return jax.vmap(jax.random.uniform)(keys), weight

    aim = objective(drawn, WEIGHTS, loss_start=0.5, before=drawn)
    early, late = (at(progress, aim)[0] for progress in (0, 1))
    assert len(set(early)) == 3 and early == late
