"""Mixing is the authors' given their draws, and draws what it says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden

from ltjax.axes import DATA
from ltjax.losses import mixing
from ltjax.losses.classification import LOSSES
from ltjax.losses.mixing import MIXINGS, Mix, blend, of_both_labels

SHARES = (0.3, 0.85)
CASES = ("A", "B")


def on_one_device(f):
    """f where the axis 'data' is bound, with one device on it."""
    return lambda *args: jax.vmap(lambda *a: f(*a), axis_name=DATA)(
        *jax.tree.map(lambda x: jnp.asarray(x)[None], args)
    )


def first(tree):
    return jax.tree.map(lambda x: x[0], tree)


def objective_of(name, counts):
    loss = LOSSES[name](counts)

    def objective(logits, label, key, progress):
        return loss(logits, label, jnp.ones(len(label), logits.dtype), key)

    return objective


def loss_of(file, case, mix, name="cross_entropy"):
    """(the loss as the learner averages it, the mixed input) of the golden linear model."""
    counts = file[f"{case}/counts"]
    objective = objective_of(name, counts)

    def both(x, label):
        mixed = blend(mix, x)
        logits = mixed @ file[f"{case}/W"].T + file[f"{case}/b"]
        values, weights = of_both_labels(mix, objective)(logits, label, jax.random.key(0), 0.0)
        return (values * weights).sum() / weights.sum(), mixed

    return first(on_one_device(both)(file[f"{case}/x"], file[f"{case}/targets"]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("share", SHARES)
def test_mixed_inputs_and_losses_are_the_authors(case, share, float64):
    file = golden("sm_mixup")
    perm = file[f"{case}/perm"]
    mix = Mix(jnp.asarray(share), jnp.full(len(perm), share), jnp.asarray(perm))
    for mode in ("mix_up", "manifold_mix_up"):
        for theirs, name in (
            ("CrossEntropy", "cross_entropy"),
            ("BalancedSoftmaxCE", "balanced_softmax"),
        ):
            key = f"{case}/{mode}_{theirs}_lam{share}"
            if f"{key}/loss" not in file.files:
                continue
            loss, mixed = loss_of(file, case, mix, name)
            np.testing.assert_allclose(loss, file[f"{key}/loss"], rtol=1e-9)
            np.testing.assert_allclose(mixed, file[f"{key}/mixed_input"], atol=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("share", SHARES)
def test_remix_is_the_authors_in_both_forms(case, share, float64):
    file = golden("sm_mixup")
    perm, ratio = file[f"{case}/perm"], jnp.asarray(file[f"{case}/remix_ratio_ni_over_nj"])
    kappa, tau = float(file["remix_kappa"]), float(file["remix_tau"])
    own = mixing.remix_share(jnp.asarray(share), ratio, kappa, tau)
    expected = file[f"{case}/remix_persample_lam{share}/lambda_y"]  # made in float32
    np.testing.assert_allclose(own, expected, rtol=1e-7)
    mix = Mix(jnp.asarray(share), own, jnp.asarray(perm))
    loss, _ = loss_of(file, case, mix)
    expected = file[f"{case}/remix_persample_lam{share}/loss"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    loss, _ = loss_of(file, case, mix._replace(label_share=jnp.full_like(own, own.mean())))
    expected = file[f"{case}/remix_CrossEntropy_lam{share}/loss"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("share", SHARES)
def test_remix_blends_inputs_as_mixup_does(case, share, float64):
    file = golden("sm_mixup")
    perm = jnp.asarray(file[f"{case}/perm"])
    _, mixed = loss_of(file, case, Mix(jnp.asarray(share), jnp.zeros(len(perm)), perm))
    expected = file[f"{case}/remix_CrossEntropy_lam{share}/mixed_input"]
    np.testing.assert_allclose(mixed, expected, atol=1e-9)


@pytest.mark.parametrize("share", SHARES)
def test_mixup_is_that_of_its_authors(share, float64):
    file = golden("sm_mixup")
    key = f"mixup_cifar10/lam{share}"
    perm, label = file[f"{key}/perm"], file["mixup_cifar10/y"]
    mix = Mix(jnp.asarray(share), jnp.full(len(perm), share), jnp.asarray(perm))

    def both(x, label):
        mixed = blend(mix, x)
        logits = mixed.reshape(len(mixed), -1) @ file["mixup_cifar10/W"].T
        objective = of_both_labels(mix, objective_of("cross_entropy", np.ones(10)))
        values, _ = objective(logits, label, jax.random.key(0), 0.0)
        return values.mean(), mixed, mixing.partners(label, mix.partner)

    loss, mixed, other = first(on_one_device(both)(file["mixup_cifar10/x"], label))
    np.testing.assert_allclose(loss, file[f"{key}/loss"], rtol=1e-9)
    np.testing.assert_allclose(mixed, file[f"{key}/mixed_x"], atol=1e-9)
    np.testing.assert_array_equal(other, file[f"{key}/y_b"])


def test_features_of_several_heads_are_blended_as_those_of_each():
    features = np.random.default_rng(0).normal(size=(3, 6, 5))  # [K, B, D]
    partner = np.array([4, 0, 5, 2, 1, 3])
    of_devices = jnp.asarray(features.reshape(3, 2, 3, 5).swapaxes(0, 1), jnp.float32)

    def of_both(features, partner):
        return blend(Mix(0.3, None, partner), features, axis=-2)

    found = jax.vmap(of_both, axis_name=DATA)(of_devices, jnp.asarray(partner).reshape(2, 3))
    expected = 0.3 * features + 0.7 * features[:, partner]
    np.testing.assert_allclose(np.concatenate(found, 1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha, variance", [(1.0, 1 / 12), (0.2, 0.25 / 1.4), (2.0, 1 / 20)])
def test_shares_are_beta_and_partners_a_permutation(alpha, variance):
    draw = MIXINGS["mixup"](np.array([5, 5]), alpha=alpha).draw
    keys = jax.random.split(jax.random.key(0), 4000)
    label = jnp.zeros(6, jnp.int32)
    mix = first(on_one_device(lambda keys: jax.lax.map(lambda key: draw(key, label), keys))(keys))
    # five standard deviations of the means of 4,000 draws are below 0.035 and 0.012
    np.testing.assert_allclose(mix.share.mean(), 0.5, atol=0.035)
    np.testing.assert_allclose(mix.share.var(), variance, atol=0.012)
    np.testing.assert_array_equal(np.sort(mix.partner, axis=-1), np.tile(np.arange(6), (4000, 1)))
    share = np.bincount(np.asarray(mix.partner[:, 0]), minlength=6) / 4000
    np.testing.assert_allclose(share, 1 / 6, atol=0.03)


def test_each_label_keeps_its_own_weights():
    """Re-weighted, mixup is the sum of two weighted means, as PyTorch takes each of them."""
    label, weight = np.array([0, 1, 1, 0]), np.array([1.0, 3.0])
    logits = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    mix = Mix(jnp.asarray(0.3), jnp.full(4, 0.3), jnp.array([1, 2, 3, 0]))
    loss = LOSSES["cross_entropy"](np.array([9, 3]))

    def objective(logits, label, key, progress):
        return loss(logits, label, jnp.asarray(weight, jnp.float32)[label], key)

    def both(logits, label):
        values, weights = of_both_labels(mix, objective)(logits, label, jax.random.key(0), 0.0)
        return (values * weights).sum() / weights.sum()

    found = first(on_one_device(both)(logits, label))
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    means = [
        np.average(-log_p[np.arange(4), y], weights=weight[y]) for y in (label, label[[1, 2, 3, 0]])
    ]
    np.testing.assert_allclose(found, 0.3 * means[0] + 0.7 * means[1], rtol=1e-6)


def of_devices(mixing, label):
    """What each device draws by one key for its part of the labels i32[devices, B]."""
    draw = functools.partial(mixing.draw, jax.random.key(3))
    return jax.vmap(draw, axis_name=DATA)(jnp.asarray(label))


@pytest.mark.parametrize("name", ["mixup", "manifold_mixup", "remix"])
def test_several_devices_draw_what_one_does(name):
    mixing, label = MIXINGS[name](np.array([90, 9])), np.array([0, 0, 1, 0, 1, 0, 0, 1])
    one, four = of_devices(mixing, label[None]), of_devices(mixing, label.reshape(4, 2))
    np.testing.assert_array_equal(four.share, np.full(4, one.share))
    np.testing.assert_array_equal(four.label_share.ravel(), one.label_share[0])
    np.testing.assert_array_equal(four.partner.ravel(), one.partner[0])


@pytest.mark.parametrize("name", ["mixup", "manifold_mixup", "remix"])
def test_mixings_draw_the_same_share_which_is_uniform_without_options(name):
    counts, label = np.array([90, 9]), np.zeros((1, 4), int)
    for options in ({"alpha": 1.0}, {"alpha": 0.2}):
        expected = of_devices(MIXINGS["mixup"](counts, **options), label)
        found = of_devices(MIXINGS[name](counts, **options), label)
        np.testing.assert_array_equal(found.share, expected.share)
        if options["alpha"] == 1:
            found = of_devices(MIXINGS[name](counts), label)
            np.testing.assert_array_equal(found.share, expected.share)


def test_what_is_blended_is_said():
    of = {
        name: MIXINGS[name](np.array([90, 9])).of for name in ("mixup", "manifold_mixup", "remix")
    }
    assert of == {"mixup": "image", "manifold_mixup": "features", "remix": "image"}


def test_remix_at_its_limits():
    # equation 3 with kappa = 4 and tau = 1/2: the ratio may equal its limit, the share may not
    ratio = jnp.array([5.0, 4.0, 3.9, 1.0, 0.26, 0.25, 0.2])
    for share, expected in (
        (0.25, [0, 0, 0.25, 0.25, 0.25, 0.25, 0.25]),
        (0.5, [0.5] * 7),
        (0.75, [0.75, 0.75, 0.75, 0.75, 0.75, 1, 1]),
    ):
        found = mixing.remix_share(jnp.float32(share), ratio, 4.0, 0.5)
        np.testing.assert_array_equal(found, expected)


def test_remix_gives_the_label_to_a_class_three_times_smaller():
    counts, label = np.array([90, 30, 29, 10]), np.arange(4).repeat(8)
    by_sample, by_batch = (
        MIXINGS["remix"](counts, **options) for options in ({}, {"per_sample": False})
    )
    sides = set()
    for seed in range(8):
        key = jax.random.key(seed)
        share, own, partner = first(on_one_device(lambda y, k=key: by_sample.draw(k, y))(label))
        larger = counts[label] >= 3 * counts[label[partner]]
        smaller = 3 * counts[label] <= counts[label[partner]]
        expected = np.where(larger, 0, share) if share < 0.5 else np.where(smaller, 1, share)
        np.testing.assert_allclose(own, expected, rtol=1e-6)
        sides.add(bool(share < 0.5))
        _, of_all, _ = first(on_one_device(lambda y, k=key: by_batch.draw(k, y))(label))
        np.testing.assert_allclose(of_all, np.full(32, expected.mean()), rtol=1e-6)
    assert sides == {True, False}
