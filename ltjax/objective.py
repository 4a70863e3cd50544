"""What a phase minimises: a loss, the weights of classes, and when in the phase each sets in."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.axes import example_keys
from ltjax.config import requires
from ltjax.config.choices import choose_with_start
from ltjax.config.settings import Settings
from ltjax.errors import FieldError
from ltjax.losses.classification import LOSSES, cross_entropy
from ltjax.losses.reweighting import REWEIGHTINGS

# (logits f32[B, C], label i32[B], key, progress) -> (values f32[B], weights f32[B])
Objective = Callable[..., tuple[jax.Array, jax.Array]]


def objective(settings: Settings, class_counts: np.ndarray) -> Objective:
    """The config's loss and re-weighting for a training set.

    Args:
      settings: `loss` and `reweight` are read. Before its `start` a loss is plain cross-entropy,
        and a re-weighting counts all examples alike.
      class_counts: i64[C].

    Returns:
      An Objective; it runs where the axis 'data' is bound.

    Raises:
      UserError: if an option is wrong, or the loss does not fit the network's head.
    """
    loss_start, make_loss = choose_with_start(LOSSES, "loss", **settings.loss)
    weights_start, make_weights = choose_with_start(REWEIGHTINGS, "reweight", **settings.reweight)
    requires.check(LOSSES[settings.loss["name"]], settings)
    divide_by = settings.loss.get("divide_by")
    if divide_by is not None and settings.reweight["name"] == "none":
        why = "without re-weighting all weights are 1, so it does nothing; leave it out"
        raise FieldError("loss.divide_by", divide_by, why)
    loss, before = make_loss(class_counts), cross_entropy(class_counts)
    by_class = make_weights(class_counts)

    def values_and_weights(logits, label, key, progress):
        weight = jnp.asarray(by_class, logits.dtype)[label]  # [B]
        weight = jnp.where(progress >= weights_start, weight, 1)
        keys = example_keys(key, len(label))
        found = loss(logits, label, weight, keys)
        if loss_start:
            plain = before(logits, label, weight, keys)
            found = jax.tree.map(lambda x, y: jnp.where(progress >= loss_start, x, y), found, plain)
        return found

    return values_and_weights
