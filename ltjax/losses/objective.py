"""What a phase minimises: a loss and the weights of classes, each of which may start late."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.axes import example_keys
from ltjax.errors import UserError
from ltjax.losses.classification import Loss

# (logits f32[B, C], label i32[B], key, progress) -> (values f32[B], weights f32[B])
Objective = Callable[..., tuple[jax.Array, jax.Array]]


def objective(
    loss: Loss,
    weights: np.ndarray,
    loss_start: float = 0.0,
    weights_start: float = 0.0,
    before: Loss | None = None,
) -> Objective:
    """A loss with weights of classes.

    Args:
      loss: a row of ltjax.losses.classification.LOSSES, made of the class counts.
      weights: f64[C], of classes; all weights are 1 until `weights_start`.
      loss_start: fraction of the phase at which the loss starts.
      weights_start: the same for the weights.
      before: the loss until `loss_start`; not used if that is 0.

    Returns:
      An Objective; it runs where the axis 'data' is bound.
    """

    def values_and_weights(logits, label, key, progress):
        weight = jnp.asarray(weights, logits.dtype)[label]  # [B]
        weight = jnp.where(progress >= weights_start, weight, 1)
        keys = example_keys(key, len(label))
        found = loss(logits, label, weight, keys)
        _check(found, label)
        if loss_start:
            plain = before(logits, label, weight, keys)
            found = jax.tree.map(lambda x, y: jnp.where(progress >= loss_start, x, y), found, plain)
        return found

    return values_and_weights


def _check(found, label):
    """Refuse the outputs of a loss of one's own that are not a value and a weight an example."""
    if not isinstance(found, tuple) or [jnp.shape(x) for x in found] != [label.shape] * 2:
        given = ", ".join(str(jnp.shape(x)) for x in jax.tree.leaves(found))
        raise UserError(
            f"The loss returns arrays of shapes {given}; it must return a tuple of two, values and "
            f"weights, each of shape {label.shape}: one number for each example."
        )
