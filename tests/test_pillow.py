"""Each operation against Pillow: every pixel equal.

Pillow's wheels for x86-64 round products before sums, as C does. A Pillow that was built with
contracted products (GCC's default on ARM) may differ by 1 in the four enhancements.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from ltjax.augmentation import pillow as operations

SIZES = [(8, 8), (32, 32), (33, 20)]


def images(height, width, channels):
    """Noise of a full and of a narrow range, waves, one flat image, one of two values."""
    rng = np.random.default_rng(0)
    shape = (height, width, channels)
    y, x, c = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    waves = 127 + 100 * np.sin(x / 5 + c) * np.cos(y / 7) + rng.normal(0, 5, shape)
    return np.stack(
        [
            *rng.integers(0, 256, (4, *shape)),
            rng.integers(50, 170, shape),
            rng.integers(1, 12, shape),
            waves.clip(0, 255),
            np.full(shape, 77),
            np.where(x < 3, 200, 40),
        ]
    ).astype(np.uint8)


def to_pillow(image):
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def grey(image):
    return 128 if image.mode == "L" else (128, 128, 128)


def affine(*matrix):
    kind = Image.Transform.AFFINE
    return lambda image: image.transform(image.size, kind, matrix, fillcolor=grey(image))


def enhanced(name, factor):
    return lambda image: getattr(ImageEnhance, name)(image).enhance(factor)


SLOPES = [0.0, 1 / 30, 0.3, -0.3]
SHIFTS = [0.0, 0.5, -0.5, 2.5, 9.06, 150 / 331 * 20, -150 / 331 * 33]
FACTORS = [0.0, 0.1, 0.7, 0.9, 1.0, 1.1, 1.3, 1.81, 1.9]

# (name, its arguments beside the size, Pillow's own)
CASES = [
    *[("shear_x", (s,), affine(1, s, 0, 0, 1, 0)) for s in SLOPES],
    *[("shear_y", (s,), affine(1, 0, 0, s, 1, 0)) for s in SLOPES],
    *[("translate_x", (t,), affine(1, 0, t, 0, 1, 0)) for t in SHIFTS],
    *[("translate_y", (t,), affine(1, 0, 0, 0, 1, t)) for t in SHIFTS],
    *[
        ("rotate", (a,), lambda image, a=a: image.rotate(a, fillcolor=grey(image)))
        for a in (0.0, 20 / 3, 10.0, 30.0, -30.0, 90.0, -90.0, 180.0)
    ],
    ("autocontrast", (), ImageOps.autocontrast),
    ("invert", (), ImageOps.invert),
    ("equalize", (), ImageOps.equalize),
    *[
        ("solarize", (t,), lambda image, t=t: ImageOps.solarize(image, t))
        for t in (0, 28.4, 128, 256)
    ],
    *[("posterize", (b,), lambda image, b=b: ImageOps.posterize(image, b)) for b in (1, 4, 5, 8)],
    *[("contrast", (f,), enhanced("Contrast", f)) for f in FACTORS],
    *[("color", (f,), enhanced("Color", f)) for f in FACTORS],
    *[("brightness", (f,), enhanced("Brightness", f)) for f in FACTORS],
    *[("sharpness", (f,), enhanced("Sharpness", f)) for f in FACTORS],
]

apply = jax.jit(jax.vmap(operations.apply, (None, 0)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", dict.fromkeys(name for name, _, _ in CASES))
def test_an_operation_gives_what_pillow_gives(name, channels):
    for size in SIZES:
        batch = images(*size, channels)
        for _, arguments, pillow in [case for case in CASES if case[0] == name]:
            sized = size if name == "rotate" else ()
            found = apply(getattr(operations, name)(*arguments, *sized), batch)
            expected = [np.asarray(pillow(to_pillow(image))) for image in batch]
            np.testing.assert_array_equal(found, np.reshape(expected, found.shape), str(arguments))


def test_autocontrast_is_pillows_for_every_range_of_values():
    low, high = np.triu_indices(256, k=1)
    found = jax.jit(jax.vmap(operations._autocontrast))(low, high)  # [ranges, 256]
    value = np.arange(256)
    scale = (255.0 / (high - low))[:, None]
    expected = (value * scale + -low[:, None] * scale).astype(int)  # ImageOps.autocontrast
    inside = (value >= low[:, None]) & (value <= high[:, None])
    np.testing.assert_array_equal(np.where(inside, found, 0), np.where(inside, expected, 0))


def test_an_operation_is_nothing_by_default():
    batch = images(7, 5, 3)
    np.testing.assert_array_equal(apply(operations.Operation(), batch), batch)


def test_stacked_operations_are_applied_each_to_its_image():
    each = [operations.invert(), operations.rotate(30, 8, 8), operations.color(0.1)]
    batch = jnp.asarray(images(8, 8, 3)[:3])
    found = jax.jit(jax.vmap(operations.apply))(operations.stack(each), batch)
    for number, operation in enumerate(each):
        np.testing.assert_array_equal(found[number], apply(operation, batch)[number])


def test_a_warp_shows_grey_from_outside():
    found = apply(operations.translate_x(2), np.zeros((1, 4, 4, 1), np.uint8))
    np.testing.assert_array_equal(found[0, 0, :, 0], [0, 0, 128, 128])
