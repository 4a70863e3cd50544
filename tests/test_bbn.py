"""The two branches of BBN: what they share, what each learns from, and when."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from test_golden_resnet32 import on_one_device

from ltjax.build import objective
from ltjax.errors import UserError
from ltjax.learner import Variables
from ltjax.methods import bbn
from ltjax.models import NETWORKS, classifier_network, cost
from ltjax.models.bbn import bilateral
from ltjax.models.heads import Linear
from ltjax.models.resnet_cifar import CifarResNet

QUICK = ("resnet8", "resnet10")  # enough for a look at either kind
REAL = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in NETWORKS
    if name not in toy.NAMES
]


def shapes(name, num_classes, size=32):
    """(network, two branches of it, variables of each as shapes)."""
    network = NETWORKS[name](num_classes, "plain")
    branches = bilateral(network, bbn.BRANCHES)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    key = jax.random.key(0)
    found = [Variables(*jax.eval_shape(of.init, key, image)) for of in (network, branches)]
    return network, branches, *found, image


@pytest.mark.parametrize("name", REAL)
def test_trunk_and_a_branch_are_the_network(name):
    _, _, plain, two, _ = shapes(name, 10)
    for own, whole in ((two.params, plain.params), (two.stats, plain.stats)):
        for branch in bbn.BRANCHES:
            assert len(own[branch]) == 1  # the last block, by its name
            assert not set(own[branch]) & set(own["backbone"])
            assert own["backbone"] | own[branch] == whole["backbone"]
    dim, num_classes = plain.params["head"]["kernel"].shape
    assert two.params["head"]["kernel"].shape == (2 * dim, num_classes)


@pytest.mark.parametrize("num_classes, parameters", [(10, 538_778), (100, 550_388)])
def test_the_authors_network_costs_what_theirs_does(num_classes, parameters):
    _, branches, _, variables, image = shapes("resnet32", num_classes)
    assert cost.parameters(variables.params) == parameters
    if num_classes == 10:
        predict = bbn.bbn(branches, None, None).predict
        found = cost.multiply_adds(predict, variables, {"image": image})
        assert round(found, -5) == 73_600_000  # the trunk is run once


def small(num_classes):
    return classifier_network(CifarResNet(1, (4,)), Linear(num_classes))


@functools.cache
def toy_branches():
    """(two branches of a stem and a block, variables, a batch of 8 and its reversed stream)."""
    branches = bilateral(small(4), bbn.BRANCHES)
    rng = np.random.default_rng(0)

    def drawn():
        image = jnp.asarray(rng.normal(size=(8, 8, 8, 1)), jnp.float32)
        return {"image": image, "label": jnp.asarray(rng.integers(0, 4, 8))}

    batch = drawn() | {"reversed": drawn()}
    return branches, Variables(*branches.init(jax.random.key(0), batch["image"])), batch


@functools.cache
def compiled_step():
    """(variables, batch, alpha) -> (gradients of the mean loss, LossOutput)."""
    branches, *_ = toy_branches()

    def step(variables, batch, alpha):
        aim = objective(toy.settings(), toy.CLASS_COUNTS)
        method = bbn.bbn(branches, aim, alpha=lambda progress: progress)

        def loss(params):
            out = method.loss(variables._replace(params=params), batch, jax.random.key(0), alpha)
            return out.values.mean(), out

        return jax.grad(loss, has_aux=True)(variables.params)

    return on_one_device(step, 3)


def moves(grads):
    """Which groups have a gradient anywhere."""
    return {group for group, tree in grads.items() if any(map(np.any, jax.tree.leaves(tree)))}


@pytest.mark.parametrize(
    "alpha, still", [(1.0, {"rebalancing"}), (0.5, set()), (0.0, {"conventional"})]
)
def test_alpha_says_which_branch_learns(alpha, still):
    _, variables, batch = toy_branches()
    grads, out = compiled_step()(variables, batch, alpha)
    assert moves(grads) == set(variables.params) - still
    own, tail = np.split(np.asarray(grads["head"]["kernel"]), 2)
    assert own.any() == (alpha > 0) and tail.any() == (alpha < 1)
    # at an end of alpha, the other batch and its labels are nothing to the loss
    for which, weight in (("conventional", alpha), ("rebalancing", 1 - alpha)):
        of = batch if which == "conventional" else batch["reversed"]
        changed = {"image": of["image"][::-1], "label": 3 - of["label"]}
        stream = {"reversed": changed} if which == "rebalancing" else changed
        _, other = compiled_step()(variables, batch | stream, alpha)
        assert np.array_equal(other.values, out.values) == (weight == 0)


def test_each_pass_moves_the_trunks_statistics_and_its_own_branchs():
    branches, variables, batch = toy_branches()
    _, out = compiled_step()(variables, batch, 0.5)

    def passes(variables, batch):
        _, stats = branches.maps(variables, batch["image"], bbn.BRANCHES[:1], train=True)
        variables = variables._replace(stats=stats)
        image = batch["reversed"]["image"]
        return stats, branches.maps(variables, image, bbn.BRANCHES[1:], train=True)[1]

    after_one, after_both = on_one_device(passes, 2)(variables, batch)
    toy.assert_trees_close(out.stats, after_both, atol=1e-6)
    began = variables.stats
    toy.assert_trees_equal(after_one["rebalancing"], began["rebalancing"])
    toy.assert_trees_equal(after_both["conventional"], after_one["conventional"])
    # by hand: the stem's mean over each batch, the conventional one first, at a tenth each
    kernel = variables.params["backbone"]["stem"]["kernel"]
    mean = np.zeros(4)
    for image in (batch["image"], batch["reversed"]["image"]):
        convolved = jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        mean = 0.9 * mean + 0.1 * np.asarray(convolved).mean((0, 1, 2))
    np.testing.assert_allclose(after_both["backbone"]["stem"]["mean"], mean, atol=1e-6)


def test_the_prediction_is_the_mean_of_what_each_branch_says_alone():
    branches, variables, batch = toy_branches()
    method = bbn.bbn(branches, None, None)
    other = jax.tree.map(lambda x: x + 1, variables.params["rebalancing"])
    changed = variables._replace(params=variables.params | {"rebalancing": other})
    says = jax.jit(
        lambda variables: method.predict(variables, batch)[:2]  # logits, heads
    )
    (predicted, heads), (_, heads_changed) = says(variables), says(changed)
    np.testing.assert_allclose(heads.mean(0), predicted, atol=1e-5)
    np.testing.assert_array_equal(heads[0], heads_changed[0])
    assert (np.asarray(heads[1]) != heads_changed[1]).any()

    # and the conventional branch is the network that was split, its features twice
    features = _features_of_network(variables, "conventional", batch["image"])
    kernel, bias = variables.params["head"]["kernel"][:4], variables.params["head"]["bias"]
    np.testing.assert_allclose(heads[0], 2 * features @ kernel + bias, atol=1e-5)


def _features_of_network(variables, branch, image):
    both = ({"backbone": of["backbone"] | of[branch]} for of in (variables.params, variables.stats))
    params, stats = both
    head = {"kernel": jnp.zeros((4, 4)), "bias": jnp.zeros(4)}
    whole = Variables(params | {"head": head}, stats)
    return jax.jit(lambda v: toy.outputs(small(4), v, image)[0][1])(whole)


@pytest.mark.parametrize(
    "num_images, batch_size, epochs", [(10847, 128, 200), (75, 16, 7.9), (90, 9, 41)]
)
def test_alpha_changes_at_whole_epochs_only(num_images, batch_size, epochs):
    per_epoch = -(-num_images // batch_size)
    num_steps = round(epochs * per_epoch)
    steps = np.arange(num_steps)
    progress = (steps / num_steps).astype(np.float32)  # as the learner has it
    values = bbn.alphas(epochs)
    found = jax.vmap(bbn.by_epochs(values, epochs, per_epoch))(progress)
    np.testing.assert_array_equal(found, np.float32(values)[steps // per_epoch])


def test_a_part_of_an_epoch_has_the_alpha_of_the_whole():
    np.testing.assert_allclose(bbn.alphas(0.5), [1.0])
    np.testing.assert_allclose(bbn.alphas(2.5), [1, 1 - 0.4**2, 1 - 0.8**2])


def test_the_second_batch_is_of_the_reversed_tail():
    phase = toy.phase("bbn")
    label, counts = toy.splits().train.label, toy.CLASS_COUNTS

    def shares(draw):
        drawn = np.concatenate([draw((0, 0, 0), step) for step in range(300)])
        return np.bincount(label[drawn]) / len(drawn)

    # 4,800 images: three standard deviations are at most 2.2 %
    np.testing.assert_allclose(shares(phase.sampler(label)), counts / counts.sum(), atol=0.022)
    expected = (1 / counts) / (1 / counts).sum()
    np.testing.assert_allclose(shares(phase.streams["reversed"](label)), expected, atol=0.022)


def test_a_network_without_blocks_is_refused(monkeypatch):
    monkeypatch.setitem(NETWORKS, "whole", toy.whole)
    with pytest.raises(UserError, match="config.network.name is 'whole'.*resnet32"):
        toy.recipe("bbn", network={"name": "whole"})


@pytest.mark.slow
def test_predictions_get_better_on_a_toy_tail():
    ours = toy.Trainer(toy.phase("bbn"), 2)
    test = toy.splits().test

    def nll(state):
        log_probs = jax.nn.log_softmax(ours.predict(state, test.image).logits)
        return -log_probs[:, np.arange(36), test.label].mean(-1)

    before = nll(ours.init())
    after = nll(ours.steps(40)[0])
    assert (after < 0.5 * before).all()  # from 1.6 to 0.4
