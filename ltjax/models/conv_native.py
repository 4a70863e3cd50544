"""The primitive of `layers.py` and the end of a block on the native CPU kernels, with gradients.

Same arguments and results as their plain twins in `conv_plain.py`, which replace them when a
program is lowered for another platform than CPU, for example for export.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from ltjax import kernels
from ltjax.models import conv_plain as plain


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def conv_sums(x, a, c, w, stride: int, winograd: bool):
    """conv_plain.conv_sums, float32; by `winograd` where it applies, else by definition."""
    return lax.platform_dependent(
        *(x, a, c, w),
        cpu=lambda *args: kernels.conv_sums(*args, stride, winograd),
        default=lambda *args: plain.conv_sums(*args, stride),
    )


def _forward(x, a, c, w, stride, winograd):
    inputs = tuple(jax.tree.map(lambda of: of.value, (x, a, c, w), is_leaf=_is_primal))
    y, *sums = conv_sums(*inputs, stride, winograd)
    # Images need no gradient: what is static is told by the structure, () or None. Those of a and c
    # come with that of x.
    needs = [of.perturbed for of in (x, a, c) if of is not None]
    need_dx = () if any(needs) else None
    return (y, *sums), (inputs, y, need_dx)


def _backward(stride, winograd, residuals, cotangents):
    inputs, y, need_dx = residuals
    need_dx = need_dx is not None
    cotangents = tuple(
        jnp.zeros(g.aval.shape, g.aval.dtype) if _is_zero(g) else g for g in cotangents
    )
    return _conv_sums_gradient(stride, winograd, need_dx, inputs, y, cotangents)


conv_sums.defvjp(_forward, _backward, symbolic_zeros=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _conv_sums_gradient(stride, winograd, need_dx, inputs, y, cotangents):
    def native(inputs, y, cotangents):
        return kernels.conv_sums_gradient(*inputs, y, cotangents, stride, winograd, need_dx)

    def default(inputs, y, cotangents):
        (x, a, c, w), (dy, d_sum, d_squares) = inputs, cotangents
        seen, unaffine = jax.vjp(plain.before, x, a, c)
        dseen, dw = jax.vjp(lambda seen, w: plain.conv3x3(seen, w, stride), seen, w)[1](
            dy + d_sum + 2 * y * d_squares
        )
        dx, da, dc = unaffine(dseen) if need_dx else (None, None, None)
        return dx, da, dc, dw

    return lax.platform_dependent(inputs, y, cotangents, cpu=native, default=default)


@_conv_sums_gradient.defjvp
def _no_second_derivative(*_):
    raise NotImplementedError(
        "Native convolutions have no second derivative; compute.convolution=plain has."
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def add_relu(y, a, c, x, stride: int):
    """conv_plain.add_relu, float32."""
    return lax.platform_dependent(
        *(y, a, c, x),
        cpu=lambda *args: kernels.add_relu(*args, stride),
        default=lambda *args: plain.add_relu(*args, stride),
    )


def _add_relu_forward(y, a, c, x, stride):
    h = add_relu(y, a, c, x, stride)
    return h, (h, y, a, x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _add_relu_gradient(stride, dh, h, y, a, x):
    def default(dh, h, y, a, x):
        g = jnp.where(h > 0, dh, 0)
        dx = None
        if x is not None:
            (dx,) = jax.vjp(lambda x: plain.shortcut(x, y.shape[-1], stride), x)[1](g)
        return a * g, (g * y).sum((0, 1, 2)), g.sum((0, 1, 2)), dx

    def native(*args):
        return kernels.add_relu_gradient(*args, stride)

    return lax.platform_dependent(dh, h, y, a, x, cpu=native, default=default)


_add_relu_gradient.defjvp(_no_second_derivative)


def _add_relu_backward(stride, residuals, dh):
    return _add_relu_gradient(stride, dh, *residuals)


add_relu.defvjp(_add_relu_forward, _add_relu_backward)


def _is_primal(leaf):
    return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)


def _is_zero(cotangent):
    return isinstance(cotangent, jax.custom_derivatives.SymbolicZero)
