"""The plain form of convolution, affine, ReLU and sums: JAX alone, for every backend and type.

Its 3x3 convolution has gradients that run on XLA:CPU's fast kernels.

XLA:CPU has fast convolutions for one layout (images NHWC, kernel HWIO), and the gradients that
automatic differentiation writes are in others: they end as scalar loops, the more so inside `scan`.
Here both gradients are written in the good layout. The one with respect to the kernel also goes
through the batch in chunks, because a loop's operands are buffers: without it, XLA fuses the
elementwise work that makes them into the transposes, and gathers scalar by scalar. Together
a training step of ResNet-32 takes about half the time (benchmarks/README.md). On other backends
the gradients are those of `lax`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

CHUNK = 16  # images, at most


def conv_sums(x, a, c, w, stride):
    """`ltjax.models.layers.conv_sums`, by its definition."""
    y = conv3x3(before(x, a, c), w, stride)
    return y, y.sum((0, 1, 2)), (y * y).sum((0, 1, 2))


def before(x, a, c):
    """What the convolution reads: relu(a * x + c), or x where a and c are None."""
    return x if a is None else jax.nn.relu(a * x + c)


def add_relu(y, a, c, x, stride):
    """`ltjax.models.layers.add_relu`, by its definition."""
    y = a * y + c
    return jax.nn.relu(y if x is None else y + shortcut(x, y.shape[-1], stride))


def shortcut(x, features, stride):
    """Option A: every stride-th row and column from the first, new channels zero on both sides."""
    x = x[:, ::stride, ::stride]
    new = features - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2))) if new else x


_conv = functools.partial(lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv3x3(x: jax.Array, w: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve, zero-padded by 1 on every side.

    Args:
      x: [B, H, W, I].
      w: [3, 3, I, O].
      stride: in both directions.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), O].
    """
    return _plain(x, w, stride)


def _plain(x, w, stride):
    return _conv(x, w, (stride, stride), ((1, 1), (1, 1)))


def _forward(x, w, stride):
    return _plain(x, w, stride), (x, w)


def _backward(stride, residuals, g):
    def canonical(x, w, g):
        return _input_gradient(x, w, g, stride), _kernel_gradient(x, g, stride)

    def of_lax(x, w, g):
        return jax.vjp(lambda x, w: _plain(x, w, stride), x, w)[1](g)

    return lax.platform_dependent(*residuals, g, cpu=canonical, default=of_lax)


conv3x3.defvjp(_forward, _backward)


def _input_gradient(x, w, g, stride):
    turned = w[::-1, ::-1].transpose(0, 1, 3, 2)  # [3, 3, O, I]
    pads = [
        (1, size + 1 - (stride * (out - 1) + 1))
        for size, out in zip(x.shape[1:3], g.shape[1:3], strict=True)
    ]
    return _conv(g, turned, (1, 1), pads, lhs_dilation=(stride, stride))


def _kernel_gradient(x, g, stride):
    batch = len(x)
    chunk = max(size for size in range(1, CHUNK + 1) if batch % size == 0)
    chunk = batch if chunk < CHUNK // 4 else chunk  # a prime batch: one chunk, not single images
    last = batch // chunk - 1
    pads = [
        (1, stride * (out - 1) + 2 - size)
        for size, out in zip(x.shape[1:3], g.shape[1:3], strict=True)
    ]

    def cut(array, i):
        return lax.dynamic_slice_in_dim(array, i * chunk, chunk)

    def add_chunk(i, carry):
        total, x_now, g_now = carry
        images, kernel = x_now.transpose(3, 1, 2, 0), g_now.transpose(1, 2, 0, 3)
        total += _conv(images, kernel, (1, 1), pads, rhs_dilation=(stride, stride))
        following = jnp.minimum(i + 1, last)
        return total, cut(x, following), cut(g, following)

    total = jnp.zeros((x.shape[-1], 3, 3, g.shape[-1]), g.dtype)
    total, _, _ = lax.fori_loop(0, last + 1, add_chunk, (total, cut(x, 0), cut(g, 0)))
    return total.transpose(1, 2, 0, 3)
