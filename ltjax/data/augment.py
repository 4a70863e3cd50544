"""Augmentation of images in JAX, so that it runs inside the compiled step; uint8 in, uint8 out."""

import jax
import jax.numpy as jnp
from jax import lax


def pad_crop_flip(keys: jax.Array, image: jax.Array, pad: int, flip: bool) -> jax.Array:
    """Shift each image by up to `pad` pixels and mirror half of them.

    Zero-pad by `pad` on every side, cut a window of the old size at a uniformly random place, and
    with `flip` mirror left and right with probability 1/2: the field's augmentation for CIFAR
    (pad 4). The padding is black, as in the authors' code: it comes before normalisation.

    Args:
      keys: key[B], one an image.
      image: u8[B, H, W, channels].
      pad: pixels.
      flip: whether mirrored images mean the same.

    Returns:
      u8[B, H, W, channels].
    """
    height, width, _ = image.shape[1:]
    corner_keys, mirror_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    corner = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2 * pad + 1))(corner_keys)
    mirror = jax.vmap(jax.random.bernoulli)(mirror_keys)  # [B]

    def one(image, corner, mirror):
        size = (height, width, image.shape[-1])
        image = lax.dynamic_slice(image, (corner[0], corner[1], 0), size)
        return jnp.where(mirror & flip, image[:, ::-1], image)

    padded = jnp.pad(image, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return jax.vmap(one)(padded, corner, mirror)


def normalize(
    image: jax.Array, mean: tuple[float, ...], std: tuple[float, ...], dtype: str = "float32"
) -> jax.Array:
    """(image / 255 - mean) / std per channel; u8[B, H, W, channels] -> dtype of the same shape."""
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return ((image.astype(jnp.float32) / 255 - mean) / std).astype(dtype)
