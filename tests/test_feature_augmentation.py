"""What is fused with what, who is tail, and what the last phase may move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from conftest import golden

from ltjax.experts import seeded_keys
from ltjax.mesh import QUICK
from ltjax.methods import feature_augmentation as fa
from ltjax.models import Network
from ltjax.phases import steps_per_epoch

OF_CIFAR10 = np.array([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])


@pytest.mark.parametrize(
    "share, number",
    [(0.4, 1), (0.41, 2), (0.9, 5), (0.97, 7), (0.9999, 10)],  # 0 to 6: the unofficial choice
)
def test_head_classes_are_the_fewest_with_that_share(share, number):
    np.testing.assert_array_equal(fa.head_classes(OF_CIFAR10, share), np.arange(number))
    turned = fa.head_classes(OF_CIFAR10[::-1], share)
    np.testing.assert_array_equal(turned, 9 - np.arange(number))


def test_an_exact_share_needs_no_further_class():
    np.testing.assert_array_equal(fa.head_classes(np.array([5, 90, 5]), 0.9), [1])


@pytest.mark.parametrize("num_heads, donors", [(5, 48), (7, 48), (48, 48), (54, 64)])
def test_a_step_sees_every_head_class_and_as_many_images_as_it_can(num_heads, donors):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(60), np.arange(70, 10, -1)))
    main, streams = fa.samplers(np.arange(num_heads), num_fused=3)
    draws = [of(labels, 128, 0) for of in (main, streams["tail"], streams["donor"])]
    for step in range(3):
        head, tail, donor = (labels[draw((0, 0, 0), step)] for draw in draws)
        assert (len(head), len(tail), len(donor)) == (64, 16, donors)
        assert head.max() < num_heads <= tail.min()
        np.testing.assert_array_equal(np.unique(donor), np.arange(num_heads))


def test_donors_of_a_class_are_any_of_its_images():
    labels = np.repeat([0, 1, 2], [3, 3, 1])
    _, streams = fa.samplers(np.arange(2), num_fused=1)
    donors = streams["donor"](labels, 8, 0)
    seen = np.concatenate([donors((0, 0, 0), step) for step in range(600)])
    counts = np.bincount(seen, minlength=6)
    assert len(counts) == 6 and ((counts - 200) ** 2 / 200).sum() < 20.5  # 5 degrees, p = 0.001


def test_confusing_classes_are_head_classes_with_the_largest_scores():
    scores = np.random.default_rng(0).uniform(size=(10, 10)).astype(np.float32)
    heads = np.array([8, 2, 5, 0, 3])
    found = fa.confusing(jnp.asarray(scores), heads, 3)
    for tail in (1, 4, 6, 7, 9):
        expected = sorted(heads, key=lambda c: -scores[c, tail])[:3]
        np.testing.assert_array_equal(found[tail], expected)


def test_the_pass_finds_the_mean_softmax_of_each_class():
    _, scores, _ = toy.recipe("feature_augmentation", network={"name": "tiny"})
    ours, network = toy.Trainer(scores, 1), toy.NETWORKS["tiny"](4)
    state, _ = ours.steps(scores.num_steps)
    variables, train = toy.numbers(state)[1], toy.splits().train
    variables = jax.tree.map(lambda x: x[0], variables)
    image = (train.image.astype(np.float32) / 255 - 0.306) / 0.375
    (logits, _), _ = toy.outputs(network, variables, image)
    probs = np.asarray(jax.nn.softmax(logits))
    expected = [probs[train.label == c].mean(0) for c in range(4)]
    np.testing.assert_allclose(variables.memory["scores"], expected, rtol=1e-4, atol=1e-6)


def test_every_place_is_the_tail_images_or_one_donors_of_the_class():
    """Donors 0 to 5, of classes 0, 1, 2, 0, 1, 2; the tail image is -1 everywhere."""
    generic = jnp.broadcast_to(jnp.arange(6.0)[:, None, None, None], (6, 4, 4, 2))
    specific, label, of = -jnp.ones((4, 4, 2)), jnp.arange(6) % 3, jnp.array([2, 0])
    keys = jax.random.split(jax.random.key(0), 3000)

    def one(key):
        return fa.fuse_with(key, specific, of, generic, label)

    found = np.asarray(jax.jit(jax.vmap(one), compiler_options=QUICK)(keys))
    assert found.shape == (3000, 2, 4, 4, 2)
    np.testing.assert_array_equal(found[..., 0], found[..., 1])  # all channels alike
    own = found[..., 0] == -1
    for number, c in enumerate((2, 0)):
        donors = found[:, number].max((1, 2, 3))
        assert set(donors) == {-1, c, c + 3}
        assert abs((donors == c).sum() - (donors == c + 3).sum()) < 3.3 * 3000**0.5
        of_donor = np.where(own[:, number], np.inf, found[:, number, ..., 0])
        assert ((of_donor == np.inf) | (of_donor == donors[:, None, None])).all()
    # Of 16 places those with u > gamma: 0 to 16 equally often, since gamma is uniform.
    taken = np.bincount(own.sum((2, 3)).ravel(), minlength=17)
    assert ((taken - 6000 / 17) ** 2 / (6000 / 17)).sum() < 39.3  # 16 degrees, p = 0.001
    both = np.corrcoef(own.sum((2, 3)).T)[0, 1]
    assert abs(both) < 3.3 / 3000**0.5  # gamma is each fusion's own


def test_a_map_of_one_value_is_nowhere_specific_and_everywhere_generic():
    negative = jnp.array([-0.1, -0.7])  # relu makes a constant of it
    varying = jax.random.uniform(jax.random.key(0), (3, 4, 2))
    np.testing.assert_array_equal(fa.class_map(varying, negative), 0)
    np.testing.assert_array_equal(fa.class_map(jnp.ones((3, 4, 2)), -negative), 0)
    found = fa.class_map(varying, -negative)
    assert found.min() == 0 and found.max() == pytest.approx(1)


def shown(label):
    """Maps that show a class at one of four places, f32[B, 2, 2, C]."""
    return jnp.zeros((len(label), 2, 2, 4)).at[:, 0, 1].set(jax.nn.one_hot(label, 4))


def maps_only():
    """A network whose image is its maps, with a linear head."""

    def init(key, image):
        head = {"kernel": 100 * jnp.eye(4), "bias": jnp.zeros(4)}
        return {"backbone": {}, "head": head}, {}

    def maps(variables, image, train, frozen=()):
        return image, variables.stats

    def weights(variables):
        return variables.params["head"]["kernel"], variables.params["head"]["bias"]

    def head(variables, features):
        kernel, bias = weights(variables)
        return features @ kernel + bias

    return Network(init, maps, head, weights)


def test_what_is_fused_has_the_label_of_its_own_tail_image():
    """Of donors only what is zero is generic: a fused feature shows its tail image, or nothing."""
    method = fa.fused(maps_only(), toy.CLASS_COUNTS, np.array([0, 1]), 2, 0.8, 0.2)
    tail, donor, head = (jnp.array(x) for x in ([2, 3, 3, 2], [0, 1, 0, 1], [0, 1, 1, 0, 0, 1]))
    batch = {"image": shown(head), "label": head}
    batch |= {"tail": {"image": shown(tail), "label": tail}}
    batch |= {"donor": {"image": shown(donor), "label": donor}}
    variables = method.init(None, batch)
    loss = jax.vmap(method.loss, (None, 0, None, None), axis_name="data")
    loss = jax.jit(loss, compiler_options=QUICK)
    batch, key = jax.tree.map(lambda x: x[None], batch), jax.random.key(0)
    step = loss(variables, batch, key, 0.0)
    values = np.asarray(step.values[0])
    assert values.shape == (4 + 4 * 2 + 6,)
    # features are a quarter of what is shown at the one place: logits 25 and three times 0
    np.testing.assert_allclose(values[[*range(4), *range(12, 18)]], 0, atol=1e-6)
    is_kept, is_lost = abs(values[4:12]) < 1e-6, abs(values[4:12] - np.log(4)) < 1e-6
    assert (is_kept | is_lost).all() and is_kept.any() and is_lost.any()


@pytest.mark.parametrize("network", ["tiny", pytest.param("toy", marks=pytest.mark.slow)])
def test_the_last_phase_goes_on_with_all_and_moves_the_head_alone(network):
    *_, last = toy.recipe(
        "feature_augmentation", network={"name": network}, augment={"name": "none"}
    )
    assert (last.name, last.num_steps) == ("fusion", 8)  # 1.6 epochs of 5 steps
    ours = toy.Trainer(last, 2)
    trained = ours.init(seeded_keys(1, 0, 2)).variables
    trained = trained._replace(memory=jax.tree.map(jnp.ones_like, trained.memory))
    begun = last.begin(ours.init(), trained)
    before = toy.numbers(begun)[1]
    toy.assert_trees_equal(before, jax.device_get(trained))
    after = toy.numbers(ours.steps(3, begun)[0])[1]
    toy.assert_trees_equal(before.params["backbone"], after.params["backbone"])
    toy.assert_trees_equal((before.stats, before.memory), (after.stats, after.memory))
    moved = jax.tree.map(lambda x, y: (x != y).any(), before.params["head"], after.params["head"])
    assert all(jax.tree.leaves(moved))


def test_head_classes_of_cifar100_are_those_of_nine_tenths():
    counts = golden("sm_class_counts")["cifar100/exp/100"]
    assert len(fa.head_classes(counts, 0.9)) == 48


def test_an_epoch_of_the_last_phase_has_as_many_steps_as_any():
    fusion = toy.recipe("feature_augmentation", network={"name": "tiny"}, num_epochs=10.0)[-1]
    assert len(fusion.sampler(toy.splits().train.label)((0, 0, 0), 0)) < fusion.batch_size == 16
    assert fusion.num_steps == 2 * steps_per_epoch(75, fusion)  # extra_share 0.2
