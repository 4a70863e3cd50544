import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import ImageEnhance, ImageOps
from test_pillow import affine, grey, images, to_pillow

from ltjax.augmentation import policies
from ltjax.augmentation.policies import CIFAR10, RANDAUGMENT, STRENGTHS

SIZE = (32, 32)

# What each level, 0 to 9, is in the code of DeepVoltaire/AutoAugment.
LEVELS = {
    "shear_y": np.linspace(0, 0.3, 10),
    "translate_x": np.linspace(0, 150 / 331, 10) * SIZE[1],
    "translate_y": np.linspace(0, 150 / 331, 10) * SIZE[0],
    "rotate": np.linspace(0, 30, 10),
    "posterize": np.round(np.linspace(8, 4, 10)).astype(int),
    "solarize": np.linspace(256, 0, 10),
    **dict.fromkeys(["contrast", "color", "brightness", "sharpness"], np.linspace(0, 0.9, 10)),
}


def by_pillow(image, name, level, sign):
    """An operation at a level, in Pillow."""
    if name not in LEVELS:
        return getattr(ImageOps, name)(image)
    value = LEVELS[name][level]
    if name in ("posterize", "solarize"):
        return getattr(ImageOps, name)(image, value)
    if name in ("contrast", "color", "brightness", "sharpness"):
        return getattr(ImageEnhance, name.title())(image).enhance(1 + sign * value)
    value *= sign
    if name == "rotate":
        return image.rotate(value, fillcolor=grey(image))
    matrix = {
        "shear_y": (1, 0, 0, value, 1, 0),
        "translate_x": (1, 0, value, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, value),
    }
    return affine(*matrix[name])(image)


def test_the_policy_is_25_pairs_of_known_operations():
    assert len(CIFAR10) == 25 and all(len(sub_policy) == 2 for sub_policy in CIFAR10)
    for name, probability, level in [one for sub_policy in CIFAR10 for one in sub_policy]:
        assert name in STRENGTHS and 0 <= probability < 1 and level in range(10)
    assert len(RANDAUGMENT) == 14


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("happens", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_a_sub_policy_is_the_same_chain_in_pillow(happens, channels):
    policy = policies.autoaugment(SIZE)
    perform = jax.jit(jax.vmap(policies.perform, (None, None, 0)))
    batch = images(*SIZE, channels)
    for row, sub_policy in enumerate(CIFAR10):
        for signs in [(0, 1), (1, 0)]:
            numbers = [
                1 + 4 * row + 2 * slot + signs[slot] if happens[slot] else 0 for slot in (0, 1)
            ]
            found = perform(policy.operations, jnp.array(numbers), batch)
            for before, after in zip(batch, found, strict=True):
                expected = to_pillow(before)
                for slot, (name, _, level) in enumerate(sub_policy):
                    if happens[slot]:
                        expected = by_pillow(expected, name, level, 1 - 2 * signs[slot])
                np.testing.assert_array_equal(after, np.reshape(expected, after.shape))


def draws(policy, keys):
    return np.asarray(jax.jit(jax.vmap(policy.draw))(keys))  # [keys, operations]


def test_sub_policies_are_drawn_equally_often_and_operations_by_their_probabilities():
    keys = jax.random.split(jax.random.key(0), 100_000)
    numbers = draws(policies.autoaugment(SIZE), keys)
    for row, sub_policy in enumerate(CIFAR10):
        for slot, (_, probability, _) in enumerate(sub_policy):
            for sign in (0, 1):
                share = (numbers[:, slot] == 1 + 4 * row + 2 * slot + sign).mean()
                # a standard deviation of at most sqrt(0.018 / 100,000) = 4.2e-4
                assert abs(share - probability / 25 / 2) < 5 * 4.2e-4
    both = (numbers > 0).all(1).mean()
    expected = np.mean([first[1] * second[1] for first, second in CIFAR10])
    assert abs(both - expected) < 5 * 1.6e-3


def test_randaugment_draws_all_operations_equally_often():
    keys = jax.random.split(jax.random.key(0), 30_000)
    policy = policies.randaugment(SIZE, num_ops=3, magnitude=9.0)
    numbers = draws(policy, keys)
    assert numbers.shape == (30_000, 3)
    counts = np.bincount(numbers.ravel(), minlength=28)
    assert len(counts) == 28
    assert ((counts - 90_000 / 28) ** 2 / (90_000 / 28)).sum() < 55  # 27 degrees, p = 0.001


def test_the_magnitude_is_the_strength():
    def at(magnitude):
        return policies.randaugment(SIZE, 1, magnitude).operations

    def changed(magnitude):
        found = perform(at(magnitude), jnp.arange(28)[:, None], image)
        return {name for i, name in enumerate(RANDAUGMENT) if (found[2 * i] != image).any()}

    perform = jax.jit(jax.vmap(policies.perform, (None, 0, None)))
    image = images(*SIZE, 3)[4]
    assert changed(0.0) == {"autocontrast", "equalize"}
    assert changed(10.0) == set(RANDAUGMENT) - {"identity"}
    for strength, name in [(1.0, "rotate"), (-1.0, "color")]:  # 10 is the most
        number = 2 * RANDAUGMENT.index(name) + (strength < 0)
        jax.tree.map(
            lambda stacked, leaf, number=number: np.testing.assert_array_equal(
                stacked[number], leaf
            ),
            at(10.0),
            STRENGTHS[name](strength, SIZE),
        )
