"""Losses, one value per example; the learner averages them over the batch and over devices."""

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Softmax cross-entropy, logsumexp(z) - z_y.

    Args:
      logits: f32[B, C].
      label: i32[B], each in [0, C).

    Returns:
      f32[B], in nats.
    """
    own = jnp.take_along_axis(logits, label[:, None], axis=-1)[:, 0]
    return jax.nn.logsumexp(logits, axis=-1) - own


LOSSES = {"cross_entropy": cross_entropy}
