"""What every method promises, tested for each phase of each row of METHODS.

Methods that only combine choices train a network without convolutions here: what they
choose has nothing to do with these, and it is soon compiled. Two of the contracts are quick for all
methods, by their first steps (first_step.py); the others are quick for "classifier" alone.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from first_step import alone, step_of
from first_step import phases_of as steps_of
from toy import Trainer, assert_same_step, assert_trees_close, assert_trees_equal, numbers

from ltjax.experts import seeded_keys, stack, take
from ltjax.methods import METHODS

# Of methods that set choices, those that are more than a classifier of these.
OWN = {"ride", "sade", "balpoe"}
PRESETS = {name: row for name, row in METHODS.items() if row.config}
NETWORK = {method: "tiny" if method in PRESETS.keys() - OWN else "toy" for method in METHODS}


def phases_of(method):
    return toy.recipe(method, network={"name": NETWORK[method]})


@functools.cache
def trainer(phase, num_experts, shape=(1, 1), over="map"):
    """Compiled once for all tests that need it; a phase is a method and its number."""
    method, number = phase
    return Trainer(phases_of(method)[number], num_experts, shape, over)


# Where there is a second phase, the first is that of "classifier", but for OWN and LFME's teachers.
PHASES = [
    (method, number)
    for method, length in {method: len(phases_of(method)) for method in METHODS}.items()
    for number in range(length)
    if number or length == 1 or method in OWN or method == "lfme"
]


def slow(of, method, name):
    """A parameter; tests of a method go to one process, where it is compiled once."""
    return pytest.param(of, id=name, marks=[pytest.mark.xdist_group(method), pytest.mark.slow])


every_phase = pytest.mark.parametrize(
    "phase", [slow(p, p[0], f"{p[0]}{p[1] or ''}") for p in PHASES]
)
# These are quick, for every method; first phases that are those of "classifier" are slow ones.
every_first_step = pytest.mark.parametrize(
    "method, number",
    [
        pytest.param(
            method,
            number,
            id=f"{method}{number or ''}",
            marks=[
                pytest.mark.xdist_group(method),
                *([] if (method, number) in PHASES else [pytest.mark.slow]),
            ],
        )
        for method in METHODS
        for number in range(len(steps_of(method)))
    ],
)
# Of these phases, batch norm goes on in a backbone that is frozen (classifier's `moving`).
MOVING = {"cRT": {"backbone"}, "LWS": {"backbone"}}
with_convolutions = pytest.mark.parametrize(
    "method", ["classifier", pytest.param("joint", marks=pytest.mark.slow)]
)


@pytest.mark.parametrize(
    "method",
    [
        slow(method, method, method)
        for method, number in PHASES
        # two labels for one prediction leave an entropy that rises as they are mixed: test_bbn.py;
        # a teacher of one class has nothing to learn: test_lfme.py
        if number == 0 and method not in ("bbn", "lfme")
    ],
)
def test_the_loss_falls_on_a_toy_tail(method):
    _, losses = trainer((method, 0), 4).steps(40)
    # soft targets leave an entropy that nothing can learn away; margins are 15 in RIDE's logits
    share = 0.8 if method in ("label_aware_smoothing", "ride") else 0.5
    assert (losses[-5:].mean(0) < share * losses[:5].mean(0)).all()


@every_phase
def test_predictions_are_finite_deterministic_logits(phase):
    ours = trainer(phase, 4)
    state, _ = ours.steps(2)
    image = toy.splits().test.image[:5]
    logits = ours.predict(state, image).logits
    assert logits.shape == (4, 5, 4) and np.isfinite(logits).all()
    np.testing.assert_array_equal(logits, ours.predict(state, image).logits)


@every_first_step
def test_an_expert_takes_the_same_first_step_alone_as_in_company(method, number):
    step = step_of(method, number)
    for i, (own, loss) in enumerate(alone(step, number)):
        found = take(numbers(step.after), i)
        assert_same_step(found, numbers(own))
        np.testing.assert_allclose(step.loss[i], loss, rtol=1e-5, atol=1e-6)


@every_first_step
def test_a_first_step_moves_what_is_not_frozen_and_stays_finite(method, number):
    phase, _, before, after, loss, logits = step_of(method, number)
    assert logits.shape == (phase.num_experts, 5, 4) and np.isfinite(logits).all()
    assert loss.shape == (phase.num_experts,) and np.isfinite(loss).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(numbers(after)))
    frozen, moving = phase.learner.method.frozen, MOVING.get(phase.name, set())
    (params, stats, memory), now = before.variables, after.variables
    for group in params:
        has_moved = group not in frozen
        assert moved(params[group], now.params[group]) == has_moved, group
        if jax.tree.leaves(stats.get(group)):
            assert moved(stats[group], now.stats[group]) == (has_moved or group in moving), group
    assert len(frozen) < len(params) or moved(memory, now.memory)


def moved(tree, other):
    """Whether any number is another, for each expert."""
    differs = jax.tree.map(lambda x, y: (x != y).reshape(len(x), -1).any(1), tree, other)
    each = np.any(jax.tree.leaves(differs), axis=0)
    assert each.all() or not each.any()
    return bool(each.all())


@every_phase
def test_an_expert_learns_the_same_alone_as_in_company(phase):
    together, alone = trainer(phase, 4), trainer(phase, 1)
    request = together.feed.host_batch(0)
    after, _ = together.update(together.init(), request)
    keys = seeded_keys(0, 0, 4)
    for i in range(4):
        own, _ = alone.update(alone.init(keys[i : i + 1]), stack([take(request, i)]))
        assert_trees_close(take(numbers(after), i), take(numbers(own), 0), atol=1e-6)


@every_phase
def test_another_experts_data_change_nothing_here(phase):
    ours = trainer(phase, 4)
    request = ours.feed.host_batch(0)
    size = len(ours.feed.arrays["label"])
    other = jax.tree.map(lambda index: (index + 7 * np.eye(4, dtype=int)[:, [3]]) % size, request)
    first, second = (numbers(ours.update(ours.init(), r)[0]) for r in (request, other))
    for i in range(3):
        assert_trees_equal(take(first, i), take(second, i))
    moved = jax.tree.map(lambda x, y: (x[3] != y[3]).any(), first[1], second[1])
    assert any(jax.tree.leaves(moved))


@every_phase
@pytest.mark.parametrize("shape", [(2, 4), pytest.param((4, 2), marks=pytest.mark.slow)])
def test_one_step_is_the_same_on_any_mesh(phase, shape):
    one, many = trainer(phase, 4), trainer(phase, 4, shape)
    request = one.feed.host_batch(0)
    expected, found = (numbers(t.update(t.init(), request)[0]) for t in (one, many))
    # measured: below 3e-7, and 3e-6 where gradients are up to 10; a gradient counted once per
    # device is off by 1e-2
    assert_same_step(found, expected)


@pytest.mark.slow
def test_one_step_is_the_same_on_any_mesh_under_strong_augmentation():
    phase = toy.phase(augment={"name": "autoaugment", "cutout": 3})
    one, many = Trainer(phase, 4), Trainer(phase, 4, (2, 4))
    request = one.feed.host_batch(0)
    expected, found = (numbers(t.update(t.init(), request)[0]) for t in (one, many))
    assert_trees_close(found, expected, atol=2e-6)


@every_phase
@pytest.mark.parametrize("over", ["vmap", pytest.param("unroll", marks=pytest.mark.slow)])
def test_one_step_is_the_same_however_experts_are_compiled(phase, over):
    looped, other = trainer(phase, 4), trainer(phase, 4, over=over)
    request = looped.feed.host_batch(0)
    expected, found = (numbers(t.update(t.init(), request)[0]) for t in (looped, other))
    assert_same_step(found, expected)


@with_convolutions
@pytest.mark.parametrize("form", ["direct", "plain"])
@pytest.mark.slow
def test_one_step_is_the_same_whatever_computes_convolutions(method, form):
    default = trainer((method, 0), 4)
    other = Trainer(toy.phase(method, compute={"convolution": form}), 4)
    request = default.feed.host_batch(0)
    expected, found = (numbers(t.update(t.init(), request)[0]) for t in (default, other))
    assert_trees_close(found, expected, atol=2e-6)


@pytest.mark.parametrize("shape", [pytest.param((1, 1), marks=pytest.mark.slow), (2, 4)])
def test_initialising_with_less_effort_and_together_gives_the_same_numbers(shape):
    ours = trainer(("classifier", 0), 4, shape)
    keys = seeded_keys(0, 0, 4)
    one_by_one, together = ours.init(), ours.sharded.init(keys, toy.info().example)
    assert_trees_equal(numbers(one_by_one), numbers(together))
    same = jax.tree.map(
        lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim), one_by_one, together
    )
    assert all(jax.tree.leaves(same))
    if shape == (1, 1):
        effort = {"xla_backend_optimization_level": 3}  # XLA's default, not the tests'
        init = jax.jit(ours.many.init, compiler_options=effort)
        assert_trees_equal(numbers(together), numbers(init(keys, toy.info().example)))


def weighted(method):
    """The method, its examples weighted by 1 to 4 from class to class."""

    def loss(variables, batch, key, progress):
        step = method.loss(variables, batch, key, progress)
        return step._replace(weights=1.0 + batch["label"])

    return method._replace(loss=loss)


@pytest.mark.parametrize("shape", [pytest.param((1, 8), marks=pytest.mark.slow), (2, 4)])
@pytest.mark.slow
def test_the_weighted_mean_is_over_the_whole_batch_on_any_mesh(shape):
    phase = toy.phase()._replace(learner=toy.learner_of(weighted(toy.method(toy.info()))))
    one, many = Trainer(phase, 2), Trainer(phase, 2, shape)
    request = one.feed.host_batch(0)
    expected, metrics = one.update(one.init(), request)
    found, sharded_metrics = many.update(many.init(), request)
    # each device holds 2 or 4 images of a batch: a mean of their means would be off by 1e-1
    np.testing.assert_allclose(sharded_metrics["loss"], metrics["loss"], rtol=1e-5)
    assert_trees_close(numbers(found), numbers(expected), atol=2e-6)


def test_the_loss_is_the_weighted_mean_of_the_values():
    values, weights = jnp.arange(16.0), jnp.arange(16.0) ** 2

    def fixed(variables, batch, key, progress):
        step = method.loss(variables, batch, key, progress)
        return step._replace(values=values + 0 * step.values, weights=weights)

    method = toy.method(toy.info())
    learner = toy.learner_of(method._replace(loss=fixed))
    ours = Trainer(toy.phase()._replace(learner=learner), 1)
    _, metrics = ours.update(ours.init(), ours.feed.host_batch(0))
    np.testing.assert_allclose(metrics["loss"], np.average(values, weights=weights), rtol=1e-6)


@pytest.mark.parametrize("frozen", [("backbone",), ("head",)])
def test_frozen_groups_stay_bitwise_statistics_included(frozen):
    learner = toy.learner_of(toy.method(toy.info(), frozen))
    ours = Trainer(toy.phase()._replace(learner=learner), 2)
    before = numbers(ours.init())[1]
    after = numbers(ours.steps(3)[0])[1]
    for group in ("backbone", "head"):
        if group in frozen:
            assert_trees_equal(before.params[group], after.params[group])
            assert_trees_equal(before.stats.get(group), after.stats.get(group))
        else:
            pairs = jax.tree.map(
                lambda x, y: (x != y).any(), before.params[group], after.params[group]
            )
            assert all(jax.tree.leaves(pairs))


@every_phase
@pytest.mark.parametrize("shape", [pytest.param((1, 1), marks=pytest.mark.slow), (2, 4)])
def test_evaluation_of_a_ragged_split_is_numpy_by_hand(phase, shape):
    ours = trainer(phase, 4, shape)
    state, _ = ours.steps(3)
    test = toy.splits().test
    keep = np.random.default_rng(0).permutation(36)[:27]  # 27 = 16 + 11
    test = test.take(keep)
    result = ours.evaluate(state, test)
    logits = np.asarray(ours.predict(state, test.image).logits, np.float64)
    np.testing.assert_allclose(result["outputs"]["logits"], logits, rtol=1e-4, atol=1e-5)
    probs = np.exp(logits - logits.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    average = probs.mean(0)
    right = average.argmax(-1) == test.label
    expert_right = probs.argmax(-1) == test.label
    own = average[np.arange(27), test.label]
    found = result["average"]
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["nll"] == pytest.approx(-np.log(own).mean(), rel=1e-4)
    assert found["brier"] == pytest.approx(
        ((average - np.eye(4)[test.label]) ** 2).sum(-1).mean(), rel=1e-4
    )
    per_class = [right[test.label == c].mean() for c in range(4)]
    assert found["per_class"] == pytest.approx(per_class)
    assert found["medium"] == pytest.approx(np.mean(per_class[:2]))  # 40 and 20 images
    assert found["few"] == pytest.approx(np.mean(per_class[2:])) and found["many"] is None
    accuracies = [one["accuracy"] for one in result["experts"]]
    assert accuracies == pytest.approx(list(expert_right.mean(-1)))
    only_average = [int((right & ~own).sum()) for own in expert_right]
    assert [t["all"]["average_only"] for t in result["against_average"]] == only_average
