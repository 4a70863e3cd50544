"""What methods record in a pass over images without gradients (build.passes)."""

import jax
import jax.numpy as jnp
from jax import lax

from ltjax.axes import DATA
from ltjax.learner import Batch, LossOutput, Variables


def one_hot_if_any(batch: Batch, num_classes: int) -> jax.Array:
    """f32[B, C] labels, zero for padding of a batch (index -1)."""
    own = jax.nn.one_hot(batch["label"], num_classes)
    return own * (batch["index"] >= 0)[:, None]


def added(memory: dict, adds: dict) -> dict:
    """The memory plus the sums over the whole batch.

    Args:
      memory: {name: sums}, and perhaps more.
      adds: {name: sums} of this device's share of the batch.
    """
    adds = lax.psum(adds, DATA)
    return memory | {name: memory[name] + add for name, add in adds.items()}


def remembering(variables: Variables, adds: dict) -> LossOutput:
    """A step that only adds to its memory; see `added`."""
    memory = added(variables.memory, adds)
    return LossOutput(jnp.zeros(1), jnp.ones(1), variables.stats, memory, {})


def written(held: jax.Array, batch: Batch, found: jax.Array) -> jax.Array:
    """Numbers of each image, those of the whole batch written at their positions.

    Args:
      held: [N, ...].
      batch: its 'index' i32[B] says where; -1 is padding and is left out.
      found: [B, ...], of this device's share of the batch.
    """
    found, index = lax.all_gather((found, batch["index"]), DATA, tiled=True)
    place = jnp.where(index < 0, len(held), index)  # a position after the end is dropped
    return held.at[place].set(found, mode="drop")
