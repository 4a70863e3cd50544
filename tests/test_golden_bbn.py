"""BBN is the authors': its network, both passes, the mixed loss, schedules and reversed sampling.

We compute in float64; their outputs are of float32, which sets the tolerances.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden
from test_golden_resnet32 import filled, layers, on_one_device

from ltjax import optim
from ltjax.data import sampling
from ltjax.data.splits import long_tailed_counts
from ltjax.learner import Variables
from ltjax.losses import classification as losses
from ltjax.methods import bbn
from ltjax.models import classifier_network
from ltjax.models.bbn import Bilateral, bilateral
from ltjax.models.heads import Linear
from ltjax.models.parts import pooled
from ltjax.models.resnet_cifar import CifarResNet

pytestmark = pytest.mark.usefixtures("float64")

close = functools.partial(np.testing.assert_allclose, rtol=0)
BRANCHES = {"conventional": "cb_block", "rebalancing": "rb_block"}
EPOCHS = 200


def cross_entropy(logits, label, key, progress):
    del key, progress
    return losses.nll(logits, label), jnp.ones(len(label))


def trained(network):
    """The method on a network, with an epoch of one step."""
    return bbn.bbn(network, cross_entropy, bbn.by_epochs(bbn.alphas(EPOCHS), EPOCHS, 1))


def ours(get, buffers=True):
    """The authors' two-branch ResNet-32 by our names."""
    *trunk, conv1, conv2 = layers()
    params, stats = {}, {}
    params["backbone"], stats["backbone"] = filled(trunk, lambda x: get(f"backbone.{x}"), buffers)
    for ours, theirs in BRANCHES.items():
        get_own = lambda x, own=theirs: get(f"backbone.{x.replace('layer3.4', own)}")  # noqa: E731
        params[ours], stats[ours] = filled((conv1, conv2), get_own, buffers)
    params["head"] = {"kernel": get("classifier.weight").T, "bias": get("classifier.bias")}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), Variables(params, stats))


def images(file, which):
    return jnp.asarray(file[f"image_{which}"].transpose(0, 2, 3, 1), jnp.float64)


def network():
    return bilateral(classifier_network(CifarResNet(5), Linear(10)), bbn.BRANCHES)


def test_features_and_predictions_are_the_authors():
    file, net = golden("bbn_resnet32"), network()
    variables = ours(lambda name: file[f"state_dict/{name}"])
    batch = {"image": images(file, "a")}

    def evaluate(variables):
        maps, _ = net.maps(variables, batch["image"], bbn.BRANCHES, train=False)
        return [pooled(own) for own in maps], trained(net).predict(variables, batch).logits

    (conventional, rebalancing), logits = on_one_device(evaluate, 1)(variables)
    close(conventional, file["eval/feature_cb_a"], atol=1e-5)
    close(rebalancing, file["eval/feature_rb_a"], atol=1e-5)
    both = np.concatenate([conventional, rebalancing], -1)
    close(both, file["eval/feature_cat_a"], atol=1e-5)
    close(logits, file["eval/logits_a"], atol=1e-5)
    close(jax.nn.softmax(logits), file["eval/prob_a"], atol=1e-6)


@pytest.mark.slow
def test_both_passes_their_gradients_and_statistics_are_the_authors():
    file, net = golden("bbn_resnet32"), network()
    variables = ours(lambda name: file[f"state_dict/{name}"])
    batch = {"image": images(file, "a"), "label": jnp.asarray(file["label_a"])}
    batch["reversed"] = {"image": images(file, "b"), "label": jnp.asarray(file["label_b"])}

    def step(variables, progress):
        def loss(params, add_to_features, add_to_logits):
            seen = []

            def head(variables, features):
                out = net.head(variables, features + add_to_features) + add_to_logits
                seen.extend((features, out))
                return out

            method = trained(net._replace(head=head))
            out = method.loss(variables._replace(params=params), batch, jax.random.key(0), progress)
            return out.values.mean(), (out, seen)

        zeros = jnp.zeros((4, 128)), jnp.zeros((4, 10))
        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(variables.params, *zeros)

    step = on_one_device(step, 2)
    for epoch in file["epochs"]:
        expected = {
            key.removeprefix(f"train/epoch{epoch}/"): file[key]
            for key in file.files
            if key.startswith(f"train/epoch{epoch}/")
        }
        (loss, (out, (features, logits))), grads = step(variables, (epoch - 1) / EPOCHS)
        of_params, of_features, of_logits = grads
        close(out.metrics["alpha"], expected["alpha"], atol=1e-12)
        close(out.metrics["accuracy"].mean(), expected["acc"], atol=1e-12)
        close(loss, expected["loss"], atol=1e-6)
        close(features, expected["mixed_feature"], atol=1e-5)
        close(logits, expected["logits"], atol=1e-5)
        close(of_logits, expected["grad_logits"], atol=1e-7)
        close(of_features, expected["grad_mixed_feature"], atol=1e-7)
        for ours_of, theirs in [
            (lambda params: params["head"]["kernel"].T, "classifier.weight"),
            (lambda params: params["head"]["bias"], "classifier.bias"),
            (lambda params: _oihw(params["backbone"]["stem"]), "backbone.conv1.weight"),
            (
                lambda params: _oihw(params["conventional"]["stage3_block4"]["conv2"]),
                "backbone.cb_block.conv2.weight",
            ),
            (
                lambda params: params["rebalancing"]["stage3_block4"]["conv1"]["scale"],
                "backbone.rb_block.bn1.weight",
            ),
        ]:
            expected_grad = expected[f"grad/{theirs}"]
            atol = 1e-5 * np.abs(expected_grad).max()
            close(ours_of(of_params), expected_grad, atol=atol, err_msg=f"{epoch} {theirs}")
        if epoch == file["epochs"][1]:
            after = {"backbone": out.stats["backbone"]["stem"]}
            after |= {
                f"backbone.{theirs}": out.stats[group]["stage3_block4"]["conv1"]
                for group, theirs in BRANCHES.items()
            }
            for where, moved in after.items():
                for ours_is, theirs in (("mean", "running_mean"), ("var", "running_var")):
                    name = f"after_forward/{where}.bn1.{theirs}"
                    close(moved[ours_is], expected[name], atol=1e-6, err_msg=name)


def test_the_mixed_loss_and_its_gradient_are_the_authors():
    file = golden("bbn_mixed_loss")
    stub = Bilateral(
        init=None,
        maps=lambda variables, image, names, train: ([image], {}),
        head=lambda variables, features: variables.params["logits"],
    )
    nothing = jnp.zeros((16, 1, 1, 0))
    batch = {"image": nothing, "label": jnp.asarray(file["label_a"])}
    batch["reversed"] = {"image": nothing, "label": jnp.asarray(file["label_b"])}

    def loss(logits, progress):
        variables = Variables({"logits": logits}, {})
        out = trained(stub).loss(variables, batch, jax.random.key(0), progress)
        return out.values.mean(), out.metrics

    for epoch in file["epochs"]:
        logits = jnp.asarray(file["logits"], jnp.float64)
        of_epoch = functools.partial(loss, progress=(epoch - 1) / EPOCHS)
        (value, metrics), gradient = jax.value_and_grad(of_epoch, has_aux=True)(logits)
        close(metrics["alpha"], file[f"epoch{epoch}/alpha"], atol=1e-12)
        close(metrics["accuracy"].mean(), file[f"epoch{epoch}/acc"], atol=1e-12)
        close(value, file[f"epoch{epoch}/loss"], atol=1e-6)
        close(gradient, file[f"epoch{epoch}/grad_logits"], atol=1e-8)


@pytest.mark.parametrize("epochs", [90, 100, 180, 200, 400])
def test_alpha_falls_as_the_authors(epochs):
    file = golden("bbn_schedule")
    alphas = bbn.alphas(float(epochs))
    close(alphas, file[f"alpha/Tmax{epochs}"], atol=1e-12)
    until = 1 / np.sqrt(1 - alphas[1])  # of epoch 2
    close(until, file[f"div_epoch/Tmax{epochs}"], atol=1e-6)


def test_rates_are_the_authors():
    file = golden("bbn_schedule")
    lr, drop_by, warmup, *drops, epochs = file["lr_cfg/cifar"]
    # counted from 1, the rate drops at the beginning of epochs 120 and 160
    schedule = optim.step(
        epochs,
        7,
        lr=lr,
        warmup_epochs=int(warmup),
        warmup_from=1 / 3,
        drop_at=tuple((drop - 1) / epochs for drop in drops),
        drop_by=drop_by,
    )
    rates = jax.vmap(schedule)(7 * jnp.arange(int(epochs)))
    np.testing.assert_allclose(rates, file["lr/cifar"], rtol=1e-9)


@pytest.mark.parametrize("classes, largest", [(10, 5000), (100, 500)])
@pytest.mark.parametrize("ratio", [0.1, 0.02, 0.01])
def test_reversed_sampling_is_the_authors(classes, largest, ratio, monkeypatch):
    file = golden("bbn_sampler")
    get = lambda name: file[f"cifar{classes}_ratio{ratio}/{name}"]  # noqa: E731
    counts = long_tailed_counts(classes, largest, 1 / ratio)
    np.testing.assert_array_equal(counts, get("class_counts"))
    probabilities = sampling.class_probabilities(counts, q=-1)
    np.testing.assert_allclose(probabilities, get("prob_reverse"), rtol=1e-12)
    np.testing.assert_allclose(probabilities, get("class_weight") / get("sum_weight"), rtol=1e-12)
    u = get("u")
    monkeypatch.setattr(sampling, "uniform", lambda key, num: np.append(u, np.zeros(num - len(u))))
    label = np.repeat(np.arange(classes), counts)
    drawn = sampling.reversed_(label, len(u), 1)((0, 0, 0), 0)
    np.testing.assert_array_equal(label[drawn], get("class_index"))


def _oihw(layer):
    return layer["kernel"].transpose(3, 2, 0, 1)
