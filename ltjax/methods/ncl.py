"""NCL: complete networks that learn together, each also from the outputs of the others.

Li et al., "Nested Collaborative Learning for Long-Tailed Visual Recognition", CVPR 2022. Every
network is trained by balanced softmax on all classes and once more on the hard ones, and is drawn
to the softmax outputs of the others in both.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import log_softmax, softmax

from ltjax import build, phases, sizes
from ltjax.config.requires import requires_defaults
from ltjax.errors import FieldError
from ltjax.experts import best_over
from ltjax.limits import at_least, at_most
from ltjax.methods.parts.several_heads import OWN_LOSS, HeadsLoss, nll_of_heads, several, through


@requires_defaults("loss", "reweight", because=OWN_LOSS)
def recipe(
    settings,
    info,
    *,
    num_heads: Annotated[int, at_least(2), at_most(64)] = 3,
    num_hard: Annotated[int, at_least(0), at_most(1_000_000)] = 0,
    factor: Annotated[float, at_least(0), at_most(100)] = 0.6,
    factor_hard: Annotated[float, at_least(0), at_most(100)] = 0.6,
) -> tuple[phases.Phase, ...]:
    """Complete networks that teach each other, on all classes and on the hard ones.

    Li et al. (NCL), CVPR 2022.

    Args:
      settings: of the phase; each of its num_experts is one such group of networks.
      info: of the training set.
      num_heads: K, networks that learn together.
      num_hard: classes in the second half of the loss, the own one included; 0 means 0.3 C,
        the authors' 30 of CIFAR-100 and 300 of ImageNet-LT.
      factor: of what the networks learn from each other on all classes.
      factor_hard: the same, on the hard classes.
    """
    num_hard = num_hard or max(2, round(0.3 * info.num_classes))
    if num_hard > info.num_classes:
        why = f"it must be at most {info.num_classes}, the number of classes"
        raise FieldError("num_hard", num_hard, why)
    sizes.check_heads(settings, num_heads)
    networks = several(build.network(settings, info), num_heads, best_over(settings.compute))
    loss = nested(info.class_counts, num_hard, factor, factor_hard)
    method = through(networks, loss, settings, info)
    return (build.phase(settings, info, method),)


def nested(class_counts, num_hard: int, factor: float, factor_hard: float) -> HeadsLoss:
    """The loss of NCL, for logits f32[K, B, C] of K networks.

    Li et al., CVPR 2022, as in the authors' code. With z~ = z + log n, and z^ = z~ on the hard
    classes, it is

      sum_k [CE(z~_k) + CE(z^_k)] + factor D(z~) + factor_hard D(z^),

    where D is `disagreement`. Classes that are not hard stay in the softmax of z^, with logit 0,
    and all networks take the hard classes of the first, whose logits z alone choose them.

    Args:
      class_counts: i64[C].
      num_hard: how many classes are hard, the own one included.
      factor, factor_hard: of D.
    """
    shift = np.log(np.asarray(class_counts, np.float64))

    def loss(logits, label):
        every = logits + jnp.asarray(shift, logits.dtype)
        hard = jnp.where(hard_classes(logits[0], label, num_hard), every, 0)
        own = nll_of_heads(every, label) + nll_of_heads(hard, label)
        return own.sum(0) + factor * disagreement(every) + factor_hard * disagreement(hard)

    return loss


def hard_classes(logits: jax.Array, label: jax.Array, num_hard: int) -> jax.Array:
    """The own class and the highest-scoring others: f32[B, C], i32[B] -> bool[B, C]."""
    classes = jnp.arange(logits.shape[-1])
    own_first = jnp.where(classes == label[:, None], jnp.inf, logits)
    _, chosen = lax.top_k(own_first, num_hard)  # [B, num_hard]
    return (chosen[..., None] == classes).any(1)


def disagreement(logits: jax.Array) -> jax.Array:
    """The sum over ordered pairs of heads of KL(p_j | p_i), over K - 1: f32[K, B, C] -> f32[B].

    Gradients flow into both sides of each pair, as in the authors' code, which also adds 1e-9 to
    probabilities before their logarithm is taken.
    """
    log_p, log_q = log_softmax(logits), jnp.log(softmax(logits) + 1e-9)
    kl = (jnp.exp(log_p)[:, None] * (log_p[:, None] - log_q)).sum(-1)  # [K, K, B]
    num_heads = len(logits)
    return kl.sum((0, 1), where=~np.eye(num_heads, dtype=bool)[..., None]) / (num_heads - 1)
