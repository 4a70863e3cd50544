"""The one primitive that carries every network, and batch norm around it.

A layer hands on its raw output together with the affine (a, c) that normalises it; the next layer
applies that while it reads. So batch norm is arithmetic on vectors of channels, and a convolution
with the normalisation and ReLU before it and the sums after it is one call, whose form can be
exchanged without touching a network: `conv_plain.py` is its definition, for every backend and type
of number; `conv_native.py` is for 3x3 kernels in float32 on CPU, several times faster there.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ltjax import kernels
from ltjax.axes import DATA
from ltjax.config.settings import CONVOLUTIONS, Compute
from ltjax.models import conv_block_diagonal as blocks
from ltjax.models import conv_native as native
from ltjax.models import conv_plain as plain

EPSILON = 1e-5
MOMENTUM = 0.1  # PyTorch's convention: the weight of the batch in the running statistics

# PyTorch's kaiming_normal_, fan in: a plain (not truncated) normal of variance 2 / fan in.
kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# The same, fan out; of a convolution in groups, the fan out counts the channels of all groups.
kaiming_normal_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv_sums(
    x: jax.Array,
    a: jax.Array | None,
    c: jax.Array | None,
    w: jax.Array,
    stride: int = 1,
    form: str = "winograd",
    groups: int = 1,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y = conv(relu(a * x + c), w), zero-padded by k // 2, with the sums that batch norm needs.

    Args:
      x: [B, H, W, I], no axis of size 0. Its type is that of the convolution and of y; affine,
        ReLU and sums are computed in float32 where x is bfloat16.
      a, c: [I], the affine before the ReLU; both None if x is read unchanged.
      w: [k, k, I / groups, O], k odd.
      stride: 1 or 2, in both directions.
      form: "winograd", "direct", "plain" or "blocks" (config.settings.Compute). The first two are
        native where that can be (`is_native`, k = 3, one group), and plain elsewhere; "blocks" is
        for k = 3 and one group, too.
      groups: of channels, each convolved by itself: an equal share of I gives one of O.

    Returns:
      y [B, ceil(H / stride), ceil(W / stride), O], sum y [O], sum y * y [O].

    Raises:
      ValueError: if an axis is empty, or shapes do not fit, or a choice is not one of these.
    """
    channels = x.shape[-1:]
    fits = x.ndim == 4 and w.ndim == 4 and stride in (1, 2)
    fits = fits and len(w) % 2 and w.shape[:3] == (len(w), len(w), channels[0] / groups)
    fits = fits and w.shape[3] % groups == 0
    if not fits or any(of is not None and of.shape != channels for of in (a, c)):
        shapes = [None if of is None else of.shape for of in (x, a, c, w)]
        raise ValueError(
            f"A convolution of stride {stride} in {groups} group(s) does not take x, a, c, w "
            f"of {shapes}."
        )
    if 0 in (*x.shape, *w.shape):
        raise ValueError(f"A convolution of {x.shape} with {w.shape} has an empty axis.")
    is_3x3 = len(w) == 3 and groups == 1
    if is_3x3 and all(is_native(form, of.dtype) for of in (x, a, c, w) if of is not None):
        return native.conv_sums(x, a, c, w, stride, form == "winograd")
    if is_3x3 and form == "blocks":
        return plain.conv_sums(x, a, c, w, stride, blocks.conv3x3)
    return plain.conv_sums(x, a, c, w, stride, functools.partial(plain.convolve, groups=groups))


def add_relu(
    y: jax.Array,
    a: jax.Array,
    c: jax.Array,
    x: jax.Array | None,
    stride: int = 1,
    form: str = "winograd",
) -> jax.Array:
    """The end of a residual block, relu(a * y + c + shortcut of x).

    The shortcut is without parameters (He et al. 2016, option A): every stride-th row and column of
    x, with channels of zeros on both sides where x has fewer.

    Args:
      y: [B, H, W, O].
      a, c: [O].
      x: what the block read, [B, stride * H, stride * W, up to O] (or a row and column less), or
        None for no shortcut.
      stride: of the block.
      form: as in conv_sums.

    Returns:
      [B, H, W, O], of the type of y.

    Raises:
      ValueError: if shapes do not fit, or `form` is not known.
    """
    fits = y.ndim == 4 and a.shape == c.shape == y.shape[-1:]
    if x is not None:
        rows, columns = (-(-size // stride) for size in x.shape[1:3])
        fits &= (len(x), rows, columns) == y.shape[:3] and x.shape[-1] <= y.shape[-1]
    if not fits or 0 in y.shape:
        shapes = [None if of is None else of.shape for of in (y, a, c, x)]
        raise ValueError(
            f"The end of a block of stride {stride} does not take y, a, c, x of {shapes}."
        )
    if all(is_native(form, of.dtype) for of in (y, a, c, x) if of is not None):
        return native.add_relu(y, a, c, x, stride)
    return plain.add_relu(y, a, c, x, stride)


def is_native(form: str, dtype: Any) -> bool:
    """Whether 3x3 convolutions of this form on numbers of this type run on the native kernels."""
    if form not in CONVOLUTIONS:
        raise ValueError(f"Convolutions are one of {', '.join(CONVOLUTIONS)}, not {form!r}.")
    return _wants_native(form) and jnp.dtype(dtype) == jnp.float32 and kernels.target() is not None


def described(compute: Compute) -> str:
    """What a config's convolutions run on here, in a few words."""
    form, dtype = compute.convolution, compute.dtype
    if is_native(form, dtype):
        how = "Winograd's transforms" if form == "winograd" else "as they are defined"
        return f"native {kernels.target()} kernels, {how}"
    what = "block-diagonal, plain JAX" if form == "blocks" else "plain JAX"
    what = what if dtype == "float32" else f"{what} in {dtype}"
    if _wants_native(form):
        why = kernels.why_not() or "they are for float32"
        return f"{what}, several times slower than native kernels ({why})"
    return what


def _wants_native(form):
    return form in ("winograd", "direct") and jax.default_backend() == "cpu"


class ConvNorm(nn.Module):
    """A convolution without bias, then batch norm as an affine left to the next reader.

    Ioffe and Szegedy, ICML 2015. As PyTorch: the batch is normalised by its biased variance, the
    running variance takes the unbiased one. Over a mesh the statistics are those of the global
    batch, so that results do not depend on the number of devices.
    """

    features: int
    stride: int = 1
    form: str = "winograd"  # of the convolution; see conv_sums
    size: int = 3  # of the kernel, odd
    groups: int = 1  # of channels
    kernel_init: nn.initializers.Initializer = kaiming_normal

    @nn.compact
    def __call__(self, x, a, c, train):
        """(x [B, H, W, I], its affine or None) -> (y, a [O], c [O])."""
        shape = (self.size, self.size, x.shape[-1] // self.groups, self.features)
        w = self.param("kernel", self.kernel_init, shape)
        scale = self.param("scale", nn.initializers.ones, (self.features,))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (self.features,))
        var = self.variable("batch_stats", "var", jnp.ones, (self.features,))

        y, total, squares = conv_sums(x, a, c, w, self.stride, self.form, self.groups)
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
