"""OLTR's phases hand on what they should, and gradients flow where the authors let them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ltjax.config.choices import choose
from ltjax.errors import UserError
from ltjax.evaluation.metrics import open_set_f_measure
from ltjax.learner import Variables
from ltjax.methods import oltr
from ltjax.models.oltr import MetaEmbedding, ModulatedAttention, nearest_distance
from ltjax.recipes import functions_of

RNG = np.random.default_rng(0)


def recipe(network="tiny", settings=None, **options):
    settings = settings or toy.settings(network={"name": network})
    return choose(functions_of("method"), "method", "oltr", **options)(settings, toy.info())


@pytest.mark.slow
def test_each_phase_begins_with_what_the_one_before_has_learned():
    first, second, third = recipe()
    stage1, centroids, stage2 = (toy.Trainer(phase, 1) for phase in (first, second, third))
    trained = jax.device_get(stage1.init().variables)
    state = second.begin(centroids.init(), trained)
    drawn = jax.device_get(state.variables.params["pooling"])
    gathered = jax.device_get(centroids.steps(second.num_steps, state)[0].variables)
    last = third.begin(stage2.init(), gathered)

    one = jax.tree.map(lambda x: x[0], gathered)
    network = oltr.attentive(toy.NETWORKS["tiny"](4))
    train = toy.splits().train
    image = (train.image.astype(np.float32) / 255 - 0.306) / 0.375  # as they are, not augmented
    maps, _ = jax.jit(lambda own: network.maps(own, image, train=False))(one)
    features = jax.jit(oltr.attended)(one, maps)
    means = [features[train.label == c].mean(0) for c in range(4)]
    params = jax.device_get(last.variables.params)
    np.testing.assert_allclose(params["centroids"][0], means, rtol=1e-4, atol=1e-6)
    assert np.ptp(params["centroids"]) > 0.1
    for group in ("backbone", "head"):
        toy.assert_trees_equal(params[group], trained.params[group])
    toy.assert_trees_equal(params["pooling"], drawn)
    # what was gathered is no memory of the last phase, and predictions were those of the first
    assert not jax.tree.leaves(last.variables.memory)
    (logits, _), _ = jax.jit(lambda own: toy.outputs(toy.NETWORKS["tiny"](4), own, image))(one)
    batch = {"image": jnp.asarray(train.image)}
    found = jax.jit(second.learner.method.predict)(one, batch).logits
    np.testing.assert_allclose(found, logits, atol=1e-5)


@pytest.mark.slow
def test_the_epochs_are_shared_and_the_rates_of_the_last_phase_are_by_group():
    first, second, third = recipe(first_share=0.25, feature_rate=0.0)
    assert [phase.num_steps for phase in (first, second, third)] == [10, 5, 30]  # 8 epochs of 5
    ours = toy.Trainer(third, 1)
    state = ours.init()
    before = jax.device_get(state.variables.params)
    after = jax.device_get(ours.steps(1, state)[0].variables.params)
    stays = {
        group: all(jax.tree.leaves(jax.tree.map(np.array_equal, before[group], after[group])))
        for group in before
    }
    still, moves = ("backbone", "pooling", "centroids"), ("head", "meta")
    assert stays == dict.fromkeys(still, True) | dict.fromkeys(moves, False)


def test_logits_move_features_through_the_nearest_distance_but_never_centroids():
    network = oltr.with_centroids(oltr.attentive(toy.NETWORKS["tiny"](4)), 4)
    image = jnp.asarray(RNG.normal(size=(3, 8, 8, 1)), jnp.float32)
    params, stats = jax.jit(network.init)(jax.random.key(0), image)
    params = params | {"centroids": jnp.asarray(RNG.normal(size=(4, 32)), jnp.float32)}

    def one_logit(params):
        variables = Variables(params, stats)
        maps, _ = network.maps(variables, image, train=False)
        return network.head(variables, oltr.attended(variables, maps))[:, 0].sum()

    grads = jax.jit(jax.grad(one_logit))(params)
    assert not grads.pop("centroids").any()
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads["backbone"]))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves((grads["head"], grads["meta"])))
    x, centres = jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 0.0], [30.0, 0.0]])
    gradient = jax.jit(jax.grad(lambda x: nearest_distance(x, centres).sum()))(x)
    np.testing.assert_allclose(gradient, [[0.6, 0.8]], rtol=1e-6)


def test_a_feature_that_is_a_centroid_gives_finite_logits_and_gradients():
    features = jnp.asarray(RNG.normal(size=(3, 8)), jnp.float32)
    centroids = jnp.concatenate([features[:1], jnp.zeros((4, 8))])
    features = features.at[2].set(0)  # and one of no length
    module = MetaEmbedding(5)
    params = jax.jit(module.init)(jax.random.key(0), features, jnp.zeros((3, 5)), centroids)

    def square(features):
        return (module.apply(params, features, jnp.zeros((3, 5)), centroids)[0] ** 2).sum()

    value, gradient = jax.jit(jax.value_and_grad(square))(features)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert value < 3 * 5 * 16**2  # the squashed length is below 1


def test_attention_starts_as_coded_or_as_the_identity():
    maps = jnp.asarray(RNG.normal(size=(2, 4, 4, 64)), jnp.float32)
    coded = jax.jit(ModulatedAttention().init)(jax.random.key(0), maps)["params"]
    for name, channels_out in dict(theta=32, phi=32, g=32, mask=64).items():
        std = coded[name]["kernel"].std()
        np.testing.assert_allclose(std, (2 / channels_out) ** 0.5, rtol=0.06)
    identity = ModulatedAttention(zero_mask=True)
    params = jax.jit(identity.init)(jax.random.key(0), maps)
    out, weight, mask = jax.jit(identity.apply)(params, maps)
    np.testing.assert_array_equal(out, maps)
    np.testing.assert_allclose(weight.sum((1, 2)), 1, rtol=1e-6)
    assert not mask.any()


@pytest.mark.parametrize(
    "fields, options, words",
    [
        ({"network": {"name": "tiny", "head": "cosine"}}, {}, "network.head=linear"),
        ({}, {"first_share": 1.0}, "first_share"),
        ({}, {"lr": 0.0}, "method.lr"),
        ({}, {"feature_rate": -1.0}, "feature_rate"),
        ({}, {"centroid_weight": -1.0}, "centroid_weight"),
        (
            {"schedule": {"name": "cosine", "lr": 0.1}, "num_epochs": 3.0},
            {},
            r"num_epochs is 3\.0.* take 1 of them \(first_share=0.333.*--config.num_epochs=6",
        ),
    ],
)
def test_what_cannot_work_is_refused(fields, options, words):
    settings = dataclasses.replace(toy.settings(network={"name": "tiny"}), **fields)
    with pytest.raises(UserError, match=words):
        recipe(settings=settings, **options)


def test_a_network_without_weights_of_classes_is_refused(monkeypatch):
    monkeypatch.setitem(toy.NETWORKS, "whole", toy.whole)
    with pytest.raises(UserError, match="resnet32"):
        recipe("whole")


def test_the_open_set_f_measure_counts_what_is_unknown():
    probs = np.full((6, 20), 0.05)  # unknown, by default
    probs[0, 3], probs[1, 3], probs[2, 3], probs[4, 3] = 0.5, 0.5, 0.5, 0.5
    label = np.array([3, 3, 7, 3, -1, -1])
    # right: 2; wrong: 1, and 1 taken for unknown; of the unknown ones, 1 was taken for a class
    precision, recall = 2 / 4, 2 / 3
    expected = 2 * precision * recall / (precision + recall)
    assert open_set_f_measure(probs, label) == pytest.approx(expected)
    assert open_set_f_measure(probs, label, threshold=0.6) == 0
    assert open_set_f_measure(probs[[0, 5]], label[[0, 5]]) == 1
