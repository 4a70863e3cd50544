"""ResNet-32 against LDAM-DRW's own code, in float64, with the golden notes' tolerances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from conftest import golden

from ltjax import mesh
from ltjax.learner import Variables
from ltjax.losses.classification import ldam, nll
from ltjax.models import classifier_network
from ltjax.models.heads import Cosine, Linear
from ltjax.models.resnet_cifar import CifarResNet
from ltjax.optim import sgd

VARIANTS = {"c10_fc": (10, Linear), "c10_norm": (10, Cosine), "c100_fc": (100, Linear)}
VARIANTS["c100_norm"] = (100, Cosine)

pytestmark = pytest.mark.usefixtures("float64")


def network(variant):
    classes, head = VARIANTS[variant]
    # the authors' cosine head gives the bare cosines
    return classifier_network(
        CifarResNet(5), head(classes, **({"scale": 1.0} if head is Cosine else {}))
    )


def layers():
    """(the authors' convolution, their batch norm, our layer)."""
    yield "conv1", "bn1", ("stem",)
    for stage in (1, 2, 3):
        for block in range(5):
            for k in (1, 2):
                theirs = f"layer{stage}.{block}"
                yield (
                    f"{theirs}.conv{k}",
                    f"{theirs}.bn{k}",
                    (f"stage{stage}_block{block}", f"conv{k}"),
                )


def filled(layers, get, buffers=True):
    """The authors' tensors, by get(name), as params and stats of layers as those above."""
    params, stats = {}, {}
    for conv, norm, path in layers:
        *above, last = path
        node = functools.reduce(lambda tree, key: tree.setdefault(key, {}), above, params)
        node[last] = {
            "kernel": get(f"{conv}.weight").transpose(2, 3, 1, 0),
            "scale": get(f"{norm}.weight"),
            "bias": get(f"{norm}.bias"),
        }
        if buffers:
            node = functools.reduce(lambda tree, key: tree.setdefault(key, {}), above, stats)
            node[last] = {"mean": get(f"{norm}.running_mean"), "var": get(f"{norm}.running_var")}
    return params, stats


def ours(get, variant, buffers=True):
    """The authors' ResNet-32 by our names."""
    params, stats = filled(layers(), get, buffers)
    weight = get("linear.weight")
    head = {"kernel": weight if "norm" in variant else weight.T}
    if "fc" in variant:
        head["bias"] = get("linear.bias")
    tree = Variables({"backbone": params, "head": head}, {"backbone": stats})
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


def start(variant):
    file = golden("sm_resnet32_init")

    def get(name):
        head = f"head/{variant}/{name}"
        return file[head if head in file.files else f"backbone/{name}"]

    images = jnp.asarray(file["x"].transpose(0, 1, 3, 4, 2), jnp.float64)
    return ours(get, variant), images, file[f"targets{VARIANTS[variant][0]}"]


def on_one_device(f, num_args):
    one = mesh.mesh_for(1, jax.devices()[:1])
    return jax.jit(
        mesh.over_mesh(f, one, (mesh.WHOLE,) * num_args, mesh.WHOLE),
        compiler_options={"xla_backend_optimization_level": 1},  # float64 once: compiling is all
    )


def worst(tree, other, of=lambda x, y: np.linalg.norm(x - y) / np.linalg.norm(y)):
    """The largest relative distance between two trees' leaves."""
    return max(
        jax.tree.leaves(jax.tree.map(lambda x, y: of(np.asarray(x), np.asarray(y)), tree, other))
    )


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_statistics_and_gradients_are_the_authors(variant):
    expected = golden(f"sm_resnet32_{variant}_grad")
    variables, images, labels = start(variant)
    net = network(variant)

    def objective(params, stats):
        outputs, stats = toy.outputs(net, Variables(params, stats), images[0], train=True)
        return nll(outputs[0], labels[0]).mean(), (outputs, stats)

    def everything(variables):
        evaluated, _ = toy.outputs(net, variables, images[0])
        (loss, (trained, stats)), grads = jax.value_and_grad(objective, has_aux=True)(
            *variables[:2]
        )
        (after, _), _ = toy.outputs(net, Variables(variables.params, stats), images[0])
        return evaluated, trained, loss, stats, grads, after

    (logits, features), (train_logits, train_features), loss, stats, grads, after = on_one_device(
        everything, 1
    )(variables)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    close(logits, expected["eval_logits_f64"])
    close(train_logits, expected["train_logits_f64"])
    close(after, expected["eval_logits_after1_f64"])
    close(loss, expected["ce_loss_f64"])
    close(features, expected["eval_feature"])
    close(train_features, expected["train_feature"])
    theirs = ours(
        lambda name: expected[f"stats1/{name}"] if "running" in name else np.ones((1,) * 4), "norm"
    )
    assert worst(stats, theirs.stats) < 1e-9
    assert (
        worst(grads, ours(lambda name: expected[f"grad/{name}"], variant, buffers=False).params)
        < 1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_three_sgd_steps_are_the_authors(variant):
    expected = golden(f"sm_resnet32_{variant}_sgd3")
    variables, images, labels = start(variant)
    net = network(variant)
    counts = golden("sm_class_counts")[f"cifar{VARIANTS[variant][0]}/exp/100"]

    def margins(cosines, label):
        values, _ = ldam(counts, 30.0)(30.0 * cosines, label, jnp.ones(len(label)), None)
        return values

    loss_of = margins if "norm" in variant else nll
    begin = variables.params

    def step(variables, opt_state, lr, image, label):
        def objective(params):
            (logits, _), stats = toy.outputs(
                net, Variables(params, variables.stats), image, train=True
            )
            return loss_of(logits, label).mean(), stats

        optimizer = sgd(lambda _: lr, momentum=0.9, nesterov=False, weight_decay=2e-4)
        (loss, stats), grads = jax.value_and_grad(objective, has_aux=True)(variables.params)
        updates, opt_state = optimizer.update(grads, opt_state, variables.params)
        return Variables(optax.apply_updates(variables.params, updates), stats), opt_state, loss

    step, evaluate = (
        on_one_device(step, 5),
        jax.jit(lambda v, x: toy.outputs(net, v, x)[0][0]),
    )
    for prefix, lr in (("", 0.1), ("gentle/", 0.002)):
        variables, losses = start(variant)[0], []
        opt_state = sgd(lambda _: 0.0, 0.9, False, 2e-4).init(begin)
        for image, label in zip(images, labels, strict=True):
            variables, opt_state, loss = step(variables, opt_state, lr, image, label)
            losses.append(loss)
        np.testing.assert_allclose(losses, expected[f"{prefix}losses_f64"], rtol=1e-9)
        logits = evaluate(variables, images[0])
        np.testing.assert_allclose(
            logits, expected[f"{prefix}eval_logits_after3_f64"], rtol=1e-9, atol=1e-9
        )
        if not prefix:
            theirs = ours(lambda name: expected[f"param/{name}"], variant, buffers=False).params
            moved = jax.tree.map(jnp.subtract, variables.params, begin)
            assert worst(moved, jax.tree.map(jnp.subtract, theirs, begin)) < 1e-4
