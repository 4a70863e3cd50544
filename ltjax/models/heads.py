"""Heads: what turns features into logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ltjax.models.layers import kaiming_normal

COSINE_SCALE = 30.0  # LDAM (Cao et al. 2019) and RIDE (Wang et al. 2021) use s = 30


class Linear(nn.Module):
    """z = x W + b, initialised as LDAM-DRW's code: W Kaiming normal, b uniform(+-1/sqrt(D))."""

    num_classes: int

    @nn.compact
    def __call__(self, features):
        """features [B, D] -> logits [B, C]."""
        dim = features.shape[-1]
        kernel = self.param("kernel", kaiming_normal, (dim, self.num_classes))
        bias = self.param("bias", _uniform(dim**-0.5), (self.num_classes,))
        return features @ kernel + bias


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
        kernel = self.param("kernel", lambda *args: _unit(_uniform(1.0)(*args), axis=0), shape)
        return self.scale * (_unit(features, axis=1) @ _unit(kernel, axis=0))


HEADS = {"linear": Linear, "cosine": Cosine}


def _uniform(limit):
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -limit, limit
    )


def _unit(x, axis):
    # The square is clamped, not the norm: sqrt has no gradient at zero.
    return x * lax.rsqrt(jnp.maximum((x * x).sum(axis, keepdims=True), 1e-24))
