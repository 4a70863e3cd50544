"""RIDE's loss, distillation, router and schedules against the authors' code, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from conftest import golden
from test_golden_branches import resnet32
from test_golden_resnet32 import on_one_device, worst

from ltjax import optim
from ltjax.build import objective
from ltjax.learner import Variables
from ltjax.losses.classification import ldam_margins, nll
from ltjax.losses.reweighting import effective_number
from ltjax.methods import ride
from ltjax.methods.parts.several_heads import many_headed
from ltjax.methods.ride import routing
from ltjax.models import SeveralHeads
from ltjax.models import ride_router as router
from ltjax.recipes import settings_of

pytestmark = pytest.mark.usefixtures("float64")

KEY = jax.random.key(0)
# the authors' numbers are of float32
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
exactly = functools.partial(np.testing.assert_allclose, rtol=1e-6)
close_gradient = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-6)

# case -> epochs of training, which the authors' loss does not know
CASES = {
    "cifar100": 200,
    "cifar10": 200,
    "imagenet_style": 100,
    "collaborative": 200,
    "plain_ce": 200,
}


def hyper_parameters(file, case, num_epochs):
    """(gamma, diversity, start) of a case; what the file does not say is the authors' default."""

    def of(name, default):
        key = f"{case}/hp/{name}"
        return file[key] if key in file.files else default

    deferred = bool(of("reweight", False))
    start = int(of("reweight_epoch", -1)) / num_epochs
    assert start == 0.8 if deferred else start < 0  # -1: never
    gamma = float(of("reweight_factor", 0.05)) if deferred else 0.0
    return gamma, -float(of("additional_diversity_factor", None)), start if deferred else 0.8


def quick_and_slow(*quick):
    """All cases; those that say the same of other numbers wait for the slow tests."""
    return [pytest.param(case, marks=() if case in quick else pytest.mark.slow) for case in CASES]


def base_for(counts, loss="ldam"):
    """LDAM with deferred re-weighting, or another loss without."""
    preset = {"method": {"name": "ride"}} if loss == "ldam" else {"loss": {"name": loss}}
    return objective(settings_of(preset), counts)


def mean_of(aim):
    """(logits, label, progress) -> (what is minimised, its gradient), on one device."""

    def mean(logits, label, progress):
        values, weights = aim(logits, label, KEY, progress)
        return (values * weights).sum() / weights.sum()

    return on_one_device(jax.value_and_grad(mean), 3)


@pytest.mark.parametrize("case", quick_and_slow("cifar100", "collaborative"))
def test_the_loss_and_its_gradient_are_the_authors(case):
    file = golden("ride_loss")
    num_epochs = CASES[case]
    gamma, diversity, start = hyper_parameters(file, case, num_epochs)
    logits = jnp.asarray(file[f"{case}/expert_logits"], jnp.float64)
    label = jnp.asarray(file[f"{case}/target"])
    is_plain = f"{case}/class_counts" not in file.files
    counts = np.ones(logits.shape[-1], int) if is_plain else file[f"{case}/class_counts"]
    base = base_for(counts, "cross_entropy" if is_plain else "ldam")
    late = ride.temperatures(counts, gamma)
    if not is_plain:
        exactly(late, file[f"{case}/diversity_weight_after"])
        exactly(ldam_margins(counts, 0.5), file[f"{case}/ldam_margin_m"])
        exactly(effective_number(counts), file[f"{case}/class_weight_after"])
    close(logits.mean(0), file[f"{case}/mean_logits"])
    close(nll(logits.mean(0), label).mean(), file[f"{case}/eval_loss"])
    both = (ride.diverse(of, late, diversity, start) for of in (base, no_loss))
    whole, alone = (mean_of(aim) for aim in both)
    for epoch in file[f"{case}/epochs"]:
        progress = jnp.float64((epoch - 1) / num_epochs)
        tau = late if progress >= start else np.ones_like(late)
        at = f"{case}/epoch{epoch}"
        exactly(tau, file[f"{at}/temperature"])
        exactly(tau.mean(), file[f"{at}/temperature_mean"])
        value, gradient = whole(logits, label, progress)
        close(value, file[f"{at}/loss"])
        close_gradient(gradient, file[f"{at}/grad_expert_logits"])
        if diversity:
            value, gradient = alone(logits, label, progress)
            close(value, file[f"{at}/diversity_part"])
            close_gradient(gradient, file[f"{at}/diversity_grad"])


def no_loss(logits, label, key, progress):
    values = 0 * logits[:, 0]
    return values, jnp.ones_like(values)


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.slow), 161])
def test_distillation_is_the_authors(epoch):
    file = golden("ride_loss")
    counts, label = file["distill/class_counts"], jnp.asarray(file["distill/target"])
    student = jnp.asarray(file["distill/expert_logits"], jnp.float64)
    teacher = jnp.asarray(file["distill/teacher_logits"], jnp.float64)
    gamma, diversity, start = hyper_parameters(file, "distill", 200)
    aim = ride.diverse(base_for(counts), ride.temperatures(counts, gamma), diversity, start)
    temperature = float(file["distill/hp/distill_temperature"])
    method = ride.distilled(given("student"), given("teacher"), aim, 1.0, temperature)

    def mean(student):
        taught = Variables({"teacher": teacher[None]}, {})
        variables = Variables({"student": student}, {}, {"teacher": taught})
        batch = {"image": jnp.zeros((8, 1)), "label": label}
        step = method.loss(variables, batch, KEY, jnp.float64((epoch - 1) / 200))
        return (step.values * step.weights).sum() / step.weights.sum()

    value, gradient = on_one_device(jax.value_and_grad(mean), 1)(student)
    close(value, file[f"distill/epoch{epoch}/loss"])
    close_gradient(gradient, file[f"distill/epoch{epoch}/grad_expert_logits"])


def given(name):
    """A network whose params are its logits."""

    def features(variables, image, train, frozen=()):
        return image, variables.stats

    return SeveralHeads(None, features, lambda variables, features: variables.params[name])


def test_one_head_without_diversity_is_ldam_drw():
    file = golden("ride_loss")
    logits = jnp.asarray(file["ldam_drw/logits"], jnp.float64)
    label, counts = jnp.asarray(file["ldam_drw/target"]), file["ldam_drw/class_counts"]
    aim = ride.diverse(base_for(counts), ride.temperatures(counts, 0.05), 0.0, 0.8)
    for epoch in (160, 161):
        value, gradient = mean_of(aim)(logits[None], label, jnp.float64((epoch - 1) / 200))
        close(value, file[f"ldam_drw/epoch{epoch}/loss"])
        close_gradient(gradient[0], file[f"ldam_drw/epoch{epoch}/grad"])


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 161])
def test_gradients_of_the_network_are_the_authors(epoch):
    network, variables, image, label, file = resnet32()
    counts = file["class_counts"]
    aim = ride.diverse(base_for(counts), ride.temperatures(counts, 0.05), 0.45, 0.8)
    method = many_headed(network, aim)

    def mean(params):
        batch = {"image": image, "label": label}
        progress = jnp.float64((epoch - 1) / 200)
        step = method.loss(variables._replace(params=params), batch, KEY, progress)
        return (step.values * step.weights).sum() / step.weights.sum()

    value, found = on_one_device(jax.value_and_grad(mean), 1)(variables.params)
    close(value, file[f"train/epoch{epoch}/loss"])
    at = f"train/epoch{epoch}/grad/backbone"
    kernels = {
        "conv1": found["backbone"]["stem"]["kernel"],
        "layer2s.1.0.conv1": found["branches"]["stage2_block0"]["conv1"]["kernel"][1],
        "linears.0": found["head"]["kernel"][0],
        "linears.2": found["head"]["kernel"][2],
    }
    for name, kernel in kernels.items():
        expected = file[f"{at}.{name}.weight"]
        kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel
        assert worst(kernel, expected) < 1e-4, name  # float32's own rounding


def gates_of(file):
    """The router's params from the authors' tensors."""
    start = "ea_params/backbone.expert_help_pred"

    def linear(name):
        weight, bias = (jnp.asarray(file[f"{start}_{name}.{x}"]) for x in ("weight", "bias"))
        return {"kernel": weight.T.astype(jnp.float64), "bias": bias.astype(jnp.float64)}

    hidden = {f"hidden{i + 1}": linear(f"hidden_fcs.{i}") for i in range(2)}
    return hidden | {"decide": linear("fc")}


@pytest.mark.slow
def test_the_router_is_the_authors():
    network, variables, *_ = resnet32()
    file = golden("ride_ea")
    top_k, label = int(file["hp/top_choices_num"]), jnp.asarray(file["target"])
    image = jnp.asarray(file["x"].transpose(0, 2, 3, 1), jnp.float64)
    variables = variables._replace(params=variables.params | {"router": gates_of(file)})
    counts = np.array([1e6, 2e6, 3e6])
    method = routing.routed(network, 3, top_k, counts, float(file["hp/pos_weight"]))
    batch = {"image": image, "label": label}

    def everything(variables):
        def mean(gates):
            params = variables.params | {"router": gates}
            step = method.loss(variables._replace(params=params), batch, KEY, 0.0)
            return step.values.mean(), step.stats

        (logits, features), _ = toy.outputs(network, variables, image)
        gates = router.gates(variables.params["router"], features[:-1], logits[:-1], top_k)
        trained = jax.value_and_grad(mean, has_aux=True)(variables.params["router"])
        return (
            trained,
            (logits, gates, routing.needed(logits, label)),
            method.predict(variables, batch),
        )

    trained, (logits, gates, targets), (routed, _, measured) = on_one_device(everything, 1)(
        variables
    )
    (value, stats), gradient = trained
    close(value, file["train/loss"][0])
    expected = gates_of({k.replace("train/grad/", "ea_params/"): file[k] for k in file.files
                         if k.startswith("train/grad/")})  # fmt: skip
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
                 dict(gradient), expected)  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, stats, variables.stats)
    np.testing.assert_allclose(logits.mean(0), file["train/output_mean_logits"], atol=2e-5)
    np.testing.assert_allclose(gates.T, file["train/gate_logits_all_samples"], atol=2e-5)
    right = np.cumsum(logits, 0).argmax(-1) == label
    np.testing.assert_array_equal(right.T, file["train/correct_partial_sums"])
    np.testing.assert_array_equal(targets.T, file["train/gate_targets"])
    used = file["eval/num_experts_used"][:, 0]
    assert set(used) == {1, 2, 3}
    np.testing.assert_array_equal(measured["heads_used"], used)
    np.testing.assert_array_equal(measured["multiply_adds_used"], 1e6 * used)
    np.testing.assert_allclose(routed, file["eval/output_logits"], atol=2e-5)


@pytest.mark.parametrize(
    "name",
    ["ride_cifar", "ride_cifar_distill", "ride_imagenet_lt", "sade_cifar"],
)
def test_rates_are_the_authors(name):
    file = golden("ride_schedule")
    lr, first, second, factor, warmup, epochs = file[f"cfg/{name}"].tolist()
    schedule = optim.step(
        epochs,
        1,
        lr=lr,
        warmup_epochs=int(warmup),
        drop_at=(first / epochs, second / epochs),
        drop_by=factor,
    )
    found = np.array([schedule(epoch) for epoch in range(int(epochs))])
    np.testing.assert_allclose(found, file[f"lr/{name}"], rtol=1e-9)
