import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from PIL import Image

from ltjax import mesh
from ltjax.augmentation import augments as augment
from ltjax.augmentation.augments import AUGMENTS, normalize, pad_crop_flip
from ltjax.axes import example_keys
from ltjax.data.datasets import DATASETS

IMAGE = np.random.default_rng(0).integers(1, 256, (500, 6, 5, 3)).astype(np.uint8)
KEYS = jax.random.split(jax.random.key(0), 500)


def windows(image, pad):
    """All pictures that one image can become: shift, and whether mirrored."""
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    height, width, _ = image.shape
    for row in range(2 * pad + 1):
        for column in range(2 * pad + 1):
            window = padded[row : row + height, column : column + width]
            yield (row, column, False), window
            yield (row, column, True), window[:, ::-1]


def test_every_shift_and_mirror_happens_equally_often():
    found = np.asarray(pad_crop_flip(KEYS, jnp.asarray(IMAGE), pad=1, flip=True))
    seen = []
    for before, after in zip(IMAGE, found, strict=True):
        matches = [where for where, window in windows(before, 1) if (window == after).all()]
        assert len(matches) == 1
        seen += matches
    counts = np.array([seen.count(where) for where in set(seen)])
    assert len(counts) == 18 and counts.sum() == 500
    assert ((counts - 500 / 18) ** 2 / (500 / 18)).sum() < 41  # chi-squared, 17 degrees, p = 0.001


def test_nothing_happens_without_padding_and_mirroring():
    found = pad_crop_flip(KEYS, jnp.asarray(IMAGE), pad=0, flip=False)
    np.testing.assert_array_equal(found, IMAGE)


def test_cutout_blackens_one_square_whose_centre_may_be_anywhere():
    found = np.asarray(augment.cut_out(KEYS, jnp.asarray(IMAGE), size=3))
    centres = []
    for before, after in zip(IMAGE, found, strict=True):
        rows, columns = np.nonzero((after == 0).all(-1))
        expected = before.copy()
        expected[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 0
        np.testing.assert_array_equal(after, expected)
        # a square at the border is cut off, and its centre then one of two pixels from its corner
        top, left = (x.max() - 1 if x.min() == 0 else x.min() + 1 for x in (rows, columns))
        assert len(np.unique(rows)) == 3 - (top in (0, 5))
        assert len(np.unique(columns)) == 3 - (left in (0, 4))
        centres.append((top, left))
    counts = np.array([centres.count(where) for where in set(centres)])
    assert len(counts) == 30 and counts.sum() == 500
    assert ((counts - 500 / 30) ** 2 / (500 / 30)).sum() < 58  # 29 degrees, p = 0.001


def test_a_square_as_large_as_the_image_leaves_a_quarter_at_least():
    """Its centre is in the image: what is cut is at least its quadrant that lies inside."""
    found = np.asarray(augment.cut_out(KEYS, jnp.ones((500, 4, 4, 1), jnp.uint8), size=4))
    assert set((found == 0).sum((1, 2, 3))) == {a * b for a in (2, 3, 4) for b in (2, 3, 4)}


def test_turned_images_are_pillows_and_all_angles_are_as_likely():
    image = np.random.default_rng(1).integers(1, 256, (12, 10, 3)).astype(np.uint8)
    angles = np.linspace(-15, 15, 2 * 240 + 1)
    expected = np.stack([Image.fromarray(image).rotate(angle) for angle in angles])
    keys = jax.random.split(jax.random.key(1), 2000)
    found = np.asarray(
        augment.turned(keys, jnp.asarray(np.resize(image, (2000, *image.shape))), 15)
    )
    number = {picture.tobytes(): i for i, picture in enumerate(expected)}  # the last of equal ones
    drawn = np.array([number[picture.tobytes()] for picture in found])
    apart = np.array([number[picture.tobytes()] for picture in expected])
    tenths = [np.isin(drawn, part).mean() for part in np.array_split(np.arange(481), 10)]
    shares = [np.isin(apart, part).mean() for part in np.array_split(np.arange(481), 10)]
    np.testing.assert_allclose(tenths, shares, atol=0.027)  # four standard deviations


OPTIONS = {"cutout": {"size": 4}, "autoaugment": {"cutout": 3}, "randaugment": {"cutout": 3}}
every_row = pytest.mark.parametrize("row", AUGMENTS)


@functools.cache
def compiled(row, dataset, shape):
    return jax.jit(AUGMENTS[row](DATASETS[dataset], shape, **OPTIONS.get(row, {})))


def augmented(row, dataset, image):
    return np.asarray(compiled(row, dataset, image.shape[1:])(KEYS[: len(image)], image))


@every_row
@pytest.mark.parametrize("dataset, channels", [("digits", 1), ("cifar10", 3)])
def test_each_row_gives_images_that_depend_on_their_own_key_alone(row, dataset, channels):
    image = jnp.asarray(np.resize(IMAGE, (500, 8, 8, channels)))
    found = augmented(row, dataset, image)
    assert found.dtype == np.uint8 and found.shape == image.shape
    other = np.concatenate([image[:4], 255 - image[4:]])
    np.testing.assert_array_equal(augmented(row, dataset, other)[:4], found[:4])
    changed = (found != image).any((1, 2, 3))
    assert not changed.any() if row == "none" else changed.any()


def test_the_default_row_is_shifts_and_mirroring_as_the_data_set_has_them():
    image = jnp.asarray(IMAGE[:20])
    for name, pad, flip in [("digits", 1, False), ("cifar10", 4, True)]:
        expected = jax.jit(pad_crop_flip, static_argnums=(2, 3))(KEYS[:20], image, pad, flip)
        np.testing.assert_array_equal(augmented("pad_crop_flip", name, image), expected)


@pytest.mark.parametrize("row", ["cutout", "autoaugment", "randaugment", "rotation"])
def test_digits_are_never_mirrored(row):
    """Pixels are ranked from left to right; in a mirrored image, from right to left."""
    ramp = np.broadcast_to(np.arange(1, 9) * 25, (500, 8, 8))[..., None].astype(np.uint8)
    shifted = {x.tobytes() for x in augmented("pad_crop_flip", "digits", ramp)}
    mirrored = {np.frombuffer(x, np.uint8).reshape(8, 8)[:, ::-1].tobytes() for x in shifted}
    found = {x.tobytes() for x in augmented(row, "digits", ramp)}
    assert not found & mirrored - shifted


def test_normalising_is_per_channel():
    image = jnp.full((1, 1, 1, 3), 255, jnp.uint8)
    found = normalize(image, (0.5, 0.0, 1.0), (0.5, 0.25, 2.0))
    np.testing.assert_allclose(found[0, 0, 0], [1.0, 4.0, 0.0])


@pytest.mark.parametrize("shape", [(1, 2), (1, 8)])
def test_keys_of_examples_do_not_depend_on_the_number_of_devices(shape):
    def keys(devices):
        on = mesh.mesh_for(1, jax.devices()[: devices[1]])
        each = 8 // devices[1]

        def one(key):
            return jax.random.key_data(example_keys(key, each))

        return jax.jit(mesh.over_mesh(one, on, (mesh.WHOLE,), mesh.EXAMPLES))(jax.random.key(3))

    np.testing.assert_array_equal(keys(shape), keys((1, 1)))


def test_two_copies_of_an_image_in_a_batch_are_augmented_differently():
    trainer = toy.Trainer(toy.phase(), 1)
    image = jnp.asarray(np.repeat(IMAGE[:1, :, :, :], 16, axis=0))

    def one(key):
        return pad_crop_flip(example_keys(key, 16), image, pad=2, flip=True)

    run = jax.jit(mesh.over_mesh(one, trainer.mesh, (mesh.WHOLE,), mesh.EXAMPLES))
    assert len({x.tobytes() for x in np.asarray(run(jax.random.key(0)))}) > 8
