"""Augmentation of images in JAX, so that it runs inside the compiled step; uint8 in, uint8 out.

`AUGMENTS` is the table: a row takes the data set's `DataInfo` and the images' shape, and makes an
Augment. Each image is changed by its own key, in all parts at once, so that results depend neither
on the other images nor on the number of devices.

128 images of 32 x 32 x 3 take 0.5 ms on 2 CPU cores with the first three rows and 12 to 14 ms with
`autoaugment` and `randaugment`, 4 % of a ResNet-32's step (docs/augmentation.md);
`jitter_grey_blur` takes about twice as long.
"""

import functools
import math
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ltjax.augmentation import jitter, policies
from ltjax.augmentation import pillow as operations
from ltjax.data.info import DataInfo
from ltjax.errors import FieldError
from ltjax.limits import above, at_least, at_most

Augment = Callable[[jax.Array, jax.Array], jax.Array]  # (key[B], u8[B, H, W, channels]) -> u8[same]
Shape = tuple[int, int, int]  # H, W, channels
# Of a square of pixels; each image's size is a limit, too.
Side = Annotated[int, at_least(1), at_most(10_000)]
SideOrNone = Annotated[int, at_least(0), at_most(10_000)]  # 0: no square


def unchanged(info: DataInfo, shape: Shape) -> Augment:
    """The images as they are."""
    del info, shape
    return lambda keys, image: image


def standard(info: DataInfo, shape: Shape) -> Augment:
    """Shifts by up to 4 pixels (digits: 1) and, where classes allow, mirroring."""
    del shape
    return lambda keys, image: pad_crop_flip(keys, image, info.pad, info.flip)


def with_cutout(info: DataInfo, shape: Shape, *, size: Side) -> Augment:
    """`pad_crop_flip`, then a black square of `size` pixels. DeVries and Taylor, 2017."""
    return _in_turn(standard(info, shape), _hole(size, shape, "size"))


def with_autoaugment(info: DataInfo, shape: Shape, *, cutout: SideOrNone = 0) -> Augment:
    """`pad_crop_flip`, AutoAugment's policy for CIFAR-10, Cutout of that size unless it is 0.

    Cubuk et al., CVPR 2019. With cutout 16 this is the augmentation of Balanced Softmax (Ren et
    al., NeurIPS 2020) and of many after it, in this order.
    """
    parts = [standard(info, shape), _changed_by(policies.autoaugment(shape[:2]))]
    return _in_turn(*parts, *_hole_if_any(cutout, shape))


def with_randaugment(
    info: DataInfo,
    shape: Shape,
    *,
    num_ops: Annotated[int, at_least(1), at_most(100)] = 2,
    magnitude: Annotated[float, at_least(0), at_most(10)] = 9.0,
    cutout: SideOrNone = 0,
) -> Augment:
    """`pad_crop_flip`, then RandAugment, then Cutout of that size unless it is 0.

    The better magnitude is the larger, the larger the network (Cubuk et al. 2020):
    try smaller ones than the default for a ResNet-32.
    """
    policy = policies.randaugment(shape[:2], num_ops, magnitude)
    parts = [standard(info, shape), _changed_by(policy)]
    return _in_turn(*parts, *_hole_if_any(cutout, shape))


def with_rotation(
    info: DataInfo, shape: Shape, *, degrees: Annotated[float, above(0), at_most(180)] = 15.0
) -> Augment:
    """`pad_crop_flip`, then turned by up to so many degrees. Wang et al. (RIDE), ICLR 2021."""
    return _in_turn(standard(info, shape), lambda keys, image: turned(keys, image, degrees))


def with_jitter(info: DataInfo, shape: Shape) -> Augment:
    """`pad_crop_flip`, then jittered colours, greying and blurring, each at random.

    The views of contrastive learning (Chen et al., MoCo v2, 2020), as SADE (Zhang et al., NeurIPS
    2022) takes two of each test image; see `ltjax.augmentation.jitter.view` for the strengths.
    """
    return _in_turn(standard(info, shape), jax.vmap(jitter.view))


AUGMENTS = {
    "none": unchanged,
    "pad_crop_flip": standard,
    "cutout": with_cutout,
    "autoaugment": with_autoaugment,
    "randaugment": with_randaugment,
    "rotation": with_rotation,
    "jitter_grey_blur": with_jitter,
}


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


def cut_out(keys: jax.Array, image: jax.Array, size: int) -> jax.Array:
    """Blacken a square of each image, at a random place.

    DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
    arXiv 1708.04552, 2017. The square's centre is uniform over the pixels, so part of it may lie
    outside. Black is what the codes of long-tailed recognition cut to, before normalisation; the
    authors cut after it, to the data set's mean.

    Args:
      keys: key[B], one an image.
      image: u8[B, H, W, channels].
      size: pixels; the square begins size // 2 above and left of its centre.

    Returns:
      u8[B, H, W, channels].
    """
    extent = jnp.array(image.shape[1:3])
    u = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)  # [B, 2]
    first = (u * extent).astype(jnp.int32) - size // 2

    def cut(axis):
        place = jnp.arange(image.shape[1 + axis])
        return (place >= first[:, axis, None]) & (place < first[:, axis, None] + size)

    hole = cut(0)[:, :, None] & cut(1)[:, None, :]  # [B, H, W]
    return jnp.where(hole[..., None], 0, image)


def turned(keys: jax.Array, image: jax.Array, degrees: float) -> jax.Array:
    """Turn each image about its centre, by an angle of its own.

    Angles are equally likely, from -degrees to degrees in steps of at most 1/16: a corner of 32 x
    32 pixels moves by less than 1/40 of a pixel from one to the next. Each result is Pillow's, so
    torchvision's, with the nearest pixel and black where there is none.

    Args:
      keys: key[B], one an image.
      image: u8[B, H, W, channels].
      degrees: the largest angle.

    Returns:
      u8[B, H, W, channels].
    """
    angles = np.linspace(-degrees, degrees, 2 * math.ceil(16 * degrees) + 1)
    warps = np.stack([operations.rotate(angle, *image.shape[1:3]).warp for angle in angles])
    number = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(warps)))(keys)  # [B]
    black = functools.partial(operations.warped, outside=0)
    return jax.vmap(black)(image, jnp.asarray(warps)[number])


def normalize(
    image: jax.Array, mean: tuple[float, ...], std: tuple[float, ...], dtype: str = "float32"
) -> jax.Array:
    """(image / 255 - mean) / std per channel; u8[B, H, W, channels] -> dtype of the same shape."""
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return ((image.astype(jnp.float32) / 255 - mean) / std).astype(dtype)


def _in_turn(*parts: Augment) -> Augment:
    """One after another, each with a key of its own."""

    def augment(keys, image):
        keys = jax.vmap(lambda key: jax.random.split(key, len(parts)))(keys)  # [B, parts]
        for number, part in enumerate(parts):
            image = part(keys[:, number], image)
        return image

    return augment


def _hole(size: int, shape: Shape, option: str) -> Augment:
    height, width, _ = shape
    most = min(height, width)
    if size > most:
        why = f"it must be at most {most} on images of {height} x {width} pixels"
        raise FieldError(option, size, why)
    return lambda keys, image: cut_out(keys, image, size)


def _hole_if_any(size: int, shape: Shape) -> list[Augment]:
    return [_hole(size, shape, "cutout")] if size else []


def _changed_by(policy: policies.Policy) -> Augment:
    def one(key, image):
        return policies.perform(policy.operations, policy.draw(key), image)

    return jax.vmap(one)
