import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ltjax import mesh
from ltjax.axes import example_keys
from ltjax.data.augment import normalize, pad_crop_flip

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
