"""CAM-based sampling on images: the foreground is cut out, moved, and pasted over the image.

Zhang et al., "Bag of Tricks for Long-Tailed Visual Recognition with Deep Convolutional Neural
Networks", AAAI 2021. A class map (Zhou et al., CVPR 2016) of a trained network says where an image
shows its class; new images of a rare class are its images with that part rotated, shifted or
mirrored. The authors write them to files with OpenCV, once; here every function is of one image,
for `jax.vmap`, and runs inside the compiled step. Resampling is OpenCV 4's, on integers: maps,
shifts and mirror images are the authors' to the bit, rotations but for rounding of the angle.
"""

import jax
import jax.numpy as jnp
import numpy as np

ROTATE, TRANSLATE, FLIP = range(3)  # the authors' numbers

DEGREES, PERCENT = (-45, 45), (80, 120)  # of a rotation; the upper ends are never drawn


def class_map(feature_maps: jax.Array, weights: jax.Array) -> jax.Array:
    """Where an image shows a class: sum_k weights_k * feature_maps_k, from 0 to 255.

    The bias of the class plays no part, nor does a positive factor on its weights: a column of a
    cosine head works unchanged. Where the sum is the same everywhere, the authors' code divides
    zero by zero; here all of the image is foreground.

    Args:
      feature_maps: f[h, w, D] of the image, before pooling (`Network.maps`).
      weights: f[D], what the classifier weighs features with for the image's class.

    Returns:
      u8[h, w], floor(255 M) with M scaled to [0, 1].
    """
    # On some devices a plain product of float32 matrices keeps only 10 bits.
    total = jnp.einsum("hwd,d->hw", feature_maps, weights, precision="highest")
    total -= total.min()
    most = total.max()
    levels = jnp.floor(255 * (total / jnp.where(most > 0, most, 1)))
    # Compiled, most / most may come out a little less than 1.
    return jnp.where(total < most, levels, 255).astype(jnp.uint8)


def enlarge(small_map: jax.Array, height: int, width: int) -> jax.Array:
    """A class map at the size of its image: u8[h, w] -> u8[height, width].

    Bilinear between the centres of pixels, as cv2.resize with INTER_LINEAR on 8 bits: weights in
    1/2048, sums of a row cut to 1/128, products with the rows' weights to 1/4, then rounded.
    """
    left, right, near, far = _neighbours(small_map.shape[1], width)
    rows = small_map.astype(jnp.int32)
    rows = near * rows[:, left] + far * rows[:, right] >> 4  # [h, width]
    above, below, near, far = _neighbours(small_map.shape[0], height)
    upper = near[:, None] * rows[above] >> 16
    lower = far[:, None] * rows[below] >> 16
    return (upper + lower + 2 >> 2).astype(jnp.uint8)


def foreground(cam: jax.Array) -> jax.Array:
    """The pixels where a map is at least 3/4 of its mean: u8[H, W] -> bool[H, W].

    The factor 3/4 is the authors' code's. Compared as integers, which hold up to 2 million pixels.
    """
    level = cam.astype(jnp.int32)
    return 4 * level * level.size >= 3 * level.sum()


def transform_foreground(
    key: jax.Array, image: jax.Array, small_map: jax.Array, box: str = "as_code"
) -> jax.Array:
    """A new image of the same class: the foreground rotated and scaled, shifted, or mirrored.

    Each of the three with probability 1/3. Rotation is by -45 to 44 degrees and to 80 to 119
    percent of the size, about the middle of the foreground's box; a shift is uniform over those
    that keep the box in the image.

    With 'as_code' the box ends at the second row and column of the foreground, where the authors'
    search stops: rotations are about its upper left corner, and most of it may be shifted out of
    the image. Of a foreground of one row that end is -1, again as there: it may then be shifted
    out of the image altogether, which leaves the old image. 'full' ends at the last row and column.

    A batch of 128 CIFAR images takes 8 to 11 ms of a CPU core (Zen 3, JAX 0.10.2).

    Args:
      key: of the image.
      image: u8[H, W, channels].
      small_map: u8[h, w], from class_map.
      box: 'as_code' or 'full'.

    Returns:
      u8[H, W, channels].
    """
    height, width, _ = image.shape
    cam = enlarge(small_map, height, width)
    corners = bounding_box(cam, box)
    choice, parameters = draw(key, corners, height, width)
    return move_foreground(image, cam, corners, choice, parameters)


def bounding_box(cam: jax.Array, box: str) -> jax.Array:
    """Rows and columns between which the foreground lies.

    Args:
      cam: u8[H, W], a map at the size of its image.
      box: 'full', or 'as_code': only up to the second row and column, see transform_foreground.

    Returns:
      i32[2, 2], first and end of the columns, then of the rows; -1 for what is not there.
    """
    seen = foreground(cam) & (cam > 0)
    ends = _ENDS[box]
    return jnp.stack([ends(seen.any(0)), ends(seen.any(1))])


def draw(
    key: jax.Array, corners: jax.Array, height: int, width: int
) -> tuple[jax.Array, jax.Array]:
    """Which transform, and how: a choice i32[] and its parameters i32[2], for move_foreground."""
    choice_key, parameter_key = jax.random.split(key)
    choice = jax.random.randint(choice_key, (), 0, 3, jnp.int32)
    first, end = corners[:, 0], corners[:, 1]
    low = jnp.array([[DEGREES[0], PERCENT[0]], -first, [0, 0]])[choice]
    high = jnp.array([[DEGREES[1], PERCENT[1]], jnp.array([width, height]) - end, [1, 1]])[choice]
    return choice, jax.random.randint(parameter_key, (2,), low, high, jnp.int32)


def move_foreground(
    image: jax.Array,
    cam: jax.Array,
    corners: jax.Array,
    choice: jax.Array,
    parameters: jax.Array,
) -> jax.Array:
    """Transform an image, and keep of the result what old or new foreground covers.

    As the authors' code, a channel of a pixel that is then exactly 0 keeps its old value: what
    came from outside the image is 0, and so may be what came from inside.

    Args:
      image: u8[H, W, channels].
      cam: u8[H, W], its class map at this size.
      corners: i32[2, 2], from bounding_box.
      choice: i32[], ROTATE, TRANSLATE or FLIP.
      parameters: i32[2], (degrees, percent) of a rotation, (right, down) pixels of a shift.

    Returns:
      u8[H, W, channels].
    """
    old = foreground(cam)
    cut = jnp.where(old, cam, 0)[:, :, None]
    backwards = _backwards(corners, choice, parameters, image.shape[1])
    moved = _warp(jnp.concatenate([image, cut], axis=2), backwards)
    moved, new = moved[:, :, :-1], moved[:, :, -1] > 0
    return jnp.where((old | new)[:, :, None] & (moved != 0), moved, image)


def num_generated(class_counts: np.ndarray, at_most: int | None = None) -> np.ndarray:
    """How many new images the authors make of each class.

    Args:
      class_counts: i64[C], training images.
      at_most: None makes n_max + n_min - n_j of class j, so that all classes end with n_max + n_min
        (CIFAR); a number is the most for a class, and classes with as many images get none (100
        on ImageNet-LT).

    Returns:
      i64[C].
    """
    counts = np.asarray(class_counts, np.int64)
    number = counts.max() + counts.min() - counts
    if at_most is None:
        return number
    return np.where(counts >= at_most, 0, np.minimum(number, at_most))


def _neighbours(small, large):
    """Which two of `small` pixels each of `large` lies between, and their weights in 1/2048."""
    place = ((np.arange(large) + 0.5) * (small / large) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int32)
    far = np.rint(2048 * (place - first)).astype(np.int32)
    return np.maximum(first, 0), np.minimum(first + 1, small - 1), 2048 - far, far


def _first_and_next(seen):
    return jnp.nonzero(seen, size=2, fill_value=-1)[0].astype(jnp.int32)


def _first_and_last(seen):
    place = jnp.where(seen, jnp.arange(len(seen)), -1)
    return jnp.stack([jnp.where(seen.any(), seen.argmax(), -1), place.max()]).astype(jnp.int32)


_ENDS = {"as_code": _first_and_next, "full": _first_and_last}


def _backwards(corners, choice, parameters, width):
    """f32[2, 3]: the matrix that takes a pixel's (column, row, 1) to where its content was."""
    angle = jnp.deg2rad(parameters[0].astype(jnp.float32))
    shrink = 100 / jnp.maximum(parameters[1], 1)  # a shift's second number may be 0
    cos, sin = jnp.cos(angle) * shrink, jnp.sin(angle) * shrink
    turn = jnp.array([[cos, -sin], [sin, cos]])
    middle = corners.sum(1) / 2
    offset = middle - (turn * middle).sum(1)  # not `@`, which some devices round to 10 bits
    rotate = jnp.concatenate([turn, offset[:, None]], 1)
    translate = jnp.concatenate([jnp.eye(2), -parameters[:, None].astype(jnp.float32)], 1)
    flip = jnp.array([[-1.0, 0.0, width - 1], [0.0, 1.0, 0.0]])
    return jnp.stack([rotate, translate, flip])[choice]


def _warp(image, backwards):
    """Each pixel from where `backwards` finds it, bilinearly, with zeros outside of the image.

    As cv2.warpAffine of OpenCV 4: places to 1/32 of a pixel, from terms rounded to 1/1024.

    Args:
      image: u8[H, W, channels].
      backwards: f32[2, 3].

    Returns:
      u8[H, W, channels].
    """
    height, width, _ = image.shape
    along = jnp.rint(1024 * backwards[:, :1] * jnp.arange(width))  # [2, W]
    down = jnp.rint(1024 * (backwards[:, 1:2] * jnp.arange(height) + backwards[:, 2:]))  # [2, H]
    place = (along[:, None, :] + down[:, :, None]).astype(jnp.int32) + 16 >> 5  # [2, H, W]
    (column, row), (right, below) = place >> 5, (place & 31)[..., None]

    def pixel(row, column):
        there = image.at[row, column]
        return there.get(mode="fill", fill_value=0, wrap_negative_indices=False).astype(jnp.int32)

    upper = (32 - right) * pixel(row, column) + right * pixel(row, column + 1)
    lower = (32 - right) * pixel(row + 1, column) + right * pixel(row + 1, column + 1)
    return ((32 - below) * upper + below * lower + 512 >> 10).astype(jnp.uint8)
