"""The two parts of OLTR: modulated attention, and meta-embedding.

Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019. Attention makes
features look at where in a map something is (section 3.2): self-attention over the places of the
last feature maps, let in more at some places than at others. The meta-embedding (section 3.1)
enriches features by a memory of class centroids and scales them by how near these are.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ltjax.models.heads import Linear, uniform_fan_in, unit
from ltjax.models.layers import kaiming_normal_fan_out

SCALE = 16.0  # of cosines as logits, and
REACH = 10.0  # over the distance of the nearest centroid, as the authors' code has them
NEAREST = 1e-6  # a distance is at least that: a feature may be a centroid


class ModulatedAttention(nn.Module):
    """X + s M: self-attention M of the maps X, weighed by a softmax s over their P = h w places.

    M = softmax(theta(X) phi(X)^T) g(X) mask, without a scale; theta, phi, g and mask are 1x1
    convolutions D -> D / 2 and back, the last without bias. s = softmax(F vec(X) + b). As the
    authors' code starts: its layer sets the mask to zero, which makes the whole the identity, but
    the backbone's initialisation then draws all four kernels anew, N(0, 2 / channels out), biases
    zero.
    """

    zero_mask: bool = False  # start as the identity, as the authors' layer means to

    @nn.compact
    def __call__(self, maps):
        """maps [B, h, w, D] -> (X + s M [B, h, w, D], s [B, h, w], M [B, h, w, D])."""
        size, height, width, dim = maps.shape
        x = maps.reshape(size, height * width, dim)  # [B, P, D]

        def conv1x1(name):
            return nn.Dense(dim // 2, kernel_init=kaiming_normal_fan_out, name=name)(x)

        alike = jnp.einsum("bpd,bqd->bpq", conv1x1("theta"), conv1x1("phi"))
        attended = jax.nn.softmax(alike) @ conv1x1("g")  # [B, P, D / 2]
        start = nn.initializers.zeros if self.zero_mask else kaiming_normal_fan_out
        mask = nn.Dense(dim, use_bias=False, kernel_init=start, name="mask")(attended)
        spatial = Linear(height * width, uniform_fan_in, name="spatial")(x.reshape(size, -1))
        weight = jax.nn.softmax(spatial)  # [B, P]
        out = x + weight[:, :, None] * mask
        return out.reshape(maps.shape), weight.reshape(maps.shape[:3]), mask.reshape(maps.shape)


class ModulatedPooling(nn.Module):
    """relu(W mean(attention(X)) + b): what makes features of maps in the second stage of OLTR.

    The authors' W is from D to 512, and D is 512 where a first stage without W comes before. Here
    it is from D to D, so that a head of that stage still reads what follows it.
    """

    zero_mask: bool = False

    @nn.compact
    def __call__(self, maps):
        """maps [B, h, w, D] -> features [B, D]."""
        attended, *_ = ModulatedAttention(self.zero_mask, name="attention")(maps)
        features = attended.mean((1, 2))
        return nn.relu(Linear(features.shape[-1], uniform_fan_in, name="fc_add")(features))


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
