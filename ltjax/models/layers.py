"""The one primitive that carries every small-image network, and batch norm around it.

A layer hands on its raw output together with the affine (a, c) that normalises it; the next layer
applies that while it reads. So batch norm is arithmetic on vectors of channels, and a convolution
with the normalisation and ReLU before it and the sums after it is one call, whose form can be
exchanged without touching a network.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ltjax.axes import DATA
from ltjax.models.convolution import conv3x3

EPSILON = 1e-5
MOMENTUM = 0.1  # PyTorch's convention: the weight of the batch in the running statistics

# PyTorch's kaiming_normal_, fan in: a plain (not truncated) normal of variance 2 / fan in.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def conv_sums(
    x: jax.Array, a: jax.Array | None, c: jax.Array | None, w: jax.Array, stride: int = 1
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y = conv3x3(relu(a * x + c), w), zero-padded by 1, with the sums that batch norm needs.

    Args:
      x: [B, H, W, I].
      a, c: [I], the affine before the ReLU; both None where x is read as it is.
      w: [3, 3, I, O].
      stride: 1 or 2, in both directions.

    Returns:
      y [B, ceil(H / stride), ceil(W / stride), O], sum y [O], sum y * y [O].
    """
    if a is not None:
        x = nn.relu(a * x + c)
    y = conv3x3(x, w, stride)
    return y, y.sum((0, 1, 2)), (y * y).sum((0, 1, 2))


def add_relu(y: jax.Array, a: jax.Array, c: jax.Array, shortcut: jax.Array) -> jax.Array:
    """The end of a residual block, relu(a * y + c + shortcut), all [B, H, W, O]; a and c [O]."""
    return nn.relu(a * y + c + shortcut)


class ConvNorm(nn.Module):
    """A 3x3 convolution without bias, then batch norm as an affine left to the next reader.

    Ioffe and Szegedy, ICML 2015. As PyTorch: the batch is normalised by its biased variance, the
    running variance takes the unbiased one. Over a mesh the statistics are those of the global
    batch, so that results do not depend on the number of devices.
    """

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, a, c, train):
        """(x [B, H, W, I], its affine or None) -> (y, a [O], c [O])."""
        shape = (3, 3, x.shape[-1], self.features)
        w = self.param("kernel", kaiming_normal, shape)
        scale = self.param("scale", nn.initializers.ones, (self.features,))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (self.features,))
        var = self.variable("batch_stats", "var", jnp.ones, (self.features,))

        y, total, squares = conv_sums(x, a, c, w, self.stride)
        m, v = mean.value, var.value
        if train:
            total, squares = lax.psum((total, squares), DATA)
            count = y.size // y.shape[-1] * lax.axis_size(DATA)
            m = total / count
            v = jnp.maximum(squares / count - m * m, 0)  # rounding may take it below zero
            mean.value += MOMENTUM * (m - mean.value)
            var.value += MOMENTUM * (v * (count / max(count - 1, 1)) - var.value)
        gain = scale * lax.rsqrt(v + EPSILON)
        return y, gain, bias - m * gain
