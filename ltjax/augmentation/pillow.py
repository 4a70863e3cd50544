"""Image operations with Pillow's results, bit for bit, in JAX.

An operation is not a function but a few numbers: a warp, then a table of new values, then a blend,
at most one of which changes the image. So a batch in which every image gets another operation costs
one warp, one table and one blend; a switch under vmap would compute all operations for all images.

The numbers are worked out in NumPy's float64, as Pillow does, before anything is compiled. What is
left for the device is integer arithmetic and one product, rounded as in C. tests/test_pillow.py
compares each operation with Pillow on images of one channel (its mode L) and of three (RGB).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

GREY = 128  # what a warp shows from outside the image
FIXED, AUTOCONTRAST, EQUALIZE = range(3)  # where the table comes from
MEAN, COLORLESS, SMOOTH = range(3)  # what the image is blended with

_ONE = 1 << 16  # coordinates are in 1/65536 of a pixel, as in Pillow
_VALUES = np.arange(256, dtype=np.int32)


class Operation(NamedTuple):
    """One operation; by default it changes nothing. Stacked, leaves get a leading axis."""

    # i32[6]: the output's pixel (x, y) shows the input's (a x + b y + c, d x + e y + f)
    warp: np.ndarray = np.array([_ONE, 0, _ONE // 2, 0, _ONE, _ONE // 2], np.int32)
    source: np.ndarray = np.int32(FIXED)  # i32[]: the table below, or one made for the image
    table: np.ndarray = _VALUES.astype(np.uint8)  # u8[256]: the new value of each value
    other: np.ndarray = np.int32(MEAN)  # i32[]: what to blend with
    # f32[2], a factor as the sum of its upper and lower bits: 0 is the other image, 1 this one
    factor: np.ndarray = np.array([1, 0], np.float32)


def shear_x(slope: float) -> Operation:
    """Move each row left by `slope` times its height from the top."""
    return _affine(1, slope, 0, 0, 1, 0)


def shear_y(slope: float) -> Operation:
    """Move each column up by `slope` times its distance from the left."""
    return _affine(1, 0, 0, slope, 1, 0)


def translate_x(pixels: float) -> Operation:
    """Move the image left, by whole pixels: the nearest to `pixels`."""
    return _affine(1, 0, math.floor(pixels + 0.5), 0, 1, 0)


def translate_y(pixels: float) -> Operation:
    """Move the image up, by whole pixels: the nearest to `pixels`."""
    return _affine(1, 0, 0, 0, 1, math.floor(pixels + 0.5))


def rotate(degrees: float, height: int, width: int) -> Operation:
    """Turn the image about its centre, counter-clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return _affine(cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


def invert() -> Operation:
    """Give each value v the value 255 - v."""
    return Operation(table=(255 - _VALUES).astype(np.uint8))


def solarize(threshold: float) -> Operation:
    """Invert the values that are not below `threshold`; 256 changes nothing."""
    return Operation(table=np.where(threshold > _VALUES, _VALUES, 255 - _VALUES).astype(np.uint8))


def posterize(bits: int) -> Operation:
    """Keep the upper `bits`, 1 to 8, of each value."""
    return Operation(table=(_VALUES & ~(2 ** (8 - bits) - 1)).astype(np.uint8))


def brightness(factor: float) -> Operation:
    """Blend with black, which no pixel's neighbours decide: a table."""
    values = np.float32(factor) * _VALUES.astype(np.float32)
    return Operation(table=np.clip(values, 0, 255).astype(np.uint8))


def autocontrast() -> Operation:
    """Stretch the values of each channel over 0 to 255; a channel of one value stays."""
    return Operation(source=np.int32(AUTOCONTRAST))


def equalize() -> Operation:
    """Spread the values of each channel so that all are about equally frequent."""
    return Operation(source=np.int32(EQUALIZE))


def contrast(factor: float) -> Operation:
    """Blend with a uniform grey, the mean of the image's luma."""
    return _blend(MEAN, factor)


def color(factor: float) -> Operation:
    """Blend with the image's luma; an image of one channel stays, as in Pillow."""
    return _blend(COLORLESS, factor)


def sharpness(factor: float) -> Operation:
    """Blend with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; its border stays."""
    return _blend(SMOOTH, factor)


def stack(operations: list[Operation]) -> Operation:
    """Operations as one whose leaves have a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *operations)


def apply(operation: Operation, image: jax.Array) -> jax.Array:
    """Change one image.

    Args:
      operation: of one image; its leaves may be traced.
      image: u8[H, W, channels], 1 or 3 channels.

    Returns:
      u8[H, W, channels].
    """
    image = warped(image, operation.warp)
    image = _looked_up(image, operation.source, operation.table)
    return _blended(image, operation.other, operation.factor)


def _affine(a, b, c, d, e, f) -> Operation:
    """Pillow's fixed-point matrix: half a pixel is added, because it samples pixels' centres."""
    matrix = np.array([a, b, c + (a + b) / 2, d, e, f + (d + e) / 2])
    return Operation(warp=np.floor(matrix * _ONE + 0.5).astype(np.int32))


def _blend(other, factor) -> Operation:
    factor = np.float32(factor)
    upper = (factor.view(np.int32) & ~0xFFF).view(np.float32)  # 12 of the 24 bits
    return Operation(other=np.int32(other), factor=np.stack([upper, factor - upper]))


def warped(image: jax.Array, warp: jax.Array, outside: int = GREY) -> jax.Array:
    """Move pixels: u8[H, W, channels] -> the same, each the nearest one's value.

    Args:
      image: to change.
      warp: i32[6], see Operation.
      outside: the value of what comes from outside the image.
    """
    height, width, channels = image.shape
    y, x = np.mgrid[:height, :width].astype(np.int32)
    column = (warp[0] * x + warp[1] * y + warp[2]) >> 16  # [H, W]
    row = (warp[3] * x + warp[4] * y + warp[5]) >> 16
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = jnp.where(inside, row * width + column, height * width)
    padded = jnp.pad(image.reshape(-1, channels), ((0, 1), (0, 0)), constant_values=outside)
    return padded[index]


def _looked_up(image, source, table):
    """New values of each channel, from the operation's table or from one made for the channel."""
    channels = image.shape[-1]
    place = image.astype(jnp.int32) + 256 * np.arange(channels, dtype=np.int32)
    count = jnp.zeros(256 * channels, jnp.int32).at[place.reshape(-1)].add(1)
    count = count.reshape(channels, 256)
    low = jnp.where(count > 0, _VALUES, 255).min(1)
    high = jnp.where(count > 0, _VALUES, 0).max(1)
    tables = jnp.where(source == AUTOCONTRAST, jax.vmap(_autocontrast)(low, high), table)
    tables = jnp.where(source == EQUALIZE, jax.vmap(_equalize)(count, high), tables)
    return tables.astype(jnp.uint8).reshape(-1)[place]


def _roundings():
    """f32[span, value]: what rounding adds to value * (255 / span), in units of 2^-52."""
    span = np.maximum(_VALUES, 1)[:, None]
    whole, part = np.divmod(255 * _VALUES, span)
    return ((_VALUES * (255.0 / span) - whole - part / span) * 2.0**52).astype(np.float32)


_ROUNDINGS = _roundings()
_HALF_STEPS = (np.spacing(np.arange(256.0)) * 2.0**51).astype(np.float32)  # below each integer


def _autocontrast(low, high):
    """Values from low to high, stretched over 0 to 255.

    Pillow takes the integer part of value * scale - low * scale, in float64. Where that should be
    an integer, it is one less in 5 of 1000 cases, by how the two products round.
    """
    span = jnp.maximum(high - low, 1)
    scaled = 255 * (_VALUES - low)
    whole = jnp.clip(_floor_divide(scaled, span), 0, 255)  # no pixel has a value outside
    rounding = jnp.asarray(_ROUNDINGS)[span]
    short = (scaled == whole * span) & (rounding - rounding[low] < -jnp.asarray(_HALF_STEPS)[whole])
    return jnp.where(high > low, whole - short, _VALUES)


def _equalize(count, high):
    """As many values in each 255th part, but for the highest value, which does not count."""
    below = jnp.cumsum(count) - count
    step = (count.sum() - count[high]) // 255
    table = jnp.clip(_floor_divide(step // 2 + below, jnp.maximum(step, 1)), 0, 255)
    return jnp.where(step > 0, table, _VALUES)


def _floor_divide(number, by):
    """number // by, for numbers below 2^24: CPUs divide many floats at once, integers one by one.

    With 1/2 added the quotient is at least 1 / (2 by) from an integer, too far for rounding.
    """
    return jnp.floor((number + 0.5) / by).astype(jnp.int32)


def _blended(image, other, factor):
    """other + factor * (image - other), cut off and truncated to u8."""
    image = image.astype(jnp.int32)
    luma = _luma(image)  # [H, W]
    mean = (2 * luma.sum() + luma.size) // (2 * luma.size)
    others = jnp.where(other == MEAN, mean, luma)[..., None]
    others = jnp.where(other == SMOOTH, _smooth(image), others)
    difference = (image - others).astype(jnp.float32)
    # Pillow rounds the product, then the sum. Products with half of the factor's bits are exact, so
    # that nothing changes where a compiler makes one operation of a product and a sum.
    product = factor[0] * difference + factor[1] * difference
    return jnp.clip(others.astype(jnp.float32) + product, 0, 255).astype(jnp.uint8)


def _luma(image):
    if image.shape[-1] == 1:
        return image[..., 0]
    return (image @ np.array([19595, 38470, 7471], np.int32) + (1 << 15)) >> 16


def _smooth(image):
    height, width, _ = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * image
    inner = np.zeros((height, width, 1), bool)
    inner[1:-1, 1:-1] = True
    return jnp.where(inner, (2 * total + 13) // 26, image)
