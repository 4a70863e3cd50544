"""Heads: what turns features into logits.

`HEADS` start as in LDAM-DRW's code, the origin of the field's small networks; in `PYTORCH_HEADS`
the linear one starts as PyTorch's own does, which Decoupling's code trains behind the large ones.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ltjax.models.layers import kaiming_normal

COSINE_SCALE = 30.0  # of cosines as logits: LDAM (Cao et al. 2019) and RIDE (Wang et al. 2021)

# U(+-1/sqrt(D)), what PyTorch's Linear gives to weight and bias.
uniform_fan_in = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def unit(x: jax.Array, axis: int) -> jax.Array:
    """x / |x| along an axis; norms are at least 1e-12."""
    # The square is clamped, not the norm: sqrt has no gradient at zero.
    return x * lax.rsqrt(jnp.maximum((x * x).sum(axis, keepdims=True), 1e-24))


class Linear(nn.Module):
    """z = x W + b; b starts as uniform(+-1/sqrt(D)), W by default as Kaiming normal."""

    num_classes: int
    kernel_init: nn.initializers.Initializer = kaiming_normal

    @nn.compact
    def __call__(self, features):
        """features [B, D] -> logits [B, C]."""
        dim = features.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (dim, self.num_classes))
        bias = self.param("bias", _uniform(dim**-0.5), (self.num_classes,))
        return features @ kernel + bias

    @staticmethod
    def weights(params):
        """See ltjax.models.parts.Head."""
        return params["kernel"], params["bias"]


class Cosine(nn.Module):
    """z = scale * cos(x, W_c), without bias: LDAM-DRW's NormedLinear, times a scale.

    The authors' module gives the bare cosines and the loss multiplies them; `scale` = 1 does the
    same. W is drawn uniform(-1, 1) with columns then made unit; norms are at least 1e-12.
    """

    num_classes: int
    scale: float = COSINE_SCALE

    @nn.compact
    def __call__(self, features):
        """features [B, D] -> logits [B, C]."""
        shape = (features.shape[-1], self.num_classes)
        kernel = self.param("kernel", lambda *args: unit(_uniform(1.0)(*args), axis=0), shape)
        return self.scale * (unit(features, axis=1) @ unit(kernel, axis=0))

    @staticmethod
    def weights(params):
        """See ltjax.models.parts.Head; the kernel is W, before its columns are made unit."""
        return params["kernel"], None


HEADS = {"linear": Linear, "cosine": Cosine}
PYTORCH_HEADS = HEADS | {"linear": functools.partial(Linear, kernel_init=uniform_fan_in)}


def _uniform(limit):
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -limit, limit
    )
