"""RIDE's own claims: what is shared, what learns when, what routing does and costs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ltjax.config.choices import choose
from ltjax.config.settings import Compute
from ltjax.errors import UserError
from ltjax.experts import take
from ltjax.learner import Variables
from ltjax.losses.classification import divergence
from ltjax.methods import ride
from ltjax.methods.parts.several_heads import branched
from ltjax.methods.ride import routing
from ltjax.models import NETWORKS, branches, cost
from ltjax.recipes import functions_of

RNG = np.random.default_rng(0)


def phases_of(network="toy", info=None, **options):
    settings = toy.settings(method={"name": "ride", **options}, network={"name": network})
    return choose(functions_of("method"), "method", **settings.method)(settings, info or toy.info())


def leaves_equal(tree, other):
    return jax.tree.leaves(jax.tree.map(np.array_equal, tree, other))


def variables_of(network, image, key=0):
    return Variables(*network.init(jax.random.key(key), image))


@pytest.mark.slow
def test_heads_start_apart_and_share_the_trunk():
    image = jnp.asarray(toy.splits().train.image[:2], jnp.float32)
    params, _ = jax.jit(branches.branched(toy.network(4), 3).init)(jax.random.key(0), image)
    assert params["backbone"]["stem"]["kernel"].shape == (3, 3, 1, 4)
    for kernel in (
        params["branches"]["stage2_block0"]["conv1"]["kernel"],  # [K, 3, 3, 4, 6]
        params["head"]["kernel"],  # [K, 6, C]
    ):
        assert len(kernel) == 3 and not np.array_equal(kernel[0], kernel[1])


@pytest.mark.slow
@pytest.mark.parametrize("over", ["vmap", "map"])
def test_branches_are_the_same_however_they_are_compiled_two_axes_deep(over):
    """Experts of branches: native kernels under two vmaps."""
    image = jnp.asarray(RNG.normal(size=(4, 8, 8, 1)), jnp.float32)
    each = {"vmap": jax.vmap, "map": lambda f: lambda own: jax.lax.map(f, own)}[over]
    fast, slow = (branches.branched(toy.network(4), 3, each=one) for one in (each, unrolled))
    experts = [jax.jit(fast.init)(jax.random.key(i), image) for i in range(2)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *experts)

    def of(network):
        def total(params, stats):
            (logits, features), _ = toy.outputs(network, Variables(params, stats), image)
            return jnp.sin(logits).sum() + features.sum()

        return jax.value_and_grad(total)

    values, gradients = jax.jit(jax.vmap(of(fast)))(*together)
    for i, one in enumerate(experts):
        value, gradient = jax.jit(of(slow))(*one)
        np.testing.assert_allclose(values[i], value, rtol=1e-5)
        toy.assert_trees_close(take(gradients, i), gradient, atol=2e-5)


def unrolled(f):
    return lambda own: jax.tree.map(lambda *x: jnp.stack(x), *(f(take(own, i)) for i in range(3)))


def objective_of(diversity):
    late = ride.temperatures(np.array([40, 20, 10, 5]), 0.05)

    def base(logits, label, key, progress):
        return jnp.zeros(len(label)), jnp.ones(len(label))

    aim = ride.diverse(base, late, diversity, 0.8)

    def mean(logits, label):
        return jax.vmap(
            lambda logits: aim(logits, label, jax.random.key(0), 0.0)[0].mean(), axis_name="data"
        )(logits[None])[0]

    return jax.grad(mean)


def test_diversity_drives_heads_apart_and_leaves_equal_ones_alone():
    logits, label = jnp.asarray(RNG.normal(size=(3, 5, 4))), jnp.zeros(5, int)
    gradient = objective_of(0.45)(logits, label)
    mean = logits.mean(0)
    before = divergence(mean, logits).mean()
    assert divergence(mean, logits - 0.1 * gradient).mean() > before
    alike = jnp.broadcast_to(logits[:1], logits.shape)
    np.testing.assert_allclose(objective_of(0.45)(alike, label), 0, atol=1e-7)


def test_temperatures_are_one_for_the_largest_class_and_all_without_gamma():
    late = ride.temperatures(np.array([100, 10, 1]), 0.05)
    # q = 0.05 * 3 n / 111 + 0.95
    np.testing.assert_allclose(
        late, (0.15 / 111 * np.array([100, 10, 1]) + 0.95) / (0.95 + 15 / 111)
    )
    np.testing.assert_array_equal(ride.temperatures(np.array([100, 10, 1]), 0.0), 1)


def test_an_image_uses_heads_until_a_gate_stops_it():
    gates = np.array([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]])  # [K - 1, B]
    used = routing.heads_used(gates)
    np.testing.assert_array_equal(used, [3, 1, 2, 1])
    logits = jnp.asarray(RNG.normal(size=(3, 4, 5)))
    routed = routing.routed_logits(logits, used)
    for i, number in enumerate([3, 1, 2, 1]):
        np.testing.assert_allclose(routed[i], logits[:number, i].mean(0), rtol=1e-6)


def test_a_gate_should_open_where_the_heads_so_far_are_wrong_and_more_are_right():
    one, two = [9.0, 0.0], [0.0, 1.0]
    # heads 1..i together, of four images of class 0: right throughout; wrong, then right at the
    # third; wrong throughout; right, then wrong, then right
    logits = np.array(
        [[one, two, two, two], [one, two, two, [0.0, 9.0]], [one, one, two, [9.0, 0.0]]]
    )
    logits[0, 3] = [1.0, 0.0]
    needed = routing.needed(jnp.asarray(logits), jnp.zeros(4, int))
    np.testing.assert_array_equal(needed, [[False, True, False, False], [False, True, False, True]])


@pytest.mark.parametrize("num_epochs", [2.0, 8.0])
def test_the_router_has_its_epochs_however_many_were_before(num_epochs):
    first, second = toy.recipe("ride", network={"name": "toy"}, num_epochs=num_epochs)
    per_epoch = -(-len(toy.splits().train.label) // (4 * 16))
    assert second.batch_size == 4 * first.batch_size == 64
    assert second.num_steps == 5 * per_epoch


@pytest.mark.slow
def test_the_router_learns_alone_and_begins_with_the_trained_heads():
    first, second = phases_of()
    trained, _ = toy.Trainer(first, 2).steps(2)
    ours = toy.Trainer(second, 2)
    begun = second.begin(ours.init(), trained.variables)
    before = jax.device_get(begun.variables)
    kept = ("backbone", "branches", "head")
    assert all(
        leaves_equal([before.params[g] for g in kept], [trained.variables.params[g] for g in kept])
    )
    after = jax.device_get(ours.steps(2, begun)[0].variables)
    assert all(leaves_equal([before.params[g] for g in kept], [after.params[g] for g in kept]))
    assert all(leaves_equal(before.stats, after.stats))  # batch norm too
    assert not any(leaves_equal(before.params["router"], after.params["router"]))
    measured = ours.predict(begun, toy.splits().test.image).measures
    assert ((measured["heads_used"] >= 1) & (measured["heads_used"] <= 3)).all()


@pytest.mark.slow
def test_the_student_learns_from_the_frozen_teacher():
    teacher, student, last = phases_of(distill=True, teacher_heads=4)
    assert [phase.name for phase in (teacher, student, last)] == ["teacher", "train", "routing"]
    taught, _ = toy.Trainer(teacher, 2).steps(2)
    ours = toy.Trainer(student, 2)
    taught = jax.device_get(taught.variables)
    begun = student.begin(ours.init(), taught)
    of_teacher = jax.device_get(begun.variables.memory["teacher"])
    assert len(of_teacher.params["head"]["kernel"][0]) == 4
    assert all(leaves_equal(of_teacher, taught._replace(memory=())))
    fresh = jax.device_get(ours.init().variables.params)
    assert all(leaves_equal(jax.device_get(begun.variables.params), fresh))
    after, losses = ours.steps(30, begun)
    assert all(leaves_equal(jax.device_get(after.variables.memory["teacher"]), of_teacher))
    assert (losses[-5:].mean(0) < 0.8 * losses[:5].mean(0)).all()
    two_devices = toy.Trainer(student, 2, (1, 2))
    request = ours.feed.host_batch(0)
    ends = [
        toy.numbers(t.update(student.begin(t.init(), taught), request)[0])
        for t in (ours, two_devices)
    ]
    toy.assert_same_step(*ends)


@pytest.mark.slow
def test_what_ride_costs_on_cifar_100_is_what_its_authors_say():
    counts = np.full(100, 5)
    info = toy.info()._replace(image_shape=(32, 32, 3), class_counts=counts)
    info = info._replace(mean=3 * info.mean, std=3 * info.std)
    first, second = phases_of("resnet32", info)
    image = {"image": jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)}
    found = []
    for phase in (first, second):
        method = phase.learner.method
        variables = jax.eval_shape(method.init, jax.random.key(0), info.example)
        found.append(
            cost.multiply_adds(lambda *a, of=method: of.predict(*a).logits, variables, image)
        )
    assert found[0] == 100_358_208  # the authors' 0.1 G; one ResNet-32 has 68.9 M
    gate = 48 * 16 + 16 + 30
    assert found[1] == found[0] + 2 * gate


def test_an_image_is_charged_for_the_branches_and_gates_that_it_meets():
    plain = dataclasses.replace(toy.settings(), compute=Compute(convolution="plain"))
    network = functools.partial(branched, plain, toy.info(), reduced=True)
    one, two, three = routing.multiply_adds(network, toy.info(), num_heads=3, top_k=4).tolist()
    gate = 6 * 16 + 16 + 4
    branch = 4 * 4 * 9 * (4 * 6 + 6 * 6) + 6 * 4  # two convolutions of 4 x 4 outputs, a head
    assert (two - one, three - two) == (branch + gate, branch)
    trunk = 8 * 8 * 9 * (1 * 4 + 4 * 4 + 4 * 4)
    assert one == trunk + branch + gate


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"network": {"name": "whole"}}, ["config.network.name is 'whole'", "resnet32"]),
        ({"network": {"name": "toy", "head": "linear"}}, ["config.network.head", "cosine"]),
        ({"method": {"num_heads": 1}}, ["config.method.num_heads is 1", "at least 2"]),
        ({"method": {"diversity": -0.45}}, ["config.method.diversity is -0.45", "at least 0"]),
        ({"method": {"distill": True}, "mixing": {"name": "mixup"}}, ["'mixup'", "distill"]),
    ],
)
def test_what_cannot_work_is_said_in_a_line(changed, words, monkeypatch):
    monkeypatch.setitem(NETWORKS, "whole", toy.whole)
    method = {"name": "ride", **changed.pop("method", {})}
    with pytest.raises(UserError) as error:
        settings = toy.settings(**({"network": {"name": "toy"}} | changed), method=method)
        choose(functions_of("method"), "method", **method)(settings, toy.info())
    assert all(word in str(error.value) for word in words)


def test_any_loss_trains_the_heads():
    settings = toy.settings(method={"name": "ride"}, loss={"name": "balanced_softmax"})
    assert settings.loss == {"name": "balanced_softmax"} and settings.network["head"] == "cosine"
    assert settings.reweight["name"] == "effective_number"
