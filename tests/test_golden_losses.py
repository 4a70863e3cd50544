"""Losses, class weights and samplers' probabilities are the original authors', in float64."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden

from ltjax.data.sampling import class_probabilities, progressive_probabilities
from ltjax.losses import classification as losses
from ltjax.losses.classification import LOSSES
from ltjax.losses.reweighting import cost_sensitive, effective_number

CASES = "ABDE"


# name of an output -> (our row, its options, how classes are weighed); groups are its numbers
ROWS = [
    (r"ce$", "cross_entropy", (), None),
    (r"ce_cbw(.+)", "cross_entropy", (), "beta"),
    (r"cbce_bot_b(.+)", "cross_entropy", (), "beta"),
    (r"csce_g(.+)", "cross_entropy", (), "gamma"),
    (r"cb_tf_softmax_b(.+)", "cross_entropy", ("divide_by",), "beta"),
    (r"cb_tf_sigmoid_b(.+)", "sigmoid", (), "beta"),
    (r"(?:cb_tf_focal|cb_focal|cbfocal_bot)_b(.+)_g(.+)", "focal", ("gamma",), "beta"),
    (r"focal_sigmoid_bot_g(.+)", "focal", ("gamma",), None),
    (r"focal_ldamrepo_g(.+)_cbw(.+)", "focal_softmax", ("gamma",), "last beta"),
    (r"focal_ldamrepo_g(.+)", "focal_softmax", ("gamma",), None),
    (r"ldam_m(.+)_s(.+)_cbw(.+)", "ldam", ("max_margin", "scale"), "last beta"),
    (r"ldam_m(.+)_s(.+)", "ldam", ("max_margin", "scale"), None),
    (r"cdt_g(.+)", "class_dependent_temperature", ("gamma",), None),
    (r"balanced_softmax(?:_official)?$", "balanced_softmax", (), None),
    (r"logit_adjust_tau(.+)", "logit_adjustment", ("tau",), None),
    (r"label_smooth_e(.+)", "label_smoothing", ("epsilon",), None),
    (r"las_h(.+)_t(.+)_(.+)", "label_aware_smoothing", ("head", "tail", "shape"), None),
]
NUMBER = re.compile(r"[0-9.]+$")


def ours(name, counts):
    """(our loss, class weights) for an output of the golden file."""
    if name.startswith("ldam_bot_drw_epoch"):  # its weights set in at epoch 160, counted from 1
        late = int(name.removeprefix("ldam_bot_drw_epoch")) >= 160
        name = "ldam_m0.5_s30.0_cbw0.9999" if late else "ldam_m0.5_s30.0"
    pattern, row, options, weighted = next(r for r in ROWS if re.match(r[0], name))
    values = [float(v) if NUMBER.match(v) else v for v in re.match(pattern, name).groups()]
    weights = np.ones(len(counts))
    if weighted == "gamma":
        weights = cost_sensitive(counts, gamma=values.pop())
    elif weighted:
        weights = effective_number(counts, beta=values.pop(-1 if "last" in weighted else 0))
    values = ["examples"] if options == ("divide_by",) else values
    chosen = dict(zip(options, values, strict=True))
    scale = chosen.pop("scale", None)
    if not scale:
        return LOSSES[row](counts, **chosen), weights
    ldam = LOSSES[row](counts, scale, **chosen)  # the golden inputs are bare cosines
    return lambda logits, *more: ldam(scale * logits, *more), weights


def outputs():
    file = golden("sm_losses")
    for key in file.files:
        if key.startswith("out/") and key.endswith("/loss"):
            _, name, case, _ = key.split("/")
            yield file, name, case


def minimized(loss, counts, weights, label):
    """What the learner minimises, as a function of logits."""

    def mean(logits):
        keys = jax.random.split(jax.random.key(0), len(label))
        values, by = loss(logits, label, jnp.asarray(weights)[label], keys)
        return (values * by).sum() / by.sum()

    return mean


# In float32 at the source, so their golden values are good to 1e-6.
SINGLE = ("cb_tf_softmax", "las_")
WRONG = "vandit_softmax"  # softmax probabilities in a binary cross-entropy; nobody should use it


@pytest.mark.parametrize("of", ["B", *(pytest.param(c, marks=pytest.mark.slow) for c in "ADE")])
def test_losses_and_their_gradients_are_the_authors(of, float64):
    checked = set()
    for file, name, case in outputs():
        if case != of or name.startswith((WRONG, "seql")):
            continue
        logits, label, counts = (file[f"in/{case}/{x}"] for x in ("logits", "targets", "counts"))
        loss, weights = ours(name, counts)
        value, gradient = jax.value_and_grad(minimized(loss, counts, weights, label))(
            jnp.asarray(logits)
        )
        single = name.startswith(SINGLE)
        expected = file[f"out/{name}/{case}/grad"]
        np.testing.assert_allclose(
            value, file[f"out/{name}/{case}/loss"], rtol=1e-6 if single else 1e-9, err_msg=name
        )
        atol = 1e-6 * np.abs(expected).max() if single else 1e-10
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=atol, err_msg=name)
        checked.add(name)
    assert len(checked) >= 60


@pytest.mark.parametrize(
    "name, theirs",
    [
        ("label_smoothing", "label_smooth_e0.1"),
        ("label_aware_smoothing", "las_h0.4_t0.1_concave"),
        ("focal", "focal_sigmoid_bot_g2.0"),
        ("focal_softmax", "focal_ldamrepo_g1.0"),
        ("logit_adjustment", "balanced_softmax"),  # tau = 1
        ("class_dependent_temperature", "cdt_g0.2"),
    ],
)
def test_without_options_a_loss_has_the_numbers_of_its_source(name, theirs, float64):
    file = golden("sm_losses")
    logits, label, counts = (file[f"in/B/{x}"] for x in ("logits", "targets", "counts"))
    mean = minimized(LOSSES[name](counts), counts, np.ones(len(counts)), label)
    np.testing.assert_allclose(mean(logits), file[f"out/{theirs}/B/loss"], rtol=1e-6)


def test_equalization_is_the_authors_given_their_draws(float64):
    seen = 0
    for file, name, case in outputs():
        if not name.startswith("seql"):
            continue
        logits, label, counts = (file[f"in/{case}/{x}"] for x in ("logits", "targets", "counts"))
        is_tail = losses.tail(counts, float(file[f"in/{case}/seql_lambda"]))
        np.testing.assert_array_equal(is_tail, file[f"in/{case}/seql_tail_mask"])
        left_out = jnp.asarray(file[f"in/{case}/seql_beta_mask"] & is_tail)

        def mean(logits, label=label, left_out=left_out):
            return losses.nll(losses.equalized(logits, label, left_out), label).mean()

        value, gradient = jax.value_and_grad(mean)(jnp.asarray(logits))
        np.testing.assert_allclose(value, file[f"out/{name}/{case}/loss"], rtol=1e-9)
        np.testing.assert_allclose(gradient, file[f"out/{name}/{case}/grad"], rtol=0, atol=1e-10)
        seen += 1
    assert seen >= 2


def test_equalization_leaves_out_tail_classes_of_others_as_often_as_it_says():
    counts = np.array([900, 80, 20])
    loss = LOSSES["equalization"](counts, below=0.1, gamma=0.7)
    label = np.repeat([0, 1, 2], 4000)
    keys = jax.random.split(jax.random.key(1), len(label))
    values, _ = loss(jnp.zeros((len(label), 3)), label, jnp.ones(len(label)), keys)
    left = 3 - np.round(np.exp(values))  # classes left out of a softmax of equal logits
    expected = np.array([2 * 0.7, 0.7, 0.7])  # tail classes other than the own one
    # five standard deviations of a mean of 4,000 draws are below 0.052
    np.testing.assert_allclose(left.reshape(3, 4000).mean(1), expected, atol=0.052)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_what_is_surely_right_has_no_focal_loss_and_a_finite_gradient(gamma):
    logits, label = jnp.array([[40.0, 0.0, 0.0]]), np.array([0])
    for name in ("focal", "focal_softmax"):
        loss = minimized(LOSSES[name](np.ones(3), gamma=gamma), None, np.ones(3), label)
        value, gradient = jax.value_and_grad(loss)(logits)
        assert np.isfinite(gradient).all()
        if name == "focal_softmax":
            assert value == 0


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.5])
def test_posthoc_adjustment_is_the_authors(tau, float64):
    file = golden("sm_losses")
    for case in CASES:
        key = f"out/logit_adjust_posthoc_tau{tau}/{case}/adjusted_logits"
        shift = losses.log_prior(file[f"in/{case}/counts"], tau)
        np.testing.assert_allclose(file[f"in/{case}/logits"] - shift, file[key], rtol=1e-9)


def test_class_weights_margins_and_temperatures_are_the_authors():
    file, counts_of = golden("sm_class_weights"), golden("sm_losses")
    functions = {
        "drw_weights_beta": lambda counts, x: effective_number(counts, beta=x),
        "cb_weights_beta": lambda counts, x: effective_number(counts, beta=x),
        "ldam_margins_m": lambda counts, x: losses.ldam_margins(counts, x),
        "csce_weights_g": lambda counts, x: cost_sensitive(counts, gamma=x),
        "cdt_temperature_g": lambda counts, x: losses.cdt_temperature(counts, x),
    }
    for key in file.files:
        case, name = key.split("/")
        counts = counts_of[f"in/{case}/counts"]
        if name.startswith("las_smoothing"):
            _, _, head, tail, shape = name.split("_")
            found = losses.smoothing(counts, float(head[1:]), float(tail[1:]), shape)
            np.testing.assert_allclose(found, file[key], rtol=1e-6, err_msg=key)
            continue
        ((_, function),) = [(k, f) for k, f in functions.items() if name.startswith(k)]
        value = float(re.search(r"([0-9.]+)$", name).group(1))
        np.testing.assert_allclose(function(counts, value), file[key], rtol=1e-9, err_msg=key)


def test_deferred_weights_are_the_authors_before_and_after():
    file, counts = golden("sm_schedules"), golden("sm_class_counts")
    for split in ("cifar10", "cifar100"):
        for epoch in (0, 159, 160, 199):  # counted from 0
            beta = 0.9999 if epoch >= 160 else 0.0
            found = effective_number(counts[f"{split}/exp/100"], beta=beta)
            expected = file[f"ldam_drw_weights/{split}_ir100/epoch{epoch}"]
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_class_probabilities_are_the_authors():
    file = golden("sm_samplers")
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9)
    for name in ("cifar10", "cifar100"):
        counts = file[f"bot/{name}/counts"]
        for q, key in (
            (1, "instance_p"),
            (0, "class_balanced_p"),
            (0.5, "square_root_p"),
            (-1, "reverse_p"),
        ):
            close(class_probabilities(counts, q), file[f"bot/{name}/{key}"])
        for epoch in (1, 50, 100, 199, 200):
            expected = file[f"bot/{name}/progressive_p_epoch{epoch}_of_200"]
            close(progressive_probabilities(counts, epoch / 200), expected)
    counts = file["cb/counts"]
    for q, key in ((0, "class_balanced"), (1 / 2, "root2"), (1 / 3, "root3")):
        close(class_probabilities(counts, q), file[f"cb/{key}/class_prob"])
    of_epochs = file["cb/progressive_epochs90/after_reset_weights_epoch1to90"]
    close(progressive_probabilities(counts, 0.0), file["cb/progressive_epochs90/before_epoch1"])
    for epoch in range(2, 91):  # the row of epoch e is used in epoch e + 1
        close(progressive_probabilities(counts, (epoch - 1) / 89), of_epochs[epoch - 2])


@pytest.mark.parametrize("case", CASES)
def test_the_prior_is_the_authors(case):
    file = golden("sm_losses")
    found = class_probabilities(file[f"in/{case}/counts"], 1)
    np.testing.assert_allclose(found, file[f"in/{case}/base_probs"], rtol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_equalization_draws_as_the_authors(case, float64, monkeypatch):
    """A Bernoulli draw is made of a uniform one; theirs stand in the place of our keys."""
    file = golden("sm_losses")
    monkeypatch.setattr(jax.random, "bernoulli", lambda u, p, shape: u < p)
    logits, label, counts, u = (
        jnp.asarray(file[f"in/{case}/{name}"]) for name in ("logits", "targets", "counts", "U")
    )
    below, gamma = (float(file[f"in/{case}/seql_{name}"]) for name in ("lambda", "gamma"))
    loss = LOSSES["equalization"](np.asarray(counts), below=below, gamma=gamma)
    values, _ = loss(logits, label, jnp.ones(len(label)), u)
    np.testing.assert_allclose(values.mean(), file[f"out/seql_bot/{case}/loss"], rtol=1e-9)
