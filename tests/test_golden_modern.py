"""SADE, BalPoE and NCL are their authors': losses, gradients, and SADE's weights at test time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden

from ltjax import optim
from ltjax.data import sampling
from ltjax.learner import learner
from ltjax.losses import mixing
from ltjax.losses.classification import nll
from ltjax.losses.mixing import Mix
from ltjax.methods import balpoe, ncl, sade
from ltjax.methods.parts.several_heads import log_shares
from ltjax.models import SeveralHeads

CASES = {
    "sade_loss": ("cifar100_ir100", "cifar10_ir50"),
    "balpoe_loss": ("cifar100_ir100_tau012", "imagenet_style_tau_0_1.25_2.5", "single"),
    "ncl_loss": ("cifar100_ir100", "cifar10_ir100"),
}


def made(name, of):
    """Our loss of a case."""
    counts = of("class_counts")
    if name == "sade_loss":
        return sade.diverse(counts, float(of("tau")))
    if name == "balpoe_loss":
        return balpoe.adjusted(counts, of("tau_list"))
    return ncl.nested(counts, int(of("hcm_n")), float(of("factor_full")), float(of("factor_hcm")))


@pytest.mark.parametrize("name, case", [(n, case) for n, cases in CASES.items() for case in cases])
def test_losses_and_their_gradients_are_the_authors(name, case, float64):
    file = golden(name)

    def of(key):
        return file[f"{case}/{key}"]

    loss, label = made(name, of), jnp.asarray(of("target"))
    logits = jnp.asarray(of("expert_logits"), jnp.float64)
    value, gradient = jax.jit(jax.value_and_grad(lambda z: loss(z, label).mean()))(logits)
    np.testing.assert_allclose(value, of("loss"), rtol=1e-6)  # theirs is in float32
    np.testing.assert_allclose(gradient, of("grad_expert_logits"), rtol=0, atol=2e-7)


@pytest.mark.parametrize("case", CASES["sade_loss"])
def test_the_reversed_prior_is_the_authors(case):
    file = golden("sade_loss")
    counts = file[f"{case}/class_counts"]
    prior = counts / counts.sum()
    np.testing.assert_allclose(prior, file[f"{case}/prior"], rtol=1e-6)
    expected = file[f"{case}/inverse_prior"]
    np.testing.assert_allclose(sade.reversed_prior(prior), expected, rtol=1e-6)


@pytest.mark.parametrize("case", CASES["sade_loss"])
def test_predictions_are_of_the_mean_of_logits(case, float64):
    file = golden("sade_loss")
    logits = jnp.asarray(file[f"{case}/expert_logits"], jnp.float64)
    even = sade.mixed(jnp.full(3, 1 / 3), logits)
    found = nll(even, jnp.asarray(file[f"{case}/target"])).mean()
    np.testing.assert_allclose(found, file[f"{case}/eval_loss"], rtol=1e-6)


@pytest.mark.parametrize("case", CASES["balpoe_loss"])
def test_shifts_losses_of_heads_and_means_are_the_authors(case, float64):
    file = golden("balpoe_loss")
    counts, taus = file[f"{case}/class_counts"], file[f"{case}/tau_list"]
    shifts = np.multiply.outer(taus, log_shares(counts / counts.sum()))
    np.testing.assert_allclose(shifts, file[f"{case}/bias"], rtol=1e-6, atol=1e-9)
    logits = jnp.asarray(file[f"{case}/expert_logits"], jnp.float64)
    label = jnp.asarray(file[f"{case}/target"])
    for k, tau in enumerate(taus):
        alone = balpoe.adjusted(counts, [tau])(logits[k : k + 1], label).mean()
        np.testing.assert_allclose(alone, file[f"{case}/expert_losses"][k], rtol=1e-6)
    mean = file[f"{case}/mean_logits"]
    np.testing.assert_allclose(logits.mean(0), mean, rtol=1e-5, atol=1e-6)


def test_the_loss_of_blends_is_the_authors(float64):
    file = golden("balpoe_loss")

    def of(key):
        return jnp.asarray(file[f"mixup/{key}"])

    share, label = of("lambda"), of("target")
    mix = Mix(share, jnp.full(len(label), share), of("perm"))
    loss = balpoe.adjusted(file["mixup/class_counts"], file["mixup/tau_list"])

    def objective(logits, label, key, progress):
        values = loss(logits, label)
        return values, jnp.ones_like(values)

    def mean(logits):
        def one(label):
            both = mixing.of_both_labels(mix, objective)
            return both(logits, label, jax.random.key(0), 0.0)[0]

        return jax.vmap(one, axis_name="data")(label[None]).mean()

    value, gradient = jax.jit(jax.value_and_grad(mean))(of("expert_logits").astype(jnp.float64))
    np.testing.assert_allclose(value, of("loss"), rtol=1e-6)
    np.testing.assert_allclose(gradient, of("grad_expert_logits"), rtol=0, atol=2e-7)
    blended = jax.vmap(lambda x: mixing.blend(mix, x), axis_name="data")
    image = blended(of("image").astype(jnp.float64)[None])[0]
    np.testing.assert_allclose(image, of("mixed_image"), rtol=0, atol=1e-6)


def test_disagreement_on_all_classes_is_the_authors(float64):
    file = golden("ncl_loss")
    for case in CASES["ncl_loss"]:
        logits = file[f"{case}/expert_logits"] + np.log(file[f"{case}/class_counts"])
        found = float(file[f"{case}/factor_full"]) * ncl.disagreement(jnp.asarray(logits)).mean()
        np.testing.assert_allclose(found, file[f"{case}/nbod_full"], rtol=1e-6)


def shown():
    """A trained network whose image [B, K, C] is its heads' logits."""

    def features(variables, image, train, frozen=()):
        return jnp.moveaxis(image, 1, 0), variables.stats

    return SeveralHeads(lambda key, image: ({}, {}), features, lambda variables, x: x)


def test_weights_of_heads_at_test_time_are_the_authors(float64):
    file = golden("sade_test_time")
    views, size = [file[f"view{i}_expert_logits"] for i in (0, 1)], int(file["batch_size"])
    per_pass = -(-len(views[0]) // size)
    num_steps = per_pass * len(file["raw_weight_after_epoch"])
    method = sade.aggregating(shown(), num_steps, per_pass)
    optimizer = optim.sgd(
        lambda _: float(file["lr"]), float(file["momentum"]), True, float(file["weight_decay"])
    )
    ours = learner(method, optimizer, num_steps)
    first, other = (jnp.asarray(view, jnp.float64) for view in views)
    state = ours.init(jax.random.key(0), {"image": first[:1]})
    begin = state.variables.params["aggregation"]
    np.testing.assert_allclose(begin, file["raw_weight_init"], rtol=1e-7)
    update = jax.jit(jax.vmap(ours.update, axis_name="data"))
    draw = sampling.in_order(len(first), size)
    state = jax.tree.map(lambda x: x[None], state)
    after = []
    for step in range(num_steps):
        rows = draw(None, step % per_pass)
        batch = {"image": first[rows], "index": rows, "view": {"image": other[rows]}}
        state, _ = update(state, jax.tree.map(lambda x: x[None], batch))
        after.append(state.variables.params["aggregation"][0])
    ends = np.stack(after)[per_pass - 1 :: per_pass]
    np.testing.assert_allclose(ends, file["raw_weight_after_epoch"], rtol=0, atol=1e-6)
    weights = jax.nn.softmax(ends)
    np.testing.assert_allclose(weights, file["softmax_weight_after_epoch"], rtol=0, atol=1e-6)
    rounded = np.round(100 * weights)
    np.testing.assert_array_equal(
        rounded, np.round(100 * file["softmax_weight_rounded_after_epoch"])
    )
    assert not state.variables.memory["stopped"][0]  # no weight fell below 0.05
    variables = jax.tree.map(lambda x: x[0], state.variables)
    found = method.predict(variables, {"image": first}).logits
    expected = np.einsum("k,bkc->bc", weights[-1], first)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
