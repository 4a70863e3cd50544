"""ResNet-32 against LDAM-DRW's own code: stage by stage, step by step, and in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from conftest import golden
from test_golden_resnet32 import VARIANTS, network, on_one_device, ours, start

from ltjax.learner import Variables
from ltjax.losses.classification import ldam, nll
from ltjax.models.resnet_cifar import CifarResNet
from ltjax.optim import sgd

# blocks after which the authors' code was read: behind the stem and each stage
STAGES = {"bn1": 0, "layer1": 5, "layer2": 10, "layer3": 15}


def forward(net, variables, image, train):
    """(logits, statistics)."""
    (logits, _), stats = toy.outputs(net, variables, image, train)
    return logits, stats


def in_float32(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float32), tree)


def close_to_largest(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("variant", VARIANTS)
def test_means_over_channels_of_all_stages_are_the_authors(variant):
    expected = golden(f"sm_resnet32_{variant}_grad")
    variables, images, _ = start(variant)

    def means(variables):
        tree = {"params": variables.params["backbone"], "batch_stats": variables.stats["backbone"]}
        found = {}
        for name, blocks in STAGES.items():
            part = CifarResNet(5, stop=blocks)
            maps = part.apply(tree, images[0], train=False)
            trained, _ = part.apply(tree, images[0], train=True, mutable=["batch_stats"])
            found[f"eval_{name}"], found[f"train_{name}"] = maps, trained
        return jax.tree.map(lambda x: x.mean((1, 2)), found)

    for name, found in on_one_device(means, 1)(variables).items():
        theirs = expected[f"{name}_channel_mean"]
        np.testing.assert_allclose(found, theirs, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    "variant",
    ["c10_norm", *(pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS if v != "c10_norm")],
)
def test_outputs_in_float32_are_the_authors(variant, float64):
    expected = golden(f"sm_resnet32_{variant}_grad")
    variables, images, labels = in_float32(start(variant))
    net, label = network(variant), labels[0].astype(np.int32)

    def everything(variables):
        evaluated, _ = forward(net, variables, images[0], train=False)
        trained, stats = forward(net, variables, images[0], train=True)
        after, _ = forward(net, variables._replace(stats=stats), images[0], train=False)
        return evaluated, trained, after, nll(trained, label).mean()

    with jax.enable_x64(False):
        evaluated, trained, after, loss = on_one_device(everything, 1)(variables)
    assert loss.dtype == np.float32
    close_to_largest(evaluated, expected["eval_logits_f32"], 1e-5)
    close_to_largest(trained, expected["train_logits_f32"], 1e-5)
    close_to_largest(after, expected["eval_logits_after1_f32"], 1e-5)
    np.testing.assert_allclose(loss, expected["ce_loss_f32"], rtol=2e-5)


@functools.cache
def compiled(variant):
    """(a step of SGD, logits at test time), as compiled functions of numbers of any precision."""
    net, counts = (
        network(variant),
        golden("sm_class_counts")[f"cifar{VARIANTS[variant][0]}/exp/100"],
    )

    def margins(cosines, label):
        values, _ = ldam(counts, 30.0)(30.0 * cosines, label, jnp.ones(len(label)), None)
        return values

    loss_of = margins if "norm" in variant else nll

    def step(variables, opt_state, lr, image, label):
        def objective(params):
            logits, stats = forward(net, variables._replace(params=params), image, train=True)
            return loss_of(logits, label).mean(), stats

        optimizer = sgd(lambda _: lr, momentum=0.9, nesterov=False, weight_decay=2e-4)
        (loss, stats), grads = jax.value_and_grad(objective, has_aux=True)(variables.params)
        updates, opt_state = optimizer.update(grads, opt_state, variables.params)
        return Variables(optax.apply_updates(variables.params, updates), stats), opt_state, loss

    return on_one_device(step, 5), jax.jit(lambda v, x: forward(net, v, x, train=False)[0])


def three_steps(variant, lr, begin):
    """(variables after each step, losses, logits of the first images in the end)."""
    (variables, images, labels), (step, evaluate) = begin, compiled(variant)
    opt_state = sgd(lambda _: 0.0, 0.9, False, 2e-4).init(variables.params)
    after, losses = [], []
    for image, label in zip(images, labels, strict=True):
        variables, opt_state, loss = step(variables, opt_state, lr, image, label)
        after.append(variables)
        losses.append(loss)
    return after, losses, evaluate(variables, images[0])


def assert_moved_alike(params, expected, prefix, variant, tolerance):
    """Of all tensors that the file has, the relative distance between updates is small."""
    begin, file = start(variant)[0].params, golden("sm_resnet32_init")

    def get(name):
        if f"{prefix}{name}" in expected.files:
            return expected[f"{prefix}{name}"]
        head = f"head/{variant}/{name}"
        where = head if head in file.files else f"backbone/{name}"
        return np.full_like(file[where], np.nan)  # not in the file

    theirs = ours(get, variant, buffers=False).params
    compared = 0
    for found, goal, old in zip(*map(jax.tree.leaves, (params, theirs, begin)), strict=True):
        if not np.isnan(goal).any():
            assert np.linalg.norm(found - goal) < tolerance * np.linalg.norm(goal - old)
            compared += 1
    assert compared == sum(key.startswith(prefix) for key in expected.files)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_step_and_its_statistics_are_the_authors(variant):
    expected = golden(f"sm_resnet32_{variant}_sgd3")
    after, _, _ = three_steps(variant, 0.1, start(variant))
    for number, variables in enumerate(after, 1):
        assert_moved_alike(variables.params, expected, f"step{number}/", variant, 1e-4)
    theirs = ours(
        lambda name: expected[f"stats3/{name}"] if "running" in name else np.ones((1,) * 4), "norm"
    )
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    jax.tree.map(close, after[-1].stats, theirs.stats)
    after, _, _ = three_steps(variant, 0.002, start(variant))
    assert_moved_alike(after[-1].params, expected, "gentle/param/", variant, 5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_gentle_steps_in_float32_are_the_authors(variant, float64):
    """And the first loss at the usual rate, after which float32 is no measure of anything."""
    expected = golden(f"sm_resnet32_{variant}_sgd3")
    variables, images, labels = in_float32(start(variant))
    begin = variables, images, labels.astype(np.int32)
    with jax.enable_x64(False):
        after, losses, logits = three_steps(variant, 0.002, begin)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(losses, expected["gentle/losses_f32"], rtol=1e-4)
    np.testing.assert_allclose(losses[0], expected["losses_f32"][0], rtol=1e-4)
    close_to_largest(logits, expected["gentle/eval_logits_after3_f32"], 2e-3)
    assert_moved_alike(in_float32(after[-1].params), expected, "gentle/param/", variant, 0.1)
