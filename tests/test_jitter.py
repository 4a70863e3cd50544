"""Views of an image: each change is Pillow's or a known formula, and as often as it says."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from ltjax.augmentation import jitter
from ltjax.augmentation.augments import AUGMENTS
from ltjax.data.datasets import DATASETS

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (9, 7, 3)).astype(np.uint8)
FLOATS = jnp.asarray(IMAGE, jnp.float32)
NOTHING = (jnp.ones(3), jnp.float32(0))


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.37])
@pytest.mark.parametrize("number, name", list(enumerate(["Brightness", "Contrast", "Color"])))
def test_each_factor_is_pillows_enhancement(number, name, factor):
    factors = jnp.ones(3).at[number].set(factor)
    found = jitter.color_jitter(FLOATS, factors, jnp.float32(0), jnp.arange(4))
    expected = getattr(ImageEnhance, name)(Image.fromarray(IMAGE)).enhance(factor)
    # Pillow rounds its greys and cuts off the result's fraction
    np.testing.assert_allclose(found, np.asarray(expected, np.float32), atol=1.6)


@pytest.mark.parametrize("by", [-0.1, 0.04, 0.5])
def test_the_hue_turns_and_nothing_else(by):
    pixels = np.concatenate([IMAGE, np.full((1, 7, 3), 80, np.uint8)])  # the last row has no hue
    found = jitter.shift_hue(jnp.asarray(pixels, jnp.float32), jnp.float32(by))

    def turned(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        return 255 * np.array(colorsys.hsv_to_rgb((hue + by) % 1, saturation, value))

    expected = np.apply_along_axis(turned, -1, pixels.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_order_of_changes_matters_and_is_kept():
    factors = jnp.array([1.4, 0.6, 1.0])
    first, last = (
        jitter.color_jitter(FLOATS, factors, jnp.float32(0), jnp.array(order))
        for order in ([0, 1, 2, 3], [1, 0, 2, 3])
    )
    bright = np.clip(1.4 * np.asarray(FLOATS), 0, 255)
    mean = (bright @ jitter.LUMA).mean()
    np.testing.assert_allclose(first, mean + 0.6 * (bright - mean), rtol=1e-5)
    assert np.abs(first - last).max() > 1


def test_a_blur_keeps_flat_images_and_spreads_a_point_as_a_gaussian():
    flat = jnp.full((9, 7, 1), 77.0)
    np.testing.assert_allclose(jitter.blur(flat, jnp.float32(2)), flat, rtol=1e-6)
    point = jnp.zeros((31, 31, 1)).at[15, 15].set(1.0)
    spread = jitter.blur(point, jnp.float32(1.5))[..., 0]
    y, x = np.mgrid[-15:16, -15:16]
    np.testing.assert_allclose(spread.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose((spread * (y**2 + x**2)).sum(), 2 * 1.5**2, rtol=1e-4)
    np.testing.assert_allclose(jitter.blur(FLOATS, jnp.float32(0.1)), FLOATS, rtol=1e-5, atol=1e-9)


def test_images_of_one_channel_have_no_colours():
    grey = FLOATS[..., :1]
    found = jitter.color_jitter(grey, jnp.array([1.0, 1.0, 0.6]), jnp.float32(0.1), jnp.arange(4))
    np.testing.assert_allclose(found, grey, rtol=1e-6)


def test_views_are_jittered_and_greyed_as_often_as_they_should():
    keys = jax.random.split(jax.random.key(0), 2000)
    views = np.asarray(jax.jit(jax.vmap(jitter.view, (0, None)))(keys, jnp.asarray(IMAGE)))
    assert views.dtype == np.uint8
    unchanged = (views == IMAGE).all((1, 2, 3)).mean()
    colourless = (np.ptp(views.astype(int), axis=-1) == 0).all((1, 2)).mean()
    # five standard deviations of 2,000 draws are below 0.045; blurs of less than 0.3 pixels, a
    # fiftieth of all views, change nothing either
    np.testing.assert_allclose(unchanged, 0.2 * 0.8 * (0.8 + 0.2 * 0.1), atol=0.04)
    np.testing.assert_allclose(colourless, 0.2, atol=0.045)


def test_the_row_shifts_and_mirrors_first():
    augment = AUGMENTS["jitter_grey_blur"](DATASETS["cifar10"], (9, 7, 3))
    batch = jnp.asarray(np.stack([IMAGE] * 64))
    found = jax.jit(augment)(jax.random.split(jax.random.key(0), 64), batch)
    assert found.shape == batch.shape and found.dtype == jnp.uint8
    assert (found == 0).all(-1).any((1, 2)).mean() > 0.5  # black from outside
