import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ltjax.learner import Variables
from ltjax.methods.cam import foreground as fg

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 12, 10
IMAGE = RNG.integers(1, 256, (64, HEIGHT, WIDTH, 3)).astype(np.uint8)
SMALL = RNG.integers(0, 256, (64, 3, 4)).astype(np.uint8)
KEYS = jax.random.split(jax.random.key(0), 64)

transform = jax.jit(jax.vmap(fg.transform_foreground))


def spot(rows, columns):
    """u8[H, W]: a map that is 200 on some rows and columns, 0 elsewhere."""
    cam = np.zeros((HEIGHT, WIDTH), np.uint8)
    cam[rows, columns] = 200
    return cam


def moved(image, cam, choice, parameters, box="as_code"):
    @jax.jit
    def move(image, cam, parameters):
        return fg.move_foreground(image, cam, fg.bounding_box(cam, box), choice, parameters)

    return np.asarray(move(image, cam, np.array(parameters)))


def test_a_class_map_averages_to_the_logit():
    network = toy.network(4)
    image = jnp.asarray(IMAGE[:6, :8, :8, :1], jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)
    variables = Variables(*jax.tree.map(lambda x: RNG.uniform(0.1, 0.9, x.shape), shapes))
    variables = jax.tree.map(jnp.float32, variables)

    @jax.jit
    def evaluate(variables):
        maps, _ = network.maps(variables, image, train=False)
        return toy.outputs(network, variables, image)[0], maps

    (logits, features), maps = evaluate(variables)
    kernel, bias = network.weights(variables)
    assert maps.shape == (6, 4, 4, 8)  # one stride of 2
    np.testing.assert_allclose(maps.mean((1, 2)), features, rtol=1e-6)
    sums = np.einsum("bhwd,dc->bchw", maps, kernel)
    np.testing.assert_allclose(sums.mean((2, 3)) + bias, logits, rtol=1e-4)
    label = jnp.array([0, 1, 2, 3, 0, 1])
    found = jax.vmap(fg.class_map)(maps, kernel.T[label])
    for i, of in enumerate(label):
        share = (sums[i, of] - sums[i, of].min()) / np.ptp(sums[i, of])
        assert np.abs(255 * share - found[i] - 0.5).max() < 0.501  # rounded down


def test_a_map_of_one_value_is_all_foreground():
    found = fg.class_map(jnp.ones((3, 4, 2)), jnp.array([0.1, -0.7]))
    np.testing.assert_array_equal(found, 255)
    assert fg.foreground(fg.enlarge(found, HEIGHT, WIDTH)).all()


def test_a_map_of_the_images_size_is_taken_as_it_is():
    np.testing.assert_array_equal(fg.enlarge(IMAGE[0, :, :, 0], HEIGHT, WIDTH), IMAGE[0, :, :, 0])


def test_the_box_ends_at_the_second_row_and_column_or_at_the_last():
    cam = spot(slice(3, 8), [1, 4, 6])
    np.testing.assert_array_equal(fg.bounding_box(cam, "as_code"), [[1, 4], [3, 4]])
    np.testing.assert_array_equal(fg.bounding_box(cam, "full"), [[1, 6], [3, 7]])
    one_row = spot(5, slice(2, 6))
    np.testing.assert_array_equal(fg.bounding_box(one_row, "as_code"), [[2, 3], [5, -1]])
    np.testing.assert_array_equal(fg.bounding_box(one_row, "full"), [[2, 5], [5, 5]])


@pytest.mark.parametrize("box", ["as_code", "full"])
def test_all_that_may_be_drawn_is_drawn_and_nothing_else(box):
    corners = fg.bounding_box(spot(slice(3, 8), [1, 4, 6]), box)
    keys = jax.random.split(jax.random.key(0), 6000)
    choice, parameters = jax.vmap(lambda key: fg.draw(key, corners, HEIGHT, WIDTH))(keys)
    counts = np.bincount(choice, minlength=3)
    assert ((counts - 2000) ** 2 / 2000).sum() < 13.8  # chi-squared, 2 degrees, p = 0.001
    degrees, percent = parameters[choice == fg.ROTATE].T
    right, down = parameters[choice == fg.TRANSLATE].T
    assert set(np.asarray(degrees)) == set(range(-45, 45))
    assert set(np.asarray(percent)) == set(range(80, 120))
    last_column, last_row = {"as_code": (4, 4), "full": (6, 7)}[box]
    assert set(np.asarray(right)) == set(range(-1, WIDTH - last_column))
    assert set(np.asarray(down)) == set(range(-3, HEIGHT - last_row))


def test_a_shift_pastes_the_foreground_over_the_image_and_what_is_near_into_its_hole():
    image, cam = IMAGE[0], spot(slice(1, 3), slice(2, 5))
    found = moved(image, cam, fg.TRANSLATE, (4, 7))
    expected = image.copy()
    expected[8:10, 6:9] = image[1:3, 2:5]
    # rows 1 and 2 would be read from above the image: nothing there, the old pixels stay
    np.testing.assert_array_equal(found, expected)
    found = moved(image, cam, fg.TRANSLATE, (1, 0))
    expected = image.copy()
    expected[1:3, 2:6] = image[1:3, 1:5]
    np.testing.assert_array_equal(found, expected)


def test_a_channel_that_is_black_keeps_its_old_value():
    image = IMAGE[0].copy()
    image[1, 1, 0] = 0
    found = moved(image, spot(1, slice(1, 3)), fg.TRANSLATE, (5, 6))
    np.testing.assert_array_equal(found[7, 6], [image[7, 6, 0], *image[1, 1, 1:]])


def test_turning_by_nothing_changes_nothing():
    np.testing.assert_array_equal(
        moved(IMAGE[0], spot(slice(2, 5), slice(2, 5)), fg.ROTATE, (0, 100)), IMAGE[0]
    )


def test_positive_angles_turn_anticlockwise_about_the_middle_of_the_box():
    image, cam = np.ones((HEIGHT, WIDTH, 1), np.uint8), spot(slice(4, 7), slice(3, 6))
    image[5, 5] = 200  # right of the middle, (5, 4)
    found = moved(image, cam, fg.ROTATE, (90, 100), box="full")
    image[5, 5], image[4, 4] = 1, 200  # now above it
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("parameters", [(-37, 85), (44, 119), (13, 100)])
def test_a_rotation_leaves_alone_what_neither_foreground_covers(parameters):
    cam = spot(slice(3, 7), slice(3, 6))
    found = moved(IMAGE[0], cam, fg.ROTATE, parameters, box="full")
    # A pixel of the new foreground has its source within a pixel of the old one, in each direction.
    angle, scale = np.deg2rad(parameters[0]), parameters[1] / 100
    row, column = np.mgrid[:HEIGHT, :WIDTH] - np.array([4.5, 4.0])[:, None, None]
    source_row = 4.5 + (np.sin(angle) * column + np.cos(angle) * row) / scale
    source_column = 4.0 + (np.cos(angle) * column - np.sin(angle) * row) / scale
    near = (abs(source_row - 4.5) < 1.5 + 1.05) & (abs(source_column - 4.0) < 1.0 + 1.05)
    changed = (found != IMAGE[0]).any(-1)
    assert changed.any() and not (changed & ~(near | (cam > 0))).any()


def test_a_symmetric_image_is_its_own_mirror_image():
    image = np.concatenate([IMAGE[0, :, :5], IMAGE[0, :, :5][:, ::-1]], axis=1)
    cam = np.concatenate([IMAGE[1, :, :5, 0], IMAGE[1, :, :5, 0][:, ::-1]], axis=1)
    np.testing.assert_array_equal(moved(image, cam, fg.FLIP, (0, 0)), image)


def test_a_mirrored_foreground_leaves_the_rest_alone():
    cam = spot(slice(2, 6), slice(0, 3))
    expected = IMAGE[0].copy()
    expected[2:6, :3], expected[2:6, -3:] = IMAGE[0, 2:6, -3:][:, ::-1], IMAGE[0, 2:6, :3][:, ::-1]
    np.testing.assert_array_equal(moved(IMAGE[0], cam, fg.FLIP, (0, 0)), expected)


def test_a_batch_is_transformed_as_its_images_alone():
    together = transform(KEYS, IMAGE, SMALL)
    alone = jax.jit(fg.transform_foreground)
    apart = np.stack([alone(*one) for one in zip(KEYS, IMAGE, SMALL, strict=True)])
    assert (together != IMAGE).any((1, 2, 3)).sum() > 48
    # Another program may round an angle's cosine otherwise, and so read a 32nd of a pixel away.
    assert (together != apart).mean() < 1e-3


def test_images_of_one_channel_are_transformed_as_those_of_three():
    one, three = transform(KEYS, IMAGE[..., :1], SMALL), transform(KEYS, IMAGE, SMALL)
    assert one.shape == (64, HEIGHT, WIDTH, 1) and one.dtype == jnp.uint8
    assert (one[..., 0] != three[..., 0]).mean() < 1e-3  # see above


def test_every_class_grows_to_the_largest_and_the_smallest_together():
    np.testing.assert_array_equal(fg.num_generated([500, 50, 5]), [5, 455, 500])
    np.testing.assert_array_equal(
        fg.num_generated([500, 100, 99, 5], at_most=100), [0, 0, 100, 100]
    )
