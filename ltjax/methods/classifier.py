"""One network, one head, one loss: the baseline, and the expert that most methods are made of."""

import jax.numpy as jnp

from ltjax import phases
from ltjax.choices import pick
from ltjax.learner import Method, Step, Variables
from ltjax.losses import LOSSES
from ltjax.models import Network


def classifier(network: Network, loss_of, frozen: tuple[str, ...] = ()) -> Method:
    """Train a network through a loss of its logits.

    Args:
      network: from ltjax.models.
      loss_of: (logits f32[B, C], label i32[B]) -> f32[B], as in ltjax.losses.
      frozen: groups of params that stay as they are; their batch norm keeps its running statistics.
    """

    def init(key, batch):
        return Variables(*network.init(key, batch["image"]))

    def loss(variables, batch, key, progress):
        del key, progress
        (logits, _), stats = network.apply(variables, batch["image"], train=True, frozen=frozen)
        values = loss_of(logits, batch["label"])  # [B]
        right = (logits.argmax(-1) == batch["label"]).astype(values.dtype)
        weights = jnp.ones_like(values)
        return Step(values, weights, stats, variables.memory, {"accuracy": right})

    def predict(variables, batch):
        (logits, _), _ = network.apply(variables, batch["image"], train=False)
        return logits  # [B, C]

    return Method(init, loss, predict, frozen=frozen)


def recipe(settings, info, *, loss: str = "cross_entropy") -> tuple[phases.Phase, ...]:
    """Independent experts, each a classifier trained on the entire training set."""
    network = phases.network(settings, info)
    method = classifier(network, pick(LOSSES, loss, "config.method.loss"))
    return (phases.phase(settings, info, method, settings.num_experts),)
