"""The 3x3 convolutions of all experts as one, with a block-diagonal kernel.

Under `jax.vmap` a convolution of images and kernels that both differ from expert to expert becomes
a grouped one, whose gradients are slow on GPUs (jax-ml/jax #13800). Here it becomes one dense
convolution of E * I to E * O channels, whose kernel is zero but for the E blocks of the experts: E
times the multiply-adds, in one kernel launch instead of E, over channels that fill matrix units.
The gradients are the same trick: each is made of a dense convolution, never of a grouped one.

Zero times infinity is not zero: an expert that diverges makes the others diverge, too.
"""

import functools

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from ltjax.models.conv_plain import of_lax


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv3x3(x: jax.Array, w: jax.Array, stride: int = 1) -> jax.Array:
    """`ltjax.models.conv_plain.conv3x3`, block-diagonal under `jax.vmap`."""
    return _pieces(stride)[0](x, w)


def _forward(x, w, stride):
    return conv3x3(x, w, stride), (x, w)


def _backward(stride, residuals, g):
    _, of_input, of_kernel = _pieces(stride)
    return of_input(*residuals, g), of_kernel(*residuals, g)


conv3x3.defvjp(_forward, _backward)


@functools.cache
def _pieces(stride):
    """The convolution (x, w), its input gradient and its kernel gradient (x, w, g)."""

    def of_input(x, w, g):
        return jax.vjp(lambda x: of_lax(x, w, stride), x)[1](g)[0]

    def of_kernel(x, w, g):
        return jax.vjp(lambda w: of_lax(x, w, stride), w)[1](g)[0]

    return (
        _together(lambda x, w: of_lax(x, w, stride), out=_separate),
        _together(of_input, out=_separate),
        _together(of_kernel, out=_blocks_of),
    )


def _together(piece, out):
    """`piece` of one expert, whose vmap is itself of all experts' images and kernels as one."""
    piece = custom_vmap(piece)

    @piece.def_vmap
    def of_all(num_experts, batched, x, w, *g):
        x, w, *g = (
            array if own else jnp.broadcast_to(array, (num_experts, *array.shape))
            for array, own in zip((x, w, *g), batched, strict=True)
        )
        whole = piece(_join(x), _block_diagonal(w), *map(_join, g))
        return out(whole, num_experts), True

    return piece


def _join(x):
    """[E, B, H, W, C] -> [B, H, W, E * C]."""
    return jnp.moveaxis(x, 0, 3).reshape(*x.shape[1:4], -1)


def _separate(x, num_experts):
    """[B, H, W, E * C] -> [E, B, H, W, C]."""
    return jnp.moveaxis(x.reshape(*x.shape[:3], num_experts, -1), 3, 0)


def _block_diagonal(w):
    """[E, 3, 3, I, O] -> [3, 3, E * I, E * O]."""
    num_experts, height, width, inputs, outputs = w.shape
    blocks = jnp.where(_own(num_experts), jnp.moveaxis(w, 0, 2)[..., None, :], 0)
    return blocks.reshape(height, width, num_experts * inputs, num_experts * outputs)


def _blocks_of(w, num_experts):
    """[3, 3, E * I, E * O] -> [E, 3, 3, I, O], the blocks on the diagonal."""
    height, width, inputs, _ = w.shape
    blocks = w.reshape(height, width, num_experts, inputs // num_experts, num_experts, -1)
    return jnp.moveaxis(jnp.where(_own(num_experts), blocks, 0).sum(4), 2, 0)


def _own(num_experts):
    """Which of the blocks [.., E, I, E, O] are an expert's own."""
    return jnp.eye(num_experts, dtype=bool)[:, None, :, None]
