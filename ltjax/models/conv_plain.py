"""The plain form of convolution, affine, ReLU and sums: JAX alone, for every backend and type.

Convolutions of 3x3, and those in groups, have gradients that run on XLA:CPU's fast kernels.

XLA:CPU has fast convolutions for one layout (images NHWC, kernel HWIO), and the gradients that
automatic differentiation writes are in others: they end as scalar loops, the more so inside `scan`.
Here both gradients are written in the good layout. The one with respect to the kernel also goes
through the batch in chunks, because a loop's operands are buffers: without it, XLA fuses the
elementwise work that makes them into the transposes, and gathers scalar by scalar. Together
a training step of ResNet-32 takes about half the time (benchmarks/README.md). Gradients of a
convolution in groups are matrix products on CPU, 30 times faster and more. On other backends the
gradients are those of `lax`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

CHUNK = 16  # images, at most


def conv_sums(x, a, c, w, stride, conv=None):
    """`ltjax.models.layers.conv_sums`, by its definition; `conv` computes what `convolve` does.

    The sums are of y as stored, so that the next layer reads mean 0 and variance 1.
    """
    y = (conv or convolve)(before(x, a, c), w.astype(x.dtype), stride)
    exact = wide(y)
    return y, exact.sum((0, 1, 2)), (exact * exact).sum((0, 1, 2))


def before(x, a, c):
    """What the convolution reads: relu(a * x + c), or x where a and c are None."""
    return x if a is None else jax.nn.relu(a * x + c).astype(x.dtype)


def add_relu(y, a, c, x, stride):
    """`ltjax.models.layers.add_relu`, by its definition."""
    h = a * y + c
    h = h if x is None else h + shortcut(x, y.shape[-1], stride)
    return jax.nn.relu(h).astype(y.dtype)


def wide(x):
    """x in the type that sums are taken in: float32, or x's own where that has more bits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def shortcut(x, features, stride):
    """Option A: every stride-th row and column from the first, new channels zero on both sides."""
    x = x[:, ::stride, ::stride]
    new = features - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2))) if new else x


_conv = functools.partial(lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolve(x: jax.Array, w: jax.Array, stride: int = 1, groups: int = 1) -> jax.Array:
    """Convolve, zero-padded by half the kernel on every side.

    Args:
      x: [B, H, W, I].
      w: [k, k, I / groups, O], k odd.
      stride: in both directions.
      groups: of channels.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), O].
    """
    size = len(w)
    if size == 1 and groups == 1:
        # A matrix product: with a kernel per expert it stays one, where a convolution of XLA
        # becomes one in groups; its gradients are in the good layout by themselves.
        return x[:, ::stride, ::stride] @ w[0, 0]
    if size == 3 and groups == 1:
        return conv3x3(x, w, stride)
    return of_lax(x, w, stride) if groups == 1 else _grouped(x, w, stride, groups)


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
    return of_lax(x, w, stride)


def of_lax(x, w, stride, groups=1):
    """`convolve` with the gradients of `lax`."""
    pad = (len(w) // 2,) * 2
    return _conv(x, w, (stride, stride), (pad, pad), feature_group_count=groups)


def _forward(x, w, stride):
    return of_lax(x, w, stride), (x, w)


def _backward(stride, residuals, g):
    def canonical(x, w, g):
        return _input_gradient(x, w, g, stride), _kernel_gradient(x, g, stride)

    def default(x, w, g):
        return jax.vjp(lambda x, w: of_lax(x, w, stride), x, w)[1](g)

    return lax.platform_dependent(*residuals, g, cpu=canonical, default=default)


conv3x3.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _grouped(x, w, stride, groups):
    return of_lax(x, w, stride, groups)


def _grouped_forward(x, w, stride, groups):
    return of_lax(x, w, stride, groups), (x, w)


def _grouped_backward(stride, groups, residuals, g):
    def gradients_of(form):
        return lambda x, w, g: jax.vjp(lambda x, w: form(x, w, stride, groups), x, w)[1](g)

    return lax.platform_dependent(
        *residuals, g, cpu=gradients_of(_tap_by_tap), default=gradients_of(of_lax)
    )


_grouped.defvjp(_grouped_forward, _grouped_backward)


def _tap_by_tap(x, w, stride, groups):
    """of_lax as a sum of matrix products, one for each position of the kernel."""
    size, pad = len(w), len(w) // 2
    spans = [stride * (-(-length // stride) - 1) + 1 for length in x.shape[1:3]]
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    x = x.reshape(*x.shape[:3], groups, -1)  # [B, H, W, groups, I / groups]
    w = w.reshape(*w.shape[:3], groups, -1)

    def tap(i, j):
        seen = x[:, i : i + spans[0] : stride, j : j + spans[1] : stride]
        return jnp.einsum("bhwgi,igo->bhwgo", seen, w[i, j])

    y = sum(tap(i, j) for i in range(size) for j in range(size))
    return y.reshape(*y.shape[:3], -1)


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
        total += _conv(
            *(images, kernel, (1, 1), pads),
            rhs_dilation=(stride, stride),
            preferred_element_type=total.dtype,
        )
        following = jnp.minimum(i + 1, last)
        return total, cut(x, following), cut(g, following)

    total = wide(jnp.zeros((x.shape[-1], 3, 3, g.shape[-1]), g.dtype))
    total, _, _ = lax.fori_loop(0, last + 1, add_chunk, (total, cut(x, 0), cut(g, 0)))
    return total.transpose(1, 2, 0, 3).astype(g.dtype)
