"""Joint experts: the counterpart of independent ones that shows what independence is worth.

The same networks, but trained as one: on the same batches, through the loss of their averaged
logits. Nothing then asks a single network to be right by itself, or to differ from the others.
"""

import jax
import jax.numpy as jnp

from ltjax import phases
from ltjax.choices import pick
from ltjax.experts import over_experts
from ltjax.learner import Method, Step, Variables
from ltjax.losses import LOSSES
from ltjax.models import Network


def joint(network: Network, num_networks: int, loss_of, over: str) -> Method:
    """Train several networks through the loss of their averaged logits.

    Args:
      network: from ltjax.models; every leaf of params and stats gets a leading axis K.
      num_networks: K.
      loss_of: (logits f32[B, C], label i32[B]) -> f32[B], as in ltjax.losses.
      over: how the networks are compiled; see ltjax.experts.over_experts.
    """

    def logits_of(variables, image, train):
        def one(own):
            (logits, _), stats = network.apply(own, image, train=train)
            return logits, stats

        logits, stats = over_experts(one, (0,), over)(variables._replace(memory=()))
        return logits.mean(0), stats  # [B, C]

    def init(key, batch):
        keys = jax.random.split(key, num_networks)
        return Variables(*jax.vmap(lambda key: network.init(key, batch["image"]))(keys))

    def loss(variables, batch, key, progress):
        del key, progress
        logits, stats = logits_of(variables, batch["image"], train=True)
        values = loss_of(logits, batch["label"])  # [B]
        right = (logits.argmax(-1) == batch["label"]).astype(values.dtype)
        return Step(values, jnp.ones_like(values), stats, variables.memory, {"accuracy": right})

    def predict(variables, batch):
        return logits_of(variables, batch["image"], train=False)[0]

    return Method(init, loss, predict)


def recipe(settings, info, *, loss: str = "cross_entropy") -> tuple[phases.Phase, ...]:
    """One model of config.num_experts networks; to evaluation it is a single expert."""
    network = phases.network(settings, info)
    loss_of = pick(LOSSES, loss, "config.method.loss")
    method = joint(network, settings.num_experts, loss_of, settings.mesh.experts_over)
    return (phases.phase(settings, info, method, 1),)
