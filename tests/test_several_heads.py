"""Networks of several heads: each is evaluated alone, and what a method measures is averaged."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from rich.console import Console

from ltjax import mesh, train
from ltjax.config.choices import choose
from ltjax.data import datasets
from ltjax.evaluation.evaluate import evaluator, heads_as_experts, measurer
from ltjax.experts import independent, seeded_keys
from ltjax.learner import Variables
from ltjax.methods import METHODS
from ltjax.models import NETWORKS, cost
from ltjax.report import tables
from ltjax.run.checkpoint import read_state

MEAN = "the mean of its heads' logits"


@pytest.fixture
def joint(tmp_path, monkeypatch):
    """(config...) -> the report of three joint networks on the toy tail, in tmp_path."""
    monkeypatch.setattr(datasets, "prepare", lambda data, tell: None)
    monkeypatch.setattr(datasets, "load", lambda data: toy.splits())

    def trained(**config):
        base = dict(method={"name": "joint"}, num_experts=3, batch_size=16)
        return train.run(base | config, workdir=str(tmp_path))

    return trained


def test_each_network_of_joint_ones_is_reported(joint, tmp_path):
    report = joint(network={"name": "tiny"}, augment={"name": "none"}, num_epochs=2.0)
    result = report["splits"]["test"]
    assert len(result["experts"]) == 1 and len(result["heads"]) == 3
    variables = jax.tree.map(lambda x: x[0], read_state(tmp_path)["variables"])
    test, dataset = toy.splits().test, toy.splits().dataset
    image = (test.image / 255 - dataset.mean) / dataset.std
    logits = []
    for k, found in enumerate(result["heads"]):
        own = jax.tree.map(lambda x, k=k: x[k], variables)
        own = Variables(own["params"], own["stats"])
        (one, _), _ = NETWORKS["tiny"](4).apply(own, image.astype(np.float32), train=False)
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
    phase = choose(METHODS, "method", **settings.method)(settings, toy.info())[-1]
    one, example = phase.learner, toy.info().example
    state = jax.eval_shape(one.init, jax.random.key(0), example)
    heads, *_ = jax.eval_shape(one.heads, state, example).shape
    assert len(one.head_names) in (0, heads)
    result = {
        "heads": [],
        "head_names": one.head_names,
        "combined": one.combined,
        "measures": {"x_used": [2.5], "multiply_adds_used": [1500.0, 1000.0]},
    }
    said = list(tables.of_heads(result, 2000))
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
    phase = choose(METHODS, "method", **settings.method)(settings, toy.info())[-1]
    one, batch = phase.learner, toy.splits().test._asdict()
    batch = {name: batch[name][:16] for name in ("image", "label")}
    batch["index"] = np.arange(16)

    @jax.jit
    def outputs(key):
        state = one.init(key, batch)
        params = jax.tree.map(  # what weighs alike at first has learnt to differ
            lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape),
            state.variables.params,
        )
        state = state._replace(variables=state.variables._replace(params=params))
        return one.predict(state, batch), one.heads(state, batch)

    predicted, heads = outputs(jax.random.key(0))
    far = np.abs(predicted - heads.mean(0)).max() > 1e-3 * np.abs(heads).max()
    assert far == bool(one.combined)


def test_products_with_zeros_of_stacked_networks_are_not_counted(joint):
    report = joint(network={"name": "toy"}, compute={"convolution": "blocks"}, num_epochs=0.2)
    network, image = NETWORKS["toy"](4), jnp.zeros((1, 8, 8, 1))
    variables = Variables(*jax.eval_shape(network.init, jax.random.key(0), image))

    def predict(variables, image):
        return network.apply(variables, image, train=False)

    of_one = cost.multiply_adds(predict, variables, image)
    assert report["cost"]["multiply_adds"] == 3 * of_one


@pytest.mark.parametrize("shape", [pytest.param((1, 1), marks=pytest.mark.slow), (2, 4)])
def test_heads_and_measures_of_a_ragged_split(shape):
    """Two heads, one that sees images as they are and one their negatives."""
    (phase,) = toy.recipe(network={"name": "tiny"})
    learner = phase.learner

    def heads(state, batch):
        negative = batch | {"image": 255 - batch["image"]}
        return jnp.stack([learner.predict(state, batch), learner.predict(state, negative)])

    def measures(state, batch):
        return {"brightness": batch["image"].mean((1, 2, 3)) + 0 * state.step}

    many = independent(learner._replace(heads=heads, measures=measures), "map")
    on = mesh.mesh_for(4, jax.devices()[: shape[0] * shape[1]], expert=shape[0])
    state = jax.jit(many.init)(seeded_keys(0, 0, 4), toy.info().example)
    test = toy.splits().test.take(np.arange(27))
    counts = toy.CLASS_COUNTS
    each = evaluator(heads_as_experts(many.heads), on, 16)(state, test, counts)["experts"]
    assert len(each) == 12  # two heads and their mean
    for number, images in enumerate((test, test._replace(image=255 - test.image))):
        alone = evaluator(many.predict, on, 16)(state, images, counts)["experts"]
        assert [one["nll"] for one in each[number::3]] == pytest.approx(
            [one["nll"] for one in alone], rel=1e-5
        )
    mean = evaluator(lambda state, batch: many.heads(state, batch).mean(1), on, 16)
    together = mean(state, test, counts)["experts"]
    assert [one["nll"] for one in each[2::3]] == pytest.approx([one["nll"] for one in together])
    brightness = measurer(many.measures, on, 16)(state, test)["brightness"]
    assert brightness == pytest.approx([test.image.mean()] * 4, rel=1e-5)
