"""SADE, BalPoE and NCL do what they are for, beyond the numbers of their losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from test_golden_modern import shown

from ltjax.config.choices import choose
from ltjax.errors import UserError
from ltjax.learner import Variables
from ltjax.methods import balpoe, ncl, sade
from ltjax.recipes import functions_of, settings_of

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(3, 6, 4)), jnp.float32)
LABEL = jnp.array([0, 1, 2, 3, 0, 2])


def test_heads_of_sade_and_balpoe_are_trained_apart():
    """A head's gradient does not depend on the others; in NCL it does."""
    moved = LOGITS.at[1].add(jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32))
    losses = {
        "sade": sade.diverse(toy.CLASS_COUNTS, 2.0),
        "balpoe": balpoe.adjusted(toy.CLASS_COUNTS, [0.0, 1.0, 2.0]),
        "ncl": ncl.nested(toy.CLASS_COUNTS, 2, 0.6, 0.6),
    }
    for name, loss in losses.items():
        gradient = jax.jit(jax.grad(lambda z, loss=loss: loss(z, LABEL).sum()))
        before, after = gradient(LOGITS), gradient(moved)
        same = [np.array_equal(before[k], after[k]) for k in range(3)]
        assert same == ([False] * 3 if name == "ncl" else [True, False, True])


def test_gradients_of_a_disagreement_flow_into_both_sides():
    gradient = jax.jit(jax.grad(lambda z: ncl.disagreement(z).sum()))(LOGITS[:2])
    p = np.asarray(jax.nn.softmax(LOGITS[:2]), np.float64)
    # by hand, for two: d/dz_i of KL(p_j | p_i) is p_i - p_j, and of KL(p_i | p_j) it is
    # p_i (log p_i - log p_j - KL)
    log = np.log(p[0]) - np.log(p[1])
    for i, ratio in ((0, log), (1, -log)):
        kl = (p[i] * ratio).sum(-1, keepdims=True)
        expected = p[i] - p[1 - i] + p[i] * (ratio - kl)
        np.testing.assert_allclose(gradient[i], expected, atol=1e-5)


def test_networks_that_agree_do_not_disagree():
    same = jnp.stack([LOGITS[0]] * 3)
    np.testing.assert_allclose(ncl.disagreement(same), 0, atol=1e-6)


@pytest.mark.parametrize("num_hard", [1, 2, 4])
def test_hard_classes_are_the_own_one_and_the_highest_others(num_hard):
    found = np.asarray(ncl.hard_classes(LOGITS[0], LABEL, num_hard))
    assert (found.sum(-1) == num_hard).all()
    for row, label, hard in zip(np.asarray(LOGITS[0]), LABEL, found, strict=True):
        others = [c for c in np.argsort(-row) if c != label][: num_hard - 1]
        assert set(np.flatnonzero(hard)) == {int(label), *others}


def test_heads_of_sade_expect_three_worlds():
    """What minimises CE(z + shift) on the tail's labels is z = log prior - shift."""
    counts = np.array([80, 15, 5])
    loss = sade.diverse(counts, tau=2.0)
    label = jnp.asarray(np.repeat(np.arange(3), counts))
    z = jnp.zeros((3, 1, 3))

    @jax.jit
    def descend(z):
        def objective(z):
            return loss(jnp.broadcast_to(z, (3, 100, 3)), label).mean()

        return jax.lax.fori_loop(0, 4000, lambda _, z: z - 2.0 * jax.grad(objective)(z), z)

    found = np.asarray(jax.nn.softmax(descend(z)))[:, 0]
    prior = counts / 100
    turned = prior[::-1] ** 2 / (prior[::-1] ** 2).sum()  # tau = 2
    np.testing.assert_allclose(found, [prior, [1 / 3] * 3, turned], atol=1e-3)


def test_classes_of_one_size_reverse_in_their_order():
    np.testing.assert_allclose(
        sade.reversed_prior(np.array([0.4, 0.2, 0.2, 0.1, 0.1])), [0.1, 0.2, 0.1, 0.4, 0.2]
    )


PER_PASS, NUM_STEPS = 2, 10
AGGREGATING = sade.aggregating(shown(), NUM_STEPS, PER_PASS)
IMAGES = jnp.moveaxis(LOGITS, 0, 1)


def beginning(weights):
    """Variables whose heads are mixed by these weights."""
    memory = {"weights": jnp.full(3, 1 / 3), "stopped": jnp.array(False)}
    return Variables({"aggregation": jnp.log(jnp.asarray(weights))}, {}, memory)


@jax.jit
def stepped(variables, step, index):
    """A step of the aggregation, which moves no parameters here."""
    batch = {"image": IMAGES, "index": index, "view": {"image": IMAGES[::-1]}}
    out = AGGREGATING.loss(variables, batch, None, step / NUM_STEPS)
    return out, variables._replace(memory=out.memory)


@pytest.mark.parametrize("least, vanished", [(0.044, True), (0.046, False)])
def test_the_mix_is_final_once_a_weight_has_vanished_at_the_end_of_a_pass(least, vanished):
    """To two decimals 0.044 is 0.04 and 0.046 is 0.05."""
    begun, index = [0.5, 0.5 - least, least], np.arange(6)
    variables = beginning(begun)
    for step in range(PER_PASS):  # within the first pass nothing stops
        out, variables = stepped(variables, step, index)
        assert not out.memory["stopped"]
    out, variables = stepped(variables, PER_PASS, index)
    assert out.memory["stopped"] == vanished
    later = variables._replace(params={"aggregation": jnp.array([3.0, 0.0, 0.0])})
    _, later = stepped(later, PER_PASS + 1, index)
    expected = begun if vanished else jax.nn.softmax(jnp.array([3.0, 0.0, 0.0]))
    told = [x[0] for x in AGGREGATING.predict(later, {"image": IMAGES}).measures.values()]
    np.testing.assert_allclose(told, expected, rtol=1e-5)
    found = AGGREGATING.predict(later, {"image": IMAGES}).logits
    np.testing.assert_allclose(found, np.tensordot(expected, LOGITS, 1), rtol=1e-5, atol=1e-6)


def test_what_fills_up_a_batch_does_not_count():
    index = np.array([0, 1, 2, 3, -1, -1])
    out, _ = stepped(beginning([0.3, 0.3, 0.4]), 0, index)
    np.testing.assert_array_equal(out.weights, index >= 0)


def test_two_views_that_agree_are_as_similar_as_can_be():
    even = jnp.full(3, 1 / 3)
    np.testing.assert_allclose(sade.similarity(even, LOGITS, LOGITS), 1, rtol=1e-6)
    assert (sade.similarity(even, LOGITS, LOGITS[:, ::-1]) < 1).all()


def phases_of(method, **fields):
    settings = toy.settings(method=method, **({"network": {"name": "tiny"}} | fields))
    return choose(functions_of("method"), "method", **settings.method)(settings, toy.info())


@pytest.mark.slow
def test_aggregation_begins_with_what_was_trained_and_moves_weights_alone():
    gently = {"name": "step", "lr": 0.01, "drop_at": ()}  # for outputs that are not saturated
    first, second = phases_of({"name": "sade", "aggregate": True}, schedule=gently)
    assert second.source == "test" and second.num_steps == 5 * 3  # of 36 images in batches of 16
    at_first = toy.Trainer(first, 2)
    trained, _ = at_first.steps(3)
    ours = toy.Trainer(second, 2)
    assert (ours.feed.arrays["label"] == -1).all()  # hidden
    begun = second.begin(ours.init(), trained.variables)
    np.testing.assert_allclose(begun.variables.params["aggregation"], 1 / 3)
    batch = {"image": jnp.asarray(toy.splits().test.image[:5])}
    np.testing.assert_allclose(
        ours.predict(begun, batch["image"]).logits,
        at_first.predict(trained, batch["image"]).logits,
        atol=1e-5,
    )
    before = jax.device_get(begun.variables)
    ended, losses = ours.steps(second.num_steps, begun)
    assert (losses[0] > -0.99).all()  # were they the same views, their cosine would be 1
    after = jax.device_get(ended.variables)
    moved = after.params.pop("aggregation")
    del before.params["aggregation"]
    toy.assert_trees_equal(before.params, after.params)
    toy.assert_trees_equal(before.params, jax.device_get(trained.variables.params))
    toy.assert_trees_equal(before.stats, after.stats)
    assert (moved != np.float32(1 / 3)).any(-1).all() and not (moved[0] == moved[1]).all()


@pytest.mark.slow
def test_aggregation_is_the_same_on_any_mesh_and_alone():
    (_, phase) = phases_of({"name": "sade", "aggregate": True})
    one, many = toy.Trainer(phase, 4), toy.Trainer(phase, 4, (2, 4))
    for step in (0, 2):  # the last batch of a pass is filled up
        request = one.feed.host_batch(step)
        np.testing.assert_array_equal(request["main"], request["view"])  # the same images
        expected, found = (toy.numbers(t.update(t.init(), request)[0]) for t in (one, many))
        toy.assert_trees_close(found, expected, atol=2e-6)


@pytest.mark.parametrize(
    "name, data, expected",
    [
        ("balpoe", "cifar100", {"alpha": 0.4}),
        ("balpoe", "cifar10", {"alpha": 0.8}),
        ("sade", "cifar10", {"reduced": False}),
    ],
)
def test_authors_choices_for_a_data_set_are_defaults(name, data, expected):
    settings = settings_of({"method": {"name": name}, "data": {"name": data}})
    found = {**settings.method, **settings.mixing}
    assert {key: found[key] for key in expected} == expected
    assert settings.network["head"] == "cosine"
    given = settings_of({"method": {"name": "balpoe"}, "mixing": {"alpha": 0.1}})
    assert given.mixing == {"name": "mixup", "alpha": 0.1}


@pytest.mark.parametrize(
    "fields, words",
    [
        (
            {"method": {"name": "sade"}, "loss": {"name": "focal"}},
            ["config.loss.name is 'focal'", "own"],
        ),
        (
            {"method": {"name": "ncl"}, "reweight": {"name": "effective_number"}},
            ["config.reweight.name is 'effective_number'", "leave it out"],
        ),
        ({"method": {"name": "ncl", "num_hard": 5}}, ["config.method.num_hard is 5", "at most 4"]),
        ({"method": {"name": "ncl", "num_heads": 1}}, ["config.method.num_heads", "at least 2"]),
        ({"method": {"name": "balpoe", "num_heads": 1}}, ["num_heads is 1", "at least 2"]),
        ({"method": {"name": "balpoe", "tau_min": 3.0}}, ["config.method.tau_min is 3.0", "2.0"]),
        ({"method": {"name": "sade", "passes": 0}}, ["config.method.passes is 0"]),
        ({"method": {"name": "sade", "passes": 2}}, ["passes is 2", "aggregate is False"]),
        (
            {"method": {"name": "sade"}, "loss": {"name": "focal"}},
            ["config.loss.name is 'focal'", "own"],
        ),
        ({"method": {"name": "ride", "teacher_heads": 4}}, ["teacher_heads is 4", "distill is"]),
        ({"method": {"name": "sade", "tau": -1.0}}, ["config.method.tau is -1.0"]),
        ({"method": {"name": "sade"}, "network": {"name": "resnet31"}}, ["config.network.name"]),
    ],
)
def test_what_cannot_work_is_said(fields, words):
    with pytest.raises(UserError) as error:
        phases_of(**fields)
    assert all(word in str(error.value) for word in words), error.value
