"""Random changes of colour and sharpness, as contrastive learning makes views.

Strengths are drawn inside the compiled step, unlike those of ltjax.augmentation.pillow; so these
work on floats from 0 to 255, f32[H, W, channels], of one image, and are rounded once at the end.
Images of one channel have no colours; changes of colour leave them unchanged.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R 601, as Pillow's mode L
ORDERS = np.array(list(itertools.permutations(range(4))), np.int32)  # [24, 4]


def luma(image: jax.Array) -> jax.Array:
    """Perceived brightness, f32[H, W, 1]."""
    return (image * LUMA).sum(-1, keepdims=True) if image.shape[-1] == 3 else image


def blend(other: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
    """other + factor (image - other), cut off at 0 and 255."""
    return jnp.clip(other + factor * (image - other), 0, 255)


def shift_hue(image: jax.Array, by: jax.Array) -> jax.Array:
    """Turn the hue by a share of the circle; value and saturation of HSV stay."""
    if image.shape[-1] == 1:
        return image
    value, least = image.max(-1, keepdims=True), image.min(-1, keepdims=True)
    chroma = value - least
    red, green, blue = jnp.split(image, 3, axis=-1)
    sixths = jnp.where(
        value == red,
        (green - blue) / jnp.maximum(chroma, 1e-6),
        jnp.where(
            value == green,
            2 + (blue - red) / jnp.maximum(chroma, 1e-6),
            4 + (red - green) / jnp.maximum(chroma, 1e-6),
        ),
    )
    # how far red, green and blue are below the value, in parts of the chroma
    place = (sixths + 6 * by + np.array([5.0, 3.0, 1.0], np.float32)) % 6
    return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)


def color_jitter(image: jax.Array, factors: jax.Array, hue: jax.Array, order: jax.Array):
    """Brightness, contrast, saturation and hue, changed in some order.

    Args:
      image: f32[H, W, channels].
      factors: f32[3], of the first three: 1 changes nothing.
      hue: f32[], the turn.
      order: i32[4], a permutation.
    """

    def one(image, number):
        changed = (
            blend(jnp.zeros_like(image), image, factors[0]),
            blend(luma(image).mean(), image, factors[1]),
            blend(luma(image), image, factors[2]),
            shift_hue(image, hue),
        )
        return jnp.stack(changed)[number], None

    return lax.scan(one, image, order)[0]


def blur(image: jax.Array, sigma: jax.Array) -> jax.Array:
    """Smooth by a Gaussian of so many pixels; at the border, by the part of it inside."""

    def weights(size):
        distance = np.arange(size)[:, None] - np.arange(size)
        near = jnp.exp(-0.5 * (distance / sigma) ** 2)
        return near / near.sum(1, keepdims=True)

    height, width, _ = image.shape
    rows, columns = weights(height), weights(width)
    return jnp.einsum("hi,wj,ijc->hwc", rows, columns, image, precision="highest")


def view(key: jax.Array, image: jax.Array) -> jax.Array:
    """One view of an image: its colours jittered, perhaps grey, perhaps blurred.

    Colour jitter with probability 0.8: brightness, contrast and saturation by factors from 0.6 to
    1.4, the hue by up to a tenth of the circle, in random order; grey with 0.2; a blur of 0.1 to 2
    pixels with 0.2.

    Args:
      key: of this image.
      image: u8[H, W, channels], 1 or 3 channels.

    Returns:
      u8[H, W, channels].
    """
    u = jax.random.uniform(key, (9,))  # one draw: each takes long to compile on CPU
    is_jittered, is_grey, is_blurred = u[:3] < np.array([0.8, 0.2, 0.2], np.float32)
    image = image.astype(jnp.float32)
    order = jnp.asarray(ORDERS)[(len(ORDERS) * u[7]).astype(jnp.int32)]
    jittered = color_jitter(image, 0.6 + 0.8 * u[3:6], 0.2 * u[6] - 0.1, order)
    image = jnp.where(is_jittered, jittered, image)
    image = jnp.where(is_grey, luma(image), image)
    image = jnp.where(is_blurred, blur(image, 0.1 + 1.9 * u[8]), image)
    return jnp.round(image).astype(jnp.uint8)
