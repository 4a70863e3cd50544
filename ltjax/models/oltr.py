"""Meta-embedding: features, enriched by a memory of class centroids and scaled by their nearness.

Liu et al., "Large-Scale Long-Tailed Recognition in an Open World" (OLTR), CVPR 2019, section 3.1.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ltjax.models.heads import Linear, uniform_fan_in, unit

SCALE = 16.0  # of cosines as logits, and
REACH = 10.0  # over the distance of the nearest centroid, as the authors' code has them
NEAREST = 1e-6  # a distance is at least that: a feature may be a centroid


class Embedded(NamedTuple):
    """A meta-embedding and its parts."""

    embedding: jax.Array  # v f32[B, D]
    memory: jax.Array  # m f32[B, D]
    selector: jax.Array  # e f32[B, D], in (-1, 1)
    reach: jax.Array  # 10 / d f32[B]


class SquashedCosine(nn.Module):
    """z_k = 16 |v| / (1 + |v|) cos(v, w_k), without bias: a cosine that a short v makes small.

    OLTR's code (CosNormClassifier), after Gidaris and Komodakis, CVPR 2018; w starts as
    uniform(+-1 / sqrt(D)).
    """

    num_classes: int

    @nn.compact
    def __call__(self, v):
        """v [B, D] -> logits [B, C]."""
        kernel = self.param("kernel", uniform_fan_in, (v.shape[-1], self.num_classes))
        squashed = v / (1 + _length(v, at_least=1e-12))[:, None]
        return SCALE * (squashed @ unit(kernel, axis=0))


class MetaEmbedding(nn.Module):
    """z = SquashedCosine(v), v = (10 / d) (f + e m): the head of OLTR.

    Of features f and centroids c: m = sum_k o_k c_k, the memory, with o = softmax(H f + h) of the
    hallucinator; e = tanh(S f + s), the selector; d = min_k |f - c_k|, through which a gradient
    flows. The paper has 1 in place of 10. Where the original gives infinity, at d = 0, here d is at
    least 1e-6; v is squashed afterwards.
    """

    num_classes: int

    @nn.compact
    def __call__(self, features, concepts, centroids):
        """(f [B, D], H f + h [B, C], c [C, D]) -> (logits [B, C], Embedded)."""
        memory = jax.nn.softmax(concepts) @ centroids
        selector = jnp.tanh(Linear(features.shape[-1], uniform_fan_in, name="selector")(features))
        reach = REACH / nearest_distance(features, centroids)
        embedding = reach[:, None] * (features + selector * memory)
        logits = SquashedCosine(self.num_classes, name="classifier")(embedding)
        return logits, Embedded(embedding, memory, selector, reach)


def squared_distances(x: jax.Array, centres: jax.Array) -> jax.Array:
    """|x_i - c_k|^2 up to rounding: f32[B, D], f32[C, D] -> f32[B, C]."""
    return (x * x).sum(-1, keepdims=True) - 2 * x @ centres.T + (centres**2).sum(-1)


def nearest_distance(x: jax.Array, centres: jax.Array) -> jax.Array:
    """min_k |x_i - c_k|, at least 1e-6: f32[B, D], f32[C, D] -> f32[B].

    Which is nearest is found in matrix products, how near by subtraction: small distances between
    long vectors would be lost in the former, and [B, C, D] numbers in the latter are too many.
    """
    nearest = lax.stop_gradient(squared_distances(x, centres)).argmin(-1)
    return _length(x - centres[nearest], at_least=NEAREST)


def _length(x, at_least):
    # The square is clamped, not the length: sqrt has no gradient at zero.
    return jnp.sqrt(jnp.maximum((x * x).sum(-1), at_least**2))
