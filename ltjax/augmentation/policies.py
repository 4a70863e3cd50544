"""Policies: which operations an image gets, at random, and how strong they are.

A policy is a list of operations and a way to draw some of them. All operations that can be drawn
are worked out beforehand, for each strength and direction, so a draw is a few small integers.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ltjax.augmentation import pillow as op
from ltjax.augmentation.pillow import Operation

Size = tuple[int, int]  # H, W

# name -> (strength, size) -> Operation. The strength is in [-1, 1]: 0 changes nothing or next to
# nothing, and where an operation has two directions, the sign is the direction. The ranges are
# those of AutoAugment's search space, as the code that long-tailed recognition uses has them
# (DeepVoltaire/AutoAugment): translations are at most 150 of 331 pixels. That code shears with
# bicubic interpolation; here all warps take the nearest pixel, as in the authors' own code.
STRENGTHS: dict[str, Callable[[float, Size], Operation]] = {
    "identity": lambda strength, size: Operation(),
    "shear_x": lambda strength, size: op.shear_x(0.3 * strength),
    "shear_y": lambda strength, size: op.shear_y(0.3 * strength),
    "translate_x": lambda strength, size: op.translate_x(150 / 331 * size[1] * strength),
    "translate_y": lambda strength, size: op.translate_y(150 / 331 * size[0] * strength),
    "rotate": lambda strength, size: op.rotate(30 * strength, *size),
    "autocontrast": lambda strength, size: op.autocontrast(),
    "invert": lambda strength, size: op.invert(),
    "equalize": lambda strength, size: op.equalize(),
    "solarize": lambda strength, size: op.solarize(256 - 256 * abs(strength)),
    "posterize": lambda strength, size: op.posterize(round(8 - 4 * abs(strength))),
    "contrast": lambda strength, size: op.contrast(1 + 0.9 * strength),
    "color": lambda strength, size: op.color(1 + 0.9 * strength),
    "brightness": lambda strength, size: op.brightness(1 + 0.9 * strength),
    "sharpness": lambda strength, size: op.sharpness(1 + 0.9 * strength),
}

# Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019: the policy
# found on reduced CIFAR-10, used for CIFAR-100 too. Each of the 25 sub-policies is two of (name,
# probability, level), levels 0 to 9 standing for strengths 0 to 1.
CIFAR10 = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)

# Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space",
# NeurIPS 2020, section 3.
RANDAUGMENT = tuple(name for name in STRENGTHS if name != "invert")


class Policy(NamedTuple):
    """Some operations, and a draw among them."""

    operations: Operation  # stacked: K of them
    draw: Callable[[jax.Array], jax.Array]  # key -> i32[S], numbers of operations, in their order


def autoaugment(size: Size) -> Policy:
    """One of the sub-policies, each of its operations with its probability, in either direction."""
    operations = [Operation()]
    for sub_policy in CIFAR10:
        for name, _, level in sub_policy:
            operations += [STRENGTHS[name](sign * level / 9, size) for sign in (1, -1)]
    probability = jnp.array([[p for _, p, _ in sub_policy] for sub_policy in CIFAR10])  # [25, 2]

    def draw(key):
        u = jax.random.uniform(key, (5,))  # one draw: each takes long to compile on CPU
        row = (len(CIFAR10) * u[0]).astype(jnp.int32)
        sign = (2 * u[3:]).astype(jnp.int32)
        number = 1 + 4 * row + jnp.array([0, 2]) + sign
        return jnp.where(u[1:3] < probability[row], number, 0)

    return Policy(op.stack(operations), draw)


def randaugment(size: Size, num_ops: int, magnitude: float) -> Policy:
    """`num_ops` of the operations, drawn with replacement, all as strong, in either direction.

    Args:
      size: (H, W) of the images.
      num_ops: the authors' N.
      magnitude: the authors' M, from 0 to 10, where 10 is as strong as AutoAugment's level 9. The
        authors' code for ImageNet has posterize and solarize grow weaker with M, and the enhancers
        go from factor 0.1 to 1.9; here all go from no change to the most, as in torchvision.
    """
    strengths = (magnitude / 10, -magnitude / 10)
    operations = [STRENGTHS[name](s, size) for name in RANDAUGMENT for s in strengths]

    def draw(key):
        return (len(operations) * jax.random.uniform(key, (num_ops,))).astype(jnp.int32)

    return Policy(op.stack(operations), draw)


def perform(operations: Operation, numbers: jax.Array, image: jax.Array) -> jax.Array:
    """Apply some of stacked operations to one image, one after another.

    Args:
      operations: K of them.
      numbers: i32[S], which ones.
      image: u8[H, W, channels].

    Returns:
      u8[H, W, channels].
    """

    def one(image, number):
        return op.apply(jax.tree.map(lambda leaf: jnp.asarray(leaf)[number], operations), image)

    return lax.scan(lambda image, number: (one(image, number), None), image, numbers)[0]
