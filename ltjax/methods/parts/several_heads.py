"""Parts for methods whose network has several heads.

For the rest of the library, such a network is one expert: it predicts the mean of its heads'
logits, and each head is also reported alone.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import build, sizes
from ltjax.experts import best_over, over_experts
from ltjax.learner import Batch, Method, Prediction, Variables
from ltjax.losses.classification import nll
from ltjax.losses.mixing import Mixing
from ltjax.methods.classifier import classifier, logits_with
from ltjax.methods.parts import requirements as needs
from ltjax.models import Network, SeveralHeads, branches
from ltjax.models.parts import pooled

BRANCHED_GROUPS = ("backbone", "branches", "head")  # of the params of a branched network

OWN_LOSS = "has a loss of its own"  # the reason to refuse other losses and weights

# As ltjax.losses.objective.Objective, of the logits of all heads: (logits f32[K, B, C],
# label i32[B], key, progress) -> (values f32[B], weights f32[B]).
HeadsObjective = Callable
# One that needs neither key nor progress, and weighs no example: (logits, label) -> values f32[B].
HeadsLoss = Callable[[jax.Array, jax.Array], jax.Array]


def branched(settings, info, num_heads: int, reduced: bool) -> SeveralHeads:
    """The config's network with one trunk and K heads; see ltjax.models.branches.

    Raises:
      UserError: if it cannot branch, or if all experts together have too many heads.
    """
    sizes.check_heads(settings, num_heads)
    network = needs.network_of_stages(settings, info)
    each = functools.partial(over_experts, over=best_over(settings.compute))
    return branches.branched(network, num_heads, reduced, each)


def several(network: Network, num_networks: int, over: str) -> SeveralHeads:
    """Several complete networks on the same images as one network of as many heads.

    Args:
      network: from ltjax.models; every leaf of params and stats gets a leading axis K.
      num_networks: K.
      over: how the networks are compiled; see ltjax.experts.over_experts.
    """

    def init(key, image):
        keys = jax.random.split(key, num_networks)
        return jax.vmap(lambda key: network.init(key, image))(keys)

    def features(variables, image, train, frozen=()):
        def one(own):
            maps, stats = network.maps(own, image, train, frozen)
            return pooled(maps), stats

        return over_experts(one, over)(variables._replace(memory=()))

    def head(variables, features):
        return over_experts(network.head, over)(variables._replace(memory=()), features)

    return SeveralHeads(init, features, head)


def many_headed(
    network: SeveralHeads, objective: HeadsObjective, mixing: Mixing | None = None
) -> Method:
    """Train all heads of a network through one objective; predict the mean of their logits."""
    return classifier(network, objective, mixing)._replace(predict=mean_of_heads(network))


def mean_of_heads(network: SeveralHeads) -> Callable[[Variables, Batch], Prediction]:
    """The `predict` of a method whose logits are the mean of those of a network's heads."""
    heads = logits_with(network)

    def predict(variables, batch):
        each = heads(variables, batch)  # [K, B, C]
        return Prediction(each.mean(0), each)

    return predict


def through(network: SeveralHeads, loss: HeadsLoss, settings, info) -> Method:
    """Train a network of several heads through a loss of all their logits.

    Args:
      network: of K heads.
      loss: the method's own; its mean over examples is minimised.
      settings: its mixing is applied to the images of all heads alike.
      info: of the training set.

    """

    def objective(logits, label, key, progress):
        del key, progress
        values = loss(logits, label)
        return values, jnp.ones_like(values)

    return many_headed(network, objective, build.mixing(settings, info))


def shifted(by: np.ndarray, over_heads: Callable) -> HeadsLoss:
    """The sum or mean over heads of CE(z_k + by_k).

    Args:
      by: [K, C].
      over_heads: jnp.sum or jnp.mean.
    """

    def loss(logits, label):
        moved = logits + jnp.asarray(by, logits.dtype)[:, None]
        return over_heads(nll_of_heads(moved, label), axis=0)

    return loss


def log_shares(shares: np.ndarray) -> np.ndarray:
    """log(p_c + 1e-9), f64[C], of the shares of classes; the 1e-9 is SADE's and BalPoE's code's."""
    return np.log(shares + 1e-9)


# Cross-entropy of each head: f32[K, B, C], i32[B] -> f32[K, B].
nll_of_heads = jax.vmap(nll, (0, None))
