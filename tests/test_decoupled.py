"""Decoupling's second phases are the authors', and keep what they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from conftest import golden

from ltjax.config.choices import choose
from ltjax.learner import Variables
from ltjax.losses.classification import nll
from ltjax.methods import decoupled
from ltjax.models import Network
from ltjax.models.heads import Cosine
from ltjax.recipes import functions_of


def features_only(dim):
    """A network whose image is its features, with a linear head."""

    def maps(variables, features, train, frozen=()):
        return features[:, None, None], variables.stats

    def weights(variables):
        return variables.params["head"]["kernel"], variables.params["head"]["bias"]

    def head(variables, features):
        kernel, bias = weights(variables)
        return features @ kernel + bias

    return Network(None, maps, head, weights)


def test_tau_normalised_logits_are_the_authors(float64):
    file = golden("sm_decoupling")
    np.testing.assert_allclose(decoupled.TAUS, file["tau/grid"], atol=1e-12)
    features, kernel = jnp.asarray(file["tau/feature"]), jnp.asarray(file["tau/weight"].T)
    for tau in (0.0, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0):
        logits = decoupled.normalized_logits(features, kernel, tau)
        np.testing.assert_allclose(logits, file[f"tau/tau{tau}/logits_no_bias"], atol=1e-9)
        np.testing.assert_array_equal(logits.argmax(-1), file[f"tau/tau{tau}/pred"])
    for tau in (0.0, 0.3, 0.7, 1.0, 1.5):  # another code, which keeps the bias
        logits = decoupled.normalized_logits(
            jnp.asarray(file["clf/feature"]), jnp.asarray(file["clf/weight"].T), tau
        )
        expected = file[f"taunorm_bot/tau{tau}/logits_with_bias"]
        np.testing.assert_allclose(logits + file["clf/bias"], expected, atol=1e-9)


@pytest.mark.parametrize(
    "group, features, weight, bias, targets, scales",
    [
        ("lws", "clf/feature", "clf/weight", "clf/bias", "clf/targets", "clf/scales"),
        ("lws_cb", "tau/feature", "tau/weight", "tau/bias", "lws_cb/targets", "lws_cb/scales"),
    ],
)
def test_scaled_logits_and_their_gradient_are_the_authors(
    group, features, weight, bias, targets, scales, float64
):
    file = golden("sm_decoupling")
    head = {"kernel": jnp.asarray(file[weight].T), "bias": jnp.asarray(file[bias])}
    network = decoupled.scaled(features_only(head["kernel"].shape[0]), 10)

    def loss(scale):
        variables = Variables({"head": head, "scale": scale}, {})
        (logits, _), _ = toy.outputs(network, variables, jnp.asarray(file[features]), train=True)
        return nll(logits, jnp.asarray(file[targets])).mean(), logits

    (value, logits), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(file[scales]))
    np.testing.assert_allclose(logits, file[f"{group}/logits"], atol=1e-9)
    np.testing.assert_allclose(value, file[f"{group}/ce"], atol=1e-9)
    np.testing.assert_allclose(gradient, file[f"{group}/grad_scales"], atol=1e-9)


def test_the_cosine_head_is_the_authors(float64):
    file = golden("sm_decoupling")
    features, kernel = jnp.asarray(file["clf/feature"]), jnp.asarray(file["clf/weight"].T)
    targets = jnp.asarray(file["clf/targets"])

    def loss(kernel, features):
        logits = Cosine(10, scale=30.0).apply({"params": {"kernel": kernel}}, features)
        return nll(logits, targets).mean(), logits

    (value, logits), (of_kernel, of_features) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        kernel, features
    )
    np.testing.assert_allclose(logits / 30, file["fcnorm/logits"], atol=1e-9)
    np.testing.assert_allclose(value, file["fcnorm/ce_scale30"], atol=1e-9)
    np.testing.assert_allclose(of_kernel.T, file["fcnorm/grad_weight"], atol=1e-9)
    np.testing.assert_allclose(of_features, file["fcnorm/grad_feature"], atol=1e-9)


def passed_over(method, variables, features, label, batch_size, times):
    """The variables after `times` passes in order, the last batch of each filled up."""
    per_pass = -(-len(label) // batch_size)

    @jax.jit
    def step(variables, rows, progress):
        batch = {"image": features[rows], "label": label[rows], "index": rows}
        loss = jax.vmap(method.loss, (None, 0, None, None), axis_name="data")
        out = loss(variables, jax.tree.map(lambda x: x[None], batch), None, progress)
        return variables._replace(memory=jax.tree.map(lambda x: x[0], out.memory))

    for number in range(times * per_pass):
        rows = np.arange(batch_size) + number % per_pass * batch_size
        rows = np.where(rows < len(label), rows, -1)
        variables = step(variables, rows, number / (times * per_pass))
    return variables


@pytest.mark.parametrize("transform", ["un", "l2n", "cl2n"])
def test_nearest_class_means_are_the_authors(transform, float64):
    file = golden("sm_decoupling")
    features, label = (jnp.asarray(file[f"ncm/train_{x}"]) for x in ("feature", "label"))
    head = {"kernel": jnp.zeros((16, 8)), "bias": jnp.zeros(8)}
    memory = {"mean": jnp.zeros(16), "class_means": jnp.zeros((8, 16))}
    variables = Variables({"backbone": {}, "head": head}, {}, memory)
    test = {"image": jnp.asarray(file["ncm/test_feature"])}
    for distance in ("l2", "cos"):
        counts = np.bincount(file["ncm/train_label"], minlength=8)
        method = decoupled.nearest_mean(features_only(16), counts, transform, distance)
        after = passed_over(method, variables, features, label, batch_size=24, times=2)
        np.testing.assert_allclose(
            after.memory["class_means"], file[f"ncm/centroids/{transform}cs"], atol=1e-9
        )
        np.testing.assert_allclose(after.memory["mean"], file["ncm/centroids/mean"], atol=1e-9)
        logits = method.predict(after, test).logits
        expected = file[f"ncm/{transform}_{distance}/logits"]
        np.testing.assert_allclose(logits, expected, atol=1e-9)
        np.testing.assert_array_equal(logits.argmax(-1), file[f"ncm/{transform}_{distance}/pred"])


def test_means_are_gathered_in_two_exact_halves():
    """41 steps a pass: XLA's 41 / 82 may be less than a half."""
    settings = toy.settings(network={"name": "tiny"}, batch_size=2, method={"name": "ncm"})
    train = toy.images([40, 20, 12, 10])
    info = toy.info()._replace(class_counts=np.bincount(train.label))
    _, means = choose(functions_of("method"), "method", "ncm", transform="un")(settings, info)
    assert means.num_steps == 82
    network = toy.NETWORKS["tiny"](4)
    key, batch = jax.random.key(0), info.example
    state = means.learner.init(key, batch)
    arrays = {"image": train.image, "label": train.label.astype(np.int32)}
    update = jax.jit(jax.vmap(means.learner.update, axis_name="data"))
    state, draw = jax.tree.map(lambda x: x[None], state), means.sampler(train.label)
    for step in range(82):
        rows = draw((0, 0, 0), step)
        batch = {name: x[rows][None] for name, x in arrays.items()} | {"index": rows[None]}
        state, _ = update(state, batch)
    memory = jax.tree.map(lambda x: x[0], state.variables.memory)
    variables = jax.tree.map(lambda x: x[0], state.variables)
    image = (train.image.astype(np.float32) / 255 - 0.306) / 0.375
    (_, features), _ = toy.outputs(network, variables, image)
    np.testing.assert_allclose(memory["mean"], features.mean(0), rtol=1e-4)
    expected = [features[train.label == c].mean(0) for c in range(4)]
    np.testing.assert_allclose(memory["class_means"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_sweep_takes_the_tau_that_is_best_for_the_mean_class(float64):
    file = golden("sm_decoupling")
    features = jnp.asarray(file["tau/feature"])
    kernel = jnp.asarray(file["tau/weight"].T)
    label = jnp.asarray(file["tau/tau1.5/pred"])  # so that tau = 1.5 is right everywhere
    method = decoupled.tau_sweep(features_only(16), 10)
    head = {"kernel": kernel, "bias": jnp.asarray(file["tau/bias"])}
    memory = {"right": jnp.zeros((21, 10)), "seen": jnp.zeros(10)}
    variables = Variables({"backbone": {}, "head": head}, {}, memory)
    after = passed_over(method, variables, features, label, batch_size=16, times=1)
    np.testing.assert_array_equal(after.memory["seen"], np.bincount(label, minlength=10))
    right = [
        np.bincount(label[decoupled.normalized_logits(features, kernel, tau).argmax(-1) == label],
                    minlength=10)
        for tau in decoupled.TAUS
    ]  # fmt: skip
    np.testing.assert_array_equal(after.memory["right"], right)
    predicted = method.predict(after, {"image": features}).logits
    best = np.argmax((np.array(right) / np.maximum(np.bincount(label, minlength=10), 1)).mean(1))
    expected = decoupled.normalized_logits(features, kernel, decoupled.TAUS[best])
    np.testing.assert_allclose(predicted, expected, atol=1e-12)
    said = method.predict(after, {"image": features}).measures["tau"]
    np.testing.assert_allclose(said, np.full(len(features), decoupled.TAUS[best]))
    assert (np.asarray(right).sum(1)[best] == 40) and decoupled.TAUS[best] <= 1.5


@pytest.mark.parametrize("stats", [pytest.param("moving", marks=pytest.mark.slow), "frozen"])
def test_retraining_moves_the_head_alone_and_statistics_only_if_asked(stats):
    settings = toy.settings()
    first, second = choose(functions_of("method"), "method", "crt", backbone_stats=stats)(
        settings, toy.info()
    )
    assert second.num_steps == 6  # 1.2 of 8 epochs, of 75 images in batches of 16
    trained, _ = toy.Trainer(first, 2).steps(3)
    ours = toy.Trainer(second, 2)
    begun = second.begin(ours.init(), trained.variables)
    toy.assert_trees_equal(
        jax.device_get(begun.variables.params["backbone"]),
        jax.device_get(trained.variables.params["backbone"]),
    )
    kernels = [x.variables.params["head"]["kernel"] for x in (begun, trained)]
    assert not np.array_equal(*kernels)
    before = jax.device_get(begun.variables)
    after = jax.device_get(ours.steps(3, begun)[0].variables)
    toy.assert_trees_equal(before.params["backbone"], after.params["backbone"])
    moved = jax.tree.map(np.array_equal, before.stats, after.stats)
    assert all(jax.tree.leaves(moved)) if stats == "frozen" else not any(jax.tree.leaves(moved))


def test_only_the_scale_of_a_class_is_learned():
    first, second = toy.recipe("lws", network={"name": "tiny"})
    ours = toy.Trainer(second, 2)
    trained, _ = toy.Trainer(first, 2).steps(2)
    begun = second.begin(ours.init(), trained.variables)
    before = jax.device_get(begun.variables.params)
    np.testing.assert_array_equal(before["scale"], 1)
    after = jax.device_get(ours.steps(3, begun)[0].variables.params)
    toy.assert_trees_equal(before["backbone"], after["backbone"])
    toy.assert_trees_equal(before["head"], after["head"])
    assert (after["scale"] != 1).all()


def test_tau_normalised_weights_are_the_authors(float64):
    """Unit vectors as features give the weights themselves."""
    file = golden("sm_decoupling")
    of_group = {
        "tau": (0.0, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0),
        "taunorm_bot": (0.0, 0.3, 0.7, 1.0, 1.5),
    }
    for group, weight in (("tau", "tau/weight"), ("taunorm_bot", "clf/weight")):
        kernel = jnp.asarray(file[weight].T)
        for tau in of_group[group]:
            found = decoupled.normalized_logits(jnp.eye(len(kernel)), kernel, tau)
            np.testing.assert_allclose(found.T, file[f"{group}/tau{tau}/weight"], atol=1e-9)
