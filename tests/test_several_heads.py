"""Networks of several heads: each is evaluated alone, and what a method measures is averaged."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from rich.console import Console

from ltjax import train
from ltjax.config.choices import choose
from ltjax.learner import Prediction, Variables
from ltjax.models import NETWORKS, cost
from ltjax.recipes import functions_of
from ltjax.report import tables, wording
from ltjax.run.checkpoint import read_state

MEAN = "the mean of its heads' logits"


@pytest.fixture
def joint(tmp_path):
    """(config...) -> the report of three joint networks on the toy tail, in tmp_path."""

    def trained(**config):
        base = dict(method={"name": "joint"}, num_experts=3, batch_size=16)
        return train.run(base | config, workdir=str(tmp_path), splits=toy.splits())

    return trained


@pytest.mark.slow
def test_each_network_of_joint_ones_is_reported(joint, tmp_path):
    report = joint(network={"name": "tiny"}, augment={"name": "none"}, num_epochs=2.0)
    result = report["splits"]["test"]
    assert len(result["experts"]) == 1 and len(result["heads"]) == 3
    variables = jax.tree.map(lambda x: x[0], read_state(tmp_path)["variables"])
    test, dataset = toy.splits().test, toy.info()
    image = (test.image / 255 - dataset.mean) / dataset.std
    logits = []
    for k, found in enumerate(result["heads"]):
        own = jax.tree.map(lambda x, k=k: x[k], variables)
        own = Variables(own["params"], own["stats"])
        (one, _), _ = toy.outputs(NETWORKS["tiny"](4), own, image.astype(np.float32))
        assert found["accuracy"] == pytest.approx((one.argmax(-1) == test.label).mean())
        logits.append(one)
    together = (np.mean(logits, axis=0).argmax(-1) == test.label).mean()
    assert result["average"]["accuracy"] == pytest.approx(together)

    def page():
        out = Console(file=io.StringIO(), width=80)
        out.print(tables.for_console(report))
        return out.file.getvalue()

    assert "each head alone" in page() and "head 3" in page()
    assert "An expert's output is the mean of its heads' logits." in page()
    assert "mean logits" not in page()  # it is the expert's own row
    result["heads_mean"] = [result["heads"][0] | {"accuracy": 0.1234}]
    assert "mean logits   12.34" in page()
    for new in ("heads_mean", "head_names", "combined"):  # a report of before there were these
        del result[new]
    assert "each head alone" in page()


@pytest.mark.parametrize(
    "method, named",
    [
        ({"name": "bbn"}, "Heads: 1 conventional, 2 rebalancing."),
        ({"name": "balpoe"}, "Heads: 1 tau 0, 2 tau 1, 3 tau 2."),
        ({"name": "sade"}, "Heads: 1 long tail, 2 balanced, 3 reversed tail."),
        ({"name": "sade", "aggregate": True}, "Heads: 1 long tail, 2 balanced, 3 reversed tail."),
        ({"name": "ride"}, None),
        ({"name": "ncl"}, None),
    ],
)
def test_heads_are_named_and_what_is_made_of_them_is_said(method, named):
    settings = toy.settings(method=method, network={"name": "tiny"})
    phase = choose(functions_of("method"), "method", **settings.method)(settings, toy.info())[-1]
    one, example = phase.learner.method, toy.info().example
    variables = jax.eval_shape(one.init, jax.random.key(0), example)
    heads, *_ = jax.eval_shape(one.predict, variables, example).heads.shape
    assert len(one.head_names) in (0, heads)
    result = {
        "heads": [],
        "head_names": one.head_names,
        "combined": one.combined,
        "measures": {"x_used": [2.5], "multiply_adds_used": [1500.0, 1000.0]},
    }
    said = list(wording.of_heads(result, 2000))
    assert (said[0] == named) if named else not one.head_names
    assert said[-3] == f"An expert's output is {one.combined or MEAN}."
    assert said[-2] == "Mean over test images, x used: 2.5."
    assert said[-1] == (
        "Mean over test images, multiply-adds used: 1,500 (75.0 % of all), 1,000 (50.0 % of all)."
    )


MULTI_HEADED = [
    {"name": "joint"},
    {"name": "bbn"},
    {"name": "ride", "routing": False},
    {"name": "ride"},
    {"name": "sade"},
    {"name": "sade", "aggregate": True},
    {"name": "balpoe"},
    {"name": "ncl"},
]


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("method", MULTI_HEADED, ids=str)
def test_what_is_said_to_be_the_mean_of_heads_is(method, head):
    loss = {"loss": {"name": "cross_entropy"}} if method["name"] == "ride" else {}  # any head
    settings = toy.settings(method=method, network={"name": "tiny", "head": head}, **loss)
    phase = choose(functions_of("method"), "method", **settings.method)(settings, toy.info())[-1]
    one, batch = phase.learner.method, toy.splits().test._asdict()
    batch = {name: batch[name][:16] for name in ("image", "label")}
    batch["index"] = np.arange(16)

    @jax.jit
    def outputs(key):
        variables = one.init(key, batch)
        params = jax.tree.map(  # what weighs alike at first has learned to differ
            lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), variables.params
        )
        found = one.predict(variables._replace(params=params), batch)
        return found.logits, found.heads

    predicted, heads = outputs(jax.random.key(0))
    far = np.abs(predicted - heads.mean(0)).max() > 1e-3 * np.abs(heads).max()
    assert far == bool(one.combined)


@pytest.mark.slow
def test_products_with_zeros_of_stacked_networks_are_not_counted(joint):
    report = joint(network={"name": "toy"}, compute={"convolution": "blocks"}, num_epochs=0.2)
    network, image = NETWORKS["toy"](4), jnp.zeros((1, 8, 8, 1))
    variables = Variables(*jax.eval_shape(network.init, jax.random.key(0), image))

    def predict(variables, image):
        return toy.outputs(network, variables, image)

    of_one = cost.multiply_adds(predict, variables, image)
    assert report["cost"]["multiply_adds"] == 3 * of_one


@pytest.mark.parametrize("shape", [pytest.param((1, 1), marks=pytest.mark.slow), (2, 4)])
def test_heads_and_measures_of_a_ragged_split(shape):
    """Two heads, one that sees images as they are and one their negatives."""
    (phase,) = toy.recipe(network={"name": "tiny"})
    one = phase.learner.method

    def predict(variables, batch):
        negative = batch | {"image": 255 - batch["image"]}
        logits, other = (one.predict(variables, of).logits for of in (batch, negative))
        brightness = batch["image"].mean((1, 2, 3), dtype=jnp.float32)
        return Prediction(logits, jnp.stack([logits, other]), {"brightness": brightness})

    method = one._replace(predict=predict, combined="the first of them")
    ours = toy.Trainer(phase._replace(learner=phase.learner._replace(method=method)), 4, shape)
    state, test = ours.init(), toy.splits().test.take(np.arange(27))
    found = ours.evaluate(state, test)
    plain = toy.Trainer(phase, 4, shape)
    kept = found["outputs"]
    assert kept["heads"].shape == (4, 27, 2, 4)
    np.testing.assert_array_equal(kept["heads"][:, :, 0], kept["logits"])
    said = ours.predict(state, test.image).heads  # [E, K, N, C]
    np.testing.assert_allclose(kept["heads"], np.moveaxis(said, 1, 2), rtol=1e-5, atol=1e-6)

    def alone(images):
        return [one["nll"] for one in plain.evaluate(state, images)["experts"]]

    for number, images in enumerate((test, test._replace(image=255 - test.image))):
        heads = [one["nll"] for one in found["heads"][number::2]]
        assert len(heads) == 4 and heads == pytest.approx(alone(images), rel=1e-5)

    def mean(variables, batch):
        return Prediction(predict(variables, batch).heads.mean(0))

    of_mean = toy.Trainer(
        phase._replace(learner=phase.learner._replace(method=one._replace(predict=mean))), 4, shape
    )
    together = of_mean.evaluate(state, test)["experts"]
    assert [one["nll"] for one in found["heads_mean"]] == pytest.approx(
        [one["nll"] for one in together]
    )
    brightness = found["measures"]["brightness"]
    assert brightness == pytest.approx([test.image.mean()] * 4, rel=1e-5)
