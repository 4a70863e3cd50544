"""Losses: a row of LOSSES makes one of the class counts, and it gives one value per example.

A loss is (logits f32[B, C], label i32[B], weight f32[B], keys) -> (values f32[B], weights f32[B]).
`weight` is that of the example's class, ones without re-weighting (`ltjax.losses.reweighting`);
`keys` are key[B], one an example. What is minimised is sum(values * weights) / sum(weights) over
the batch: a loss that divides by the sum of weights returns them, as PyTorch's weighted
cross-entropy does; one that divides by the number of examples folds them into its values and
returns ones. The authors' codes differ in this, and every docstring says which it is.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_softmax, softplus

from ltjax.config.requires import requires_head
from ltjax.errors import FieldError
from ltjax.limits import above, at_least, at_most, below, one_of, only_with

NotNegative = Annotated[float, at_least(0), at_most(100)]
Loss = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def nll(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Softmax cross-entropy in nats, logsumexp(z) - z_y: f32[B, C], i32[B] -> f32[B]."""
    return jax.nn.logsumexp(logits, axis=-1) - _own(logits, label)


def divergence(logits: jax.Array, other: jax.Array) -> jax.Array:
    """KL(softmax(logits) | softmax(other)) in nats, along the last axis: f[..., C] -> f[...]."""
    log_p = jax.nn.log_softmax(logits)
    return (jnp.exp(log_p) * (log_p - jax.nn.log_softmax(other))).sum(-1)


def cross_entropy(
    class_counts: np.ndarray,
    *,
    divide_by: Annotated[str, one_of("weights", "examples")] = "weights",
) -> Loss:
    """Softmax cross-entropy.

    Re-weighted, it is that of LDAM-DRW's code and, divided by the number of examples, that of the
    class-balanced loss's.

    Args:
      class_counts: i64[C]; not used.
      divide_by: "weights", the sum of weights (PyTorch), or "examples", their number (TensorFlow).
    """
    del class_counts
    return _over_weights(nll) if divide_by == "weights" else _over_examples(nll)


def label_smoothing(
    class_counts: np.ndarray, *, epsilon: Annotated[float, at_least(0), below(1)] = 0.1
) -> Loss:
    """Cross-entropy with the target (1 - epsilon) one-hot + epsilon / C.

    Szegedy et al., CVPR 2016, section 7. epsilon = 0.1 as in Bag of Tricks' code (AAAI 2021).
    """
    return _over_weights(smoothed(np.full(len(class_counts), epsilon)))


def label_aware_smoothing(
    class_counts: np.ndarray,
    *,
    head: Annotated[float, at_least(0), below(1)] = 0.4,
    tail: Annotated[float, at_least(0), below(1)] = 0.1,
    shape: Annotated[str, one_of("concave", "linear", "convex")] = "concave",
) -> Loss:
    """Label smoothing that is stronger for larger classes.

    Zhong et al. (MiSLAS), CVPR 2021, section 3.2: epsilon_y goes from `tail` for the smallest class
    to `head` for the largest. With r = (n_y - n_min) / (n_max - n_min) it is
    tail + (head - tail) sin(pi r / 2) if `shape` is "concave", tail + (head - tail) r if "linear",
    head + (head - tail) sin(3 pi / 2 + pi r / 2) if "convex". The mean over classes is inside, as
    in the authors' code: (1 - epsilon_y) CE + epsilon_y mean_k(-log p_k).
    """
    if head == tail and shape != "concave":
        raise FieldError("shape", shape, "it has no effect where head and tail are equal")
    return _over_weights(smoothed(smoothing(class_counts, head, tail, shape)))


def smoothing(class_counts: np.ndarray, head: float, tail: float, shape: str) -> np.ndarray:
    """epsilon_y of label-aware smoothing, f64[C]; balanced classes all get `head`."""
    counts = np.asarray(class_counts, np.float64)
    r = (counts - counts.min()) / np.ptp(counts) if np.ptp(counts) else np.ones_like(counts)
    if shape == "concave":
        return tail + (head - tail) * np.sin(np.pi * r / 2)
    if shape == "linear":
        return tail + (head - tail) * r
    return head + (head - tail) * np.sin(1.5 * np.pi + np.pi * r / 2)


def smoothed(epsilon: np.ndarray) -> Callable:
    """(logits, label) -> (1 - epsilon_y) CE + epsilon_y mean_k(-log p_k), epsilon f64[C]."""

    def values(logits, label):
        eps = jnp.asarray(epsilon, logits.dtype)[label]
        return (1 - eps) * nll(logits, label) - eps * log_softmax(logits).mean(-1)

    return values


def focal(class_counts: np.ndarray, *, gamma: NotNegative = 2.0) -> Loss:
    """Focal loss over C sigmoids: easy decisions count less.

    Lin et al., ICCV 2017, equation 4: the sum over classes of (1 - p_t)^gamma BCE, without alpha;
    gamma = 0 is the plain sum of binary cross-entropies. Divided by the number of examples; weights
    multiply all C terms of an example, which is class-balanced focal loss (Cui et al., CVPR 2019,
    equation 13). The modulator is computed as exp(-gamma (Y z + softplus(-z))), because a power of
    1 - p_t has no gradient where the sigmoid saturates. Predictions are still argmax z.
    """
    del class_counts

    def values(logits, label):
        y = jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)
        # with one-hot y: -log p_t is softplus(-z) for the own class and softplus(z) for others,
        # and -log(1 - p_t) is the same with the sign of z turned
        own = jnp.where(y > 0, logits, -logits)
        return (jnp.exp(-gamma * softplus(own)) * softplus(-own)).sum(-1)

    return _over_examples(values)


def sigmoid(class_counts: np.ndarray) -> Loss:
    """The sum of C binary cross-entropies, focal loss with gamma = 0.

    Re-weighted, class-balanced sigmoid loss (Cui et al., CVPR 2019); divided by the number of
    examples. The authors' code also starts the last bias at -log(C - 1); here it does not.
    """
    return focal(class_counts, gamma=0.0)


def focal_softmax(class_counts: np.ndarray, *, gamma: NotNegative = 1.0) -> Loss:
    """Focal loss on the softmax, (1 - p)^gamma CE with p = exp(-CE).

    The form of LDAM-DRW's code (Cao et al., NeurIPS 2019), where gamma is 1; a plain mean over
    examples. With weights its p comes from the *weighted* cross-entropy, as here.
    """
    del class_counts

    def loss(logits, label, weight, keys):
        del keys
        ce = weight * nll(logits, label)
        easy = jnp.maximum(-jnp.expm1(-ce), 1e-12)  # a power has no gradient at 0
        return easy**gamma * ce, jnp.ones_like(ce)

    return loss


@requires_head("cosine", because="the margins of loss 'ldam' are in cosines")
def ldam(
    class_counts: np.ndarray,
    scale: float,
    *,
    max_margin: NotNegative = 0.5,
) -> Loss:
    """Label-distribution-aware margins: cross-entropy of s (cos - margin_y of the own class).

    Cao et al., NeurIPS 2019, equations 10 to 13. Margins grow as n_j^(-1/4), up to `max_margin` for
    the smallest class. Divided by the sum of weights.

    Args:
      class_counts: i64[C].
      scale: s, by which the head (`network.head = "cosine"`) has multiplied its cosines.
      max_margin: in cosines.
    """
    margins = scale * ldam_margins(class_counts, max_margin)

    def values(logits, label):
        return nll(_at_label(logits, label, -jnp.asarray(margins, logits.dtype)), label)

    return _over_weights(values)


def ldam_margins(class_counts: np.ndarray, max_margin: float) -> np.ndarray:
    """max_margin (n_j / n_min)^(-1/4), f64[C]."""
    counts = np.asarray(class_counts, np.float64)
    return max_margin * (counts / counts.min()) ** -0.25


def balanced_softmax(class_counts: np.ndarray) -> Loss:
    """Cross-entropy of z + log n: the softmax of a balanced world, trained on a long tail.

    Ren et al., NeurIPS 2020, equation 4. Predictions use z itself.
    """
    return _shifted(np.log(np.asarray(class_counts, np.float64)))


def logit_adjustment(class_counts: np.ndarray, *, tau: NotNegative = 1.0) -> Loss:
    """Cross-entropy of z + tau log(prior).

    Menon et al., ICLR 2021, equation 10; tau = 1 is balanced softmax. The form applied to a network
    trained without it is `config.method.posthoc_tau`.
    """
    return _shifted(log_prior(class_counts, tau))


def log_prior(class_counts: np.ndarray, tau: float) -> np.ndarray:
    """log(prior^tau + 1e-12), f64[C], as the authors of logit adjustment compute it."""
    counts = np.asarray(class_counts, np.float64)
    return np.log((counts / counts.sum()) ** tau + 1e-12)


def class_dependent_temperature(
    class_counts: np.ndarray, *, gamma: Annotated[float, at_least(0), at_most(10)] = 0.2
) -> Loss:
    """Cross-entropy of z_k / a_k, a_k = (n_max / n_k)^gamma: tail logits must be larger to win.

    Ye et al. (CDT), arXiv 2020, equation 7; gamma = 0.2 as in Bag of Tricks' code.
    """
    temperature = cdt_temperature(class_counts, gamma)
    return _over_weights(
        lambda logits, label: nll(logits / jnp.asarray(temperature, logits.dtype), label)
    )


def cdt_temperature(class_counts: np.ndarray, gamma: float) -> np.ndarray:
    """(n_max / n_j)^gamma, f64[C]."""
    counts = np.asarray(class_counts, np.float64)
    return (counts.max() / counts) ** gamma


def equalization(
    class_counts: np.ndarray,
    *,
    below: Annotated[float, above(0), at_most(1), only_with("gamma")] = 0.005,
    gamma: Annotated[float, at_least(0), at_most(1)] = 0.9,
) -> Loss:
    """Softmax equalization: tail classes are left out of most other examples' softmax.

    Tan et al., CVPR 2020, section 3.3. A class is tail if its share of the training set is less
    than `below`; for each example of another class, independently in each step, it is left out with
    probability `gamma`. The share is compared strictly, as Bag of Tricks' code does (the authors'
    counts images, and takes equality for tail). Bag of Tricks: 0.005 on CIFAR-100-LT, 0.05 on
    CIFAR-10-LT; 4.3e-4 on ImageNet-LT in a survey's code.
    """
    is_tail = tail(class_counts, below)

    def loss(logits, label, weight, keys):
        left_out = jax.vmap(lambda key: jax.random.bernoulli(key, gamma, (len(is_tail),)))(keys)
        return nll(equalized(logits, label, left_out & is_tail), label), weight

    return loss


def tail(class_counts: np.ndarray, below: float) -> np.ndarray:
    """Which classes have less than this share of the training set, bool[C]."""
    return class_counts / np.sum(class_counts) < below


def equalized(logits: jax.Array, label: jax.Array, left_out: jax.Array) -> jax.Array:
    """Logits with the classes left out at -inf, never the own one; left_out bool[B, C]."""
    own = jnp.arange(logits.shape[-1]) == label[:, None]
    return jnp.where(left_out & ~own, -jnp.inf, logits)


LOSSES = {
    "cross_entropy": cross_entropy,
    "label_smoothing": label_smoothing,
    "label_aware_smoothing": label_aware_smoothing,
    "focal": focal,
    "sigmoid": sigmoid,
    "focal_softmax": focal_softmax,
    "ldam": ldam,
    "balanced_softmax": balanced_softmax,
    "logit_adjustment": logit_adjustment,
    "class_dependent_temperature": class_dependent_temperature,
    "equalization": equalization,
}


def _own(x, label):
    return jnp.take_along_axis(x, label[:, None], axis=-1)[:, 0]


def _at_label(logits, label, by_class):
    """Logits with by_class[y] added to that of the own class."""
    own = jnp.arange(logits.shape[-1]) == label[:, None]
    return logits + jnp.where(own, by_class, 0)


def _shifted(by):
    return _over_weights(lambda logits, label: nll(logits + jnp.asarray(by, logits.dtype), label))


def _over_weights(values):
    return lambda logits, label, weight, keys: (values(logits, label), weight)


def _over_examples(values):
    def loss(logits, label, weight, keys):
        del keys
        weighted = weight * values(logits, label)
        return weighted, jnp.ones_like(weighted)

    return loss
