"""Numbers that are not finite: the run stops and keeps what is good, or sets an expert aside."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ltjax import predict, train
from ltjax.compare import rows, tables
from ltjax.errors import UserError
from ltjax.methods import METHODS, Row
from ltjax.methods.classifier import recipe
from ltjax.phases import start_from_all
from ltjax.run import loop
from ltjax.run.checkpoint import read_position, read_state
from ltjax.run.divergence import NotFinite
from ltjax.run.files import REPORT, load_report
from ltjax.run.saving import Checkpoints

one_process = pytest.mark.xdist_group("divergence")  # two runs are read by several tests
CONFIG = toy.RUN | {"network": {"name": "tiny"}, "save_every_epochs": 0.4}  # 2 steps


def nan_late(settings, info):
    """A method whose loss is not a number in the second half of training."""
    (phase,) = recipe(settings, info)
    method = toy.method(info, network="tiny")

    def loss(variables, batch, key, progress):
        step = method.loss(variables, batch, key, progress)
        return step._replace(values=jnp.where(progress >= 0.5, jnp.nan, step.values))

    return (phase._replace(learner=toy.learner_of(method._replace(loss=loss))),)


def test_nan_stops_the_run_and_keeps_the_last_good_state(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "nan_late", Row(nan_late, "Of a test.", "2026"))
    config = CONFIG | {"method": {"name": "nan_late"}, "log_every_steps": 3}
    with pytest.raises(NotFinite, match=r"experts 1, 2 .* step 6 .* state of step 4 is kept"):
        train.run(config, str(tmp_path), splits=toy.splits())
    check_batch(tmp_path, step=6, experts=[1, 2])
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.position()[:2] == (0, 4)
    leaves = jax.tree.leaves(read_state(tmp_path)["variables"])
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert not (tmp_path / "report.json").exists()


def nan_once(settings, info):
    """A method whose third loss is not a number; its gradients are those of the others."""
    (phase,) = recipe(settings, info)
    method = toy.method(info, network="tiny")

    def loss(variables, batch, key, progress):
        step = method.loss(variables, batch, key, progress)
        third = jnp.abs(progress - 0.2) < 0.01
        return step._replace(
            values=step.values + jax.lax.stop_gradient(jnp.where(third, jnp.nan, 0.0))
        )

    return (phase._replace(learner=toy.learner_of(method._replace(loss=loss))),)


def test_a_loss_that_is_nan_in_the_middle_of_a_call_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "nan_once", Row(nan_once, "Of a test.", "2026"))
    often = {"log_every_steps": 5, "save_every_epochs": 1.0}
    calls = {"compute": {"experts_over": "map", "steps_per_call": 5}}
    config = CONFIG | often | calls | {"method": {"name": "nan_once"}}
    with pytest.raises(NotFinite, match=r"loss of experts 1, 2 .* step 3 .* nothing was saved"):
        train.run(config, str(tmp_path), splits=toy.splits())
    check_batch(tmp_path, step=3, experts=[1, 2])


def exploding(*when):
    """The recipe of a method.

    when: (expert from 1, step from 1) at which this expert alone has a gradient that is not finite.
    """

    def recipe_of(settings, info):
        (phase,) = recipe(settings, info)
        method = toy.method(info, network="tiny")

        def loss(variables, batch, key, progress):
            step = method.loss(variables, batch, key, progress)
            bias, number = variables.params["head"]["bias"][0], variables.params["number"]
            now = [(jnp.abs(10 * progress + 1 - at) < 0.1) & (number == who) for who, at in when]
            bad = jnp.any(jnp.array([False, *now]))
            zero = jnp.where(bad, bias - jax.lax.stop_gradient(bias), 1.0)
            root = jnp.where(bad, jnp.sqrt(jnp.abs(zero)), 0.0)  # rises endlessly from 0
            return step._replace(values=step.values + root)

        def begin(state, previous):
            params = state.variables.params
            params = params | {"number": 1 + jnp.arange(float(len(params["number"])))}
            return state._replace(variables=state.variables._replace(params=params))

        def init(key, batch):
            variables = method.init(key, batch)
            return variables._replace(params=variables.params | {"number": jnp.zeros(())})

        learner = toy.learner_of(method._replace(init=init, loss=loss, frozen=("number",)))
        phase = phase._replace(learner=learner, begin=begin)
        return phase, phase._replace(name="second", num_steps=2, begin=start_from_all)

    return recipe_of


def run(folder, *when, **changed):
    """Train `exploding`, in two phases of 10 and 2 steps; returns the report."""
    config = CONFIG | {"method": {"name": "exploding"}, "num_experts": 3} | changed
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "exploding", Row(exploding(*when), "Of a test.", "2026"))
        return train.run(config, str(folder), splits=toy.splits())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with 'two', a run whose second expert is set aside, and 'three', undisturbed."""
    folder = tmp_path_factory.mktemp("finished")
    often = {"on_divergence": "set_aside", "eval_every_epochs": 1.0}
    run(folder / "two", (2, 4), **often)
    run(folder / "three", **often)
    return folder


def test_a_gradient_of_one_expert_is_found(tmp_path):
    with pytest.raises(NotFinite, match=r"gradient of expert 2 .* step 4 .* state of step 2 is"):
        run(tmp_path, (2, 4))
    check_batch(tmp_path, step=4, experts=[2])


@pytest.mark.slow
@one_process
def test_the_others_finish_as_if_nothing_had_happened(finished):
    found, undisturbed = (load_report(finished / name / REPORT) for name in ("two", "three"))
    assert [(one["expert"], one["what"], one["step"]) for one in found["set_aside"]] == [
        (2, "gradient", 4)
    ]
    test, expected = found["splits"]["test"], undisturbed["splits"]["test"]
    assert test["expert_numbers"] == [1, 3] and expected["expert_numbers"] == [1, 2, 3]
    assert test["experts"] == expected["experts"][::2]
    assert len(test["first_k"]) == len(test["against_average"]) == 2
    assert found["cost"]["parameters"] == 2 * found["cost"]["parameters_per_expert"]
    states = [read_state(finished / name)["variables"] for name in ("two", "three")]
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one[::2], other[::2])


@pytest.mark.slow
@one_process
def test_a_report_and_a_comparison_say_who_is_set_aside(finished):
    page = (finished / "two" / "report.md").read_text()
    assert "Expert 2 is set aside: its gradient is no longer finite at step 4 of train." in page
    assert "| expert 3" in page and "| expert 2" not in page
    found = load_report(finished / "two" / REPORT)
    (row,) = rows.rows([("exploding", rows.Run(finished / "two", found))])
    assert "1 of 3 experts is set aside (seed 0)" in tables.page([row])
    check_batch(finished / "two", step=4, experts=[2], name="diverged-expert-2.npz")


@pytest.mark.slow
@one_process
def test_predictions_are_those_of_the_others(finished, monkeypatch):
    monkeypatch.setitem(METHODS, "exploding", Row(exploding(), "Of a test.", "2026"))
    images = toy.splits().test.image
    two, three = (predict.load(finished / name) for name in ("two", "three"))
    logits = two.predict(images).logits
    np.testing.assert_allclose(logits, three.predict(images).logits[::2], rtol=1e-6)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(two.probs(images), probs.mean(0), rtol=1e-5)


@pytest.mark.slow
@one_process
def test_the_log_has_no_number_of_an_expert_that_is_set_aside(finished):
    lines = (finished / "two" / "log.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    losses = [event["train/loss"] for event in events if "train/loss" in event]
    assert len(losses) == 12 and None not in losses[2]
    # the gradient of step 4 spoils the loss of step 5, and the state that is saved after step 4
    assert [[loss is None for loss in line] for line in losses[4:]] == [[False, True, False]] * 8
    accuracies = [event["test/experts"] for event in events if "test/experts" in event]
    assert [[x is None for x in line] for line in accuracies] == [[False, True, False]] * 2


@pytest.mark.slow
@one_process
@pytest.mark.parametrize("kill_at", [(0, 6), (1, 0)])
def test_a_run_without_an_expert_is_resumed_exactly(finished, tmp_path, monkeypatch, kill_at):
    save = loop.Loop.save

    def dies(self, state, done, seconds, again=False):
        save(self, state, done, seconds, again)
        if (self._phase_number, done) == kill_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop.Loop, "save", dies)
        run(tmp_path, (2, 4), on_divergence="set_aside", eval_every_epochs=1.0)
    assert [one[0] for one in read_position(tmp_path).set_aside] == [2]
    run(tmp_path, (2, 4), on_divergence="set_aside", eval_every_epochs=1.0)
    check_same(tmp_path, finished / "two")


@pytest.mark.slow
@one_process
def test_a_run_that_stopped_is_finished_without_the_expert(finished, tmp_path):
    with pytest.raises(NotFinite, match="--config.on_divergence=set_aside"):
        run(tmp_path, (2, 4), eval_every_epochs=1.0)
    run(tmp_path, (2, 4), on_divergence="set_aside", eval_every_epochs=1.0)
    check_same(tmp_path, finished / "two")


@pytest.mark.slow
def test_experts_that_diverge_together_and_one_after_another_are_set_aside(tmp_path):
    config = {"on_divergence": "set_aside", "num_experts": 5, "log_every_steps": 5}
    found = run(tmp_path, (2, 3), (4, 5), (5, 3), save_every_epochs=1.0, **config)
    steps = [(one["expert"], one["step"]) for one in found["set_aside"]]
    assert steps == [(2, 3), (5, 3), (4, 5)]
    assert found["splits"]["test"]["expert_numbers"] == [1, 3]


def silent(settings, info):
    """The recipe of a method whose second expert trains well, and predicts no numbers."""
    phase, _ = exploding()(settings, info)
    method = phase.learner.method

    def predict_none(variables, batch):
        found = method.predict(variables, batch)
        bad = variables.params["number"] == 2
        return found._replace(logits=jnp.where(bad, jnp.nan, found.logits))

    learner = phase.learner._replace(method=method._replace(predict=predict_none))
    return (phase._replace(learner=learner),)


@pytest.mark.slow
def test_what_the_last_evaluation_finds_is_kept_with_the_last_state(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "silent", Row(silent, "Of a test.", "2026"))
    changed = {"method": {"name": "silent"}, "num_experts": 3, "on_divergence": "set_aside"}
    report = train.run(CONFIG | changed, str(tmp_path), splits=toy.splits())
    assert [one["what"] for one in report["set_aside"]] == ["output on the test split"]
    assert read_position(tmp_path).set_aside == [[2, "output on the test split", 10, "train"]]
    assert len(predict.load(tmp_path).predict(toy.splits().test.image).logits) == 2
    again = train.run(CONFIG | changed, str(tmp_path), splits=toy.splits())
    assert again == report


@pytest.mark.slow
def test_a_run_without_any_expert_stops(tmp_path):
    with pytest.raises(NotFinite, match="expert 1 .* step 5 "):
        run(tmp_path, (2, 3), (1, 5), (3, 3), on_divergence="set_aside")
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize(
    "config, why",
    [
        ({"num_experts": 1}, "needs at least two experts"),
        ({"method": {"name": "joint"}}, "needs at least two experts"),
        ({"method": {"name": "lfme"}}, "method 'lfme' makes an expert of several networks"),
        ({"compute": {"convolution": "blocks"}}, "convolution 'blocks'"),
    ],
)
def test_where_experts_are_not_apart_none_is_set_aside(tmp_path, config, why):
    with pytest.raises(UserError, match=why):
        train.run(
            CONFIG | {"on_divergence": "set_aside"} | config,
            str(tmp_path / "run"),
            splits=toy.splits(),
        )
    assert not (tmp_path / "run").exists()


def check_same(folder, other):
    """Two runs end with the same numbers."""
    found, expected = (load_report(one / REPORT) for one in (folder, other))
    for report in (found, expected):
        report["splits"]["test"].pop("images_per_second")
    for key in ("splits", "set_aside", "steps"):
        assert found[key] == expected[key]
    toy.assert_trees_equal(read_state(folder), read_state(other))


def check_batch(folder, step, experts, name="diverged.npz"):
    """The file has what the experts saw in a step: images and labels of the training set."""
    with np.load(folder / name, allow_pickle=False) as file:
        assert file["step"] == step and file["experts"].tolist() == experts
        assert file["image"].shape == (len(experts), 16, 8, 8, 1)
        assert file["image"].dtype == np.uint8
        train_split = toy.splits().train
        np.testing.assert_array_equal(file["image"], train_split.image[file["index"]])
        np.testing.assert_array_equal(file["label"], train_split.label[file["index"]])
