"""The primitive of `layers.py` and the end of a block on the native CPU kernels, with gradients.

Same arguments and results as their plain twins in `convolution.py`, which also take their place
when a program is lowered for another platform than CPU (an export, say).
"""

import functools

import jax
from jax import lax

from ltjax import kernels
from ltjax.models import convolution as plain


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def conv_sums(x, a, c, w, stride: int, winograd: bool):
    """convolution.conv_sums, float32; `winograd`, where that applies, or as it is defined."""
    return lax.platform_dependent(
        *(x, a, c, w),
        cpu=lambda *args: kernels.conv_sums(*args, stride, winograd),
        default=lambda *args: plain.conv_sums(*args, stride),
    )


def _forward(x, a, c, w, stride, winograd):
    inputs = tuple(jax.tree.map(lambda of: of.value, (x, a, c, w), is_leaf=_is_primal))
    y, *sums = conv_sums(*inputs, stride, winograd)
    # Images need no gradient: what is static is told by the structure, () or None.
    need_dx = () if x.perturbed else None
    return (y, *sums), (inputs, y, need_dx)


def _backward(stride, winograd, residuals, cotangents):
    inputs, y, need_dx = residuals
    need_dx = need_dx is not None
    cotangents = tuple(
        jax.numpy.zeros(g.aval.shape, g.aval.dtype) if _is_zero(g) else g for g in cotangents
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
        dx, da, dc = unaffine(dseen)
        return dx if need_dx else None, da, dc, dw

    return lax.platform_dependent(inputs, y, cotangents, cpu=native, default=default)


@_conv_sums_gradient.defjvp
def _no_second_derivative(*_):
    raise NotImplementedError(
        "Native convolutions have no second derivative; config.compute.convolution=plain has."
    )


@jax.custom_vjp
def add_relu(y, a, c, shortcut):
    """convolution.add_relu, float32: only its gradient is native, one pass in place of several."""
    return plain.add_relu(y, a, c, shortcut)


def _add_relu_forward(y, a, c, shortcut):
    h = add_relu(y, a, c, shortcut)
    return h, (h, y, a)


@jax.custom_jvp
def _add_relu_gradient(h, y, a, dh):
    def default(dh, h, y, a):
        g = jax.numpy.where(h > 0, dh, 0)
        return a * g, g, (g * y).sum((0, 1, 2)), g.sum((0, 1, 2))

    return lax.platform_dependent(dh, h, y, a, cpu=kernels.block_end_gradient, default=default)


_add_relu_gradient.defjvp(_no_second_derivative)


def _add_relu_backward(residuals, dh):
    dy, d_shortcut, da, dc = _add_relu_gradient(*residuals, dh)
    return dy, da, dc, d_shortcut


add_relu.defvjp(_add_relu_forward, _add_relu_backward)


def _is_primal(leaf):
    return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)


def _is_zero(cotangent):
    return isinstance(cotangent, jax.custom_derivatives.SymbolicZero)
