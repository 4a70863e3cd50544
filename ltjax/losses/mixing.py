"""Mixing: training on blends of two images, or of their features, and of their losses.

A row of MIXINGS makes a Mixing of the class counts; each step it draws a Mix for the batch. All
experts mix their own batches. Images are paired by a permutation of the global batch, so that
the pairs do not depend on the number of devices.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ltjax.axes import DATA
from ltjax.limits import above, at_least, at_most, only_with
from ltjax.losses.objective import Objective


class Mix(NamedTuple):
    """How the examples of one batch are blended with others of it."""

    share: jax.Array  # f32[], of the example itself in the blend
    label_share: jax.Array  # f32[B], of its own label in the loss
    partner: jax.Array  # i32[B], positions in the global batch


class Mixing(NamedTuple):
    """When and how to mix."""

    draw: Callable[[jax.Array, jax.Array], Mix]  # (key, label i32[B]) -> Mix
    of: str  # what is blended: "image" or "features"


def none(class_counts: np.ndarray) -> None:
    """Train on images as they are."""
    del class_counts


def mixup(
    class_counts: np.ndarray, *, alpha: Annotated[float, above(0), at_most(1_000_000)] = 1.0
) -> Mixing:
    """Blend images, x = s x_i + (1 - s) x_j, and losses alike; s ~ Beta(alpha, alpha) per batch.

    Zhang et al., ICLR 2018, as their code and that of Zhang et al. (Bag of Tricks), AAAI 2021.
    """
    del class_counts
    return Mixing(lambda key, label: _same_share(*_pairs(key, len(label), alpha)), "image")


def manifold_mixup(
    class_counts: np.ndarray, *, alpha: Annotated[float, above(0), at_most(1_000_000)] = 1.0
) -> Mixing:
    """Mixup of the features that the head reads.

    Verma et al., ICML 2019; there the layer is drawn in each step. Bag of Tricks' code (AAAI 2021),
    which is followed here, always takes the pooled features.
    """
    return mixup(class_counts, alpha=alpha)._replace(of="features")


def remix(
    class_counts: np.ndarray,
    *,
    alpha: Annotated[float, above(0), at_most(1_000_000)] = 1.0,
    kappa: Annotated[float, at_least(1), at_most(1_000_000), only_with("tau")] = 3.0,
    tau: Annotated[float, at_least(0), at_most(1)] = 0.5,
    per_sample: Annotated[bool, only_with("tau")] = True,
) -> Mixing:
    """Mixup whose label leans to the smaller class.

    Chou et al., ECCV 2020 workshops, equation 3: the own label counts 0 where n_i / n_j >= kappa
    and s < tau, 1 where n_i / n_j <= 1 / kappa and 1 - s < tau, and s elsewhere. Bag of Tricks'
    code takes the mean of these over the batch for all, presumably not meant (`per_sample` False).
    """

    def draw(key, label):
        share, partner = _pairs(key, len(label), alpha)
        counts = jnp.asarray(class_counts, jnp.float32)[label]
        label_share = remix_share(share, counts / partners(counts, partner), kappa, tau)
        if not per_sample:
            label_share = jnp.full_like(label_share, lax.pmean(label_share.mean(), DATA))
        return Mix(share, label_share, partner)

    return Mixing(draw, "image")


def remix_share(share: jax.Array, ratio: jax.Array, kappa: float, tau: float) -> jax.Array:
    """The share of the own label, f32[B], of the ratio n_i / n_j, f32[B]."""
    to_partner = (ratio >= kappa) & (share < tau)
    to_own = (ratio <= 1 / kappa) & (1 - share < tau)
    return jnp.where(to_partner, 0.0, jnp.where(to_own, 1.0, share))


MIXINGS = {"none": none, "mixup": mixup, "manifold_mixup": manifold_mixup, "remix": remix}


def blend(mix: Mix, x: jax.Array, axis: int = 0) -> jax.Array:
    """share x_i + (1 - share) x_j of each example i and its partner j, which lie along `axis`."""
    return (mix.share * x + (1 - mix.share) * partners(x, mix.partner, axis)).astype(x.dtype)


def partners(x: jax.Array, partner: jax.Array, axis: int = 0) -> jax.Array:
    """x of each example's partner; the batch, along `axis`, is shared by the devices of 'data'."""
    return lax.all_gather(x, DATA, axis=axis, tiled=True).take(partner, axis, mode="clip")


def of_both_labels(mix: Mix, objective: Objective) -> Objective:
    """The objective for the own label and for the partner's, in the shares of their labels.

    Each of the two divides by its own weights, whose sums are the same: those of the whole batch.
    """

    def values_and_weights(logits, label, key, progress):
        own_key, other_key = jax.random.split(key)
        own, weights = objective(logits, label, own_key, progress)
        label = partners(label, mix.partner)
        other, other_weights = objective(logits, label, other_key, progress)
        both = mix.label_share * own * weights + (1 - mix.label_share) * other * other_weights
        return both / weights, weights

    return values_and_weights


def _same_share(share, partner):
    return Mix(share, jnp.full(partner.shape, share), partner)


def _pairs(key, size, alpha):
    """(share f32[], partner i32[size] of this device's examples), the same draw on all devices."""
    share_key, order_key = jax.random.split(key)
    uniform = alpha == 1  # the rejection sampling of a general beta costs a loop
    share = jax.random.uniform(share_key) if uniform else jax.random.beta(share_key, alpha, alpha)
    order = jax.random.permutation(order_key, size * lax.axis_size(DATA))
    return share, lax.dynamic_slice_in_dim(order, lax.axis_index(DATA) * size, size)
