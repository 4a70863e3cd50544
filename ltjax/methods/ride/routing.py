"""RIDE's second phase: a router learns which images need another head, all else is frozen.

Wang et al., ICLR 2021 ("expert assignment"), as in the authors' code.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import log_sigmoid

from ltjax.data.info import DataInfo
from ltjax.learner import LossOutput, Method, Prediction, Variables
from ltjax.methods.parts.features import features_of
from ltjax.methods.parts.several_heads import BRANCHED_GROUPS
from ltjax.models import SeveralHeads, cost
from ltjax.models import ride_router as router


def routed(
    network: SeveralHeads, num_heads: int, top_k: int, counts: np.ndarray, pos_weight: float = 100.0
) -> Method:
    """Train only the gates of a router; an image uses further heads while gates are above 0.

    Args:
      network: of K heads.
      num_heads: K, at least 2.
      top_k: as in ltjax.models.ride_router.
      counts: multiply-adds of an image that uses 1..K heads, [K]; reported are their means.
      pos_weight: of images that need another head, in the binary cross-entropy.
    """

    def features_and_logits(variables, batch):
        features = features_of(network, variables, batch["image"])
        return features, network.head(variables, features)

    def outputs(variables, batch):
        features, logits = features_and_logits(variables, batch)
        gates = router.gates(variables.params["router"], features[:-1], logits[:-1], top_k)
        return logits, gates

    def init(key, batch):
        key, router_key = jax.random.split(key)
        variables = Variables(*network.init(key, batch["image"]))
        found = jax.eval_shape(features_and_logits, variables, batch)
        before_last = [jnp.zeros((num_heads - 1, *of.shape[1:])) for of in found]
        gates = router.init(router_key, *before_last, top_k)
        return variables._replace(params=variables.params | {"router": gates})

    def loss(variables, batch, key, progress):
        del key, progress
        logits, gates = outputs(variables, batch)
        values = routing_loss(gates, needed(logits, batch["label"]), pos_weight)
        used = heads_used(gates)
        right = (routed_logits(logits, used).argmax(-1) == batch["label"]).astype(values.dtype)
        metrics = {"accuracy": right, "heads_used": used.astype(values.dtype)}
        return LossOutput(values, jnp.ones_like(values), variables.stats, variables.memory, metrics)

    def predict(variables, batch):
        logits, gates = outputs(variables, batch)
        used = heads_used(gates)
        spent = jnp.asarray(counts, jnp.float32)[used - 1]
        measures = {"heads_used": used.astype(jnp.float32), "multiply_adds_used": spent}
        return Prediction(routed_logits(logits, used), logits, measures)

    return Method(
        init,
        loss,
        predict,
        frozen=BRANCHED_GROUPS,
        combined="the mean of the logits of those heads that the router calls",
    )


def needed(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Whether an image needs a head after the i-th: the first i are wrong, more are right.

    f32[K, B, C], i32[B] -> bool[K - 1, B]. The first i heads say the largest of their mean logits.
    """
    right = jnp.cumsum(logits, 0).argmax(-1) == label  # [K, B]
    later = lax.cummax(right[1:].astype(jnp.int32), axis=0, reverse=True) > 0
    return ~right[:-1] & later


def routing_loss(gates: jax.Array, targets: jax.Array, pos_weight: float) -> jax.Array:
    """Binary cross-entropy, the mean over gates: f32[G, B], bool[G, B] -> f32[B]."""
    return -jnp.where(targets, pos_weight * log_sigmoid(gates), log_sigmoid(-gates)).mean(0)


def heads_used(gates: jax.Array) -> jax.Array:
    """One, and one more for each gate before the first that is not above 0: f32[G, B] -> i32[B]."""
    return 1 + jnp.cumprod(gates > 0, axis=0).sum(0)


def routed_logits(logits: jax.Array, used: jax.Array) -> jax.Array:
    """The mean over the heads that are used: f32[K, B, C], i32[B] -> f32[B, C]."""
    counts = (jnp.arange(len(logits))[:, None] < used)[..., None]  # [K, B, 1]
    return (logits * counts).sum(0) / used[:, None]


def multiply_adds(
    network: Callable[[int], SeveralHeads], info: DataInfo, num_heads: int, top_k: int
) -> np.ndarray:
    """What an image costs that uses 1..K heads: trunk, branches and the gates it meets, i64[K].

    Each head costs what the second does, and so does each gate: networks of one and of two heads
    are counted, whatever K.

    Args:
      network: a number of heads -> the network.
      info: of the training set.
      num_heads: K, at least 2.
      top_k: as in ltjax.models.ride_router.
    """
    image = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.float32)
    key = jax.random.key(0)

    def count(num_heads, num_gates):
        one = network(num_heads)

        def outputs(variables, image):
            features = features_of(one, variables, image)
            return features[:num_gates], one.head(variables, features)[:num_gates]

        def gates(params, variables, image):
            return router.gates(params, *outputs(variables, image), top_k)

        variables = Variables(*jax.eval_shape(one.init, key, image))
        seen = jax.eval_shape(outputs, variables, image)
        params = jax.eval_shape(lambda *seen: router.init(key, *seen, top_k), *seen)
        return cost.multiply_adds(gates, params, variables, image)

    first, second, gate_less = count(1, 1), count(2, 2), count(2, 1)
    costs = first + (second - first) * np.arange(num_heads)
    costs[-1] -= second - gate_less  # no gate follows the last head
    return costs
