"""What the loop does besides steps: it evaluates on the way, and lets a method remember."""

import io
import json

import jax
import numpy as np
import pytest
import toy
from rich.console import Console

from ltjax import recipes, train
from ltjax.config.settings import settings_from
from ltjax.methods import METHODS, Row
from ltjax.methods.classifier import recipe
from ltjax.run.checkpoint import read_state
from ltjax.run.console import Display


def remembering(settings, info):
    """A method that keeps the accuracies of the last evaluation, and how many there were."""
    (phase,) = recipe(settings, info)
    method = toy.method(info, network="tiny")

    def init(key, batch):
        return method.init(key, batch)._replace(
            memory={name: np.zeros(()) for name in ("count", "average", "own")}
        )

    def after_eval(memory, evaluation):
        found = {name: np.float32(evaluation[name]["accuracy"]) for name in ("average", "own")}
        return {"count": memory["count"] + 1} | found

    learner = toy.learner_of(method._replace(init=init, after_eval=after_eval))
    return (phase._replace(learner=learner),)


CONFIG = {
    "method": {"name": "remembering"},
    "network": {"name": "tiny"},
    "num_experts": 2,
    "batch_size": 16,
    "num_epochs": 2.0,  # of 5 steps
    "eval_every_epochs": 0.6,  # at steps 3, 6 and 9
    "compute": {"experts_over": "map"},
}


@pytest.fixture(autouse=True)
def in_its_table(monkeypatch):
    monkeypatch.setitem(METHODS, "remembering", Row(remembering, "Of a test.", "2026"))


@pytest.mark.parametrize("warmup, noted", [(2, False), (3, True)])
def test_a_warm_up_longer_than_the_run_is_noted(warmup, noted):
    schedule = {"name": "step", "lr": 0.05, "warmup_epochs": warmup}
    said = recipes.notes(settings_from({"schedule": schedule, "num_epochs": 2.0}))
    assert bool(said) == noted
    if noted:
        assert "warmup_epochs is 3) is longer than the run (config.num_epochs is 2)" in said[0]


def test_a_method_learns_from_each_evaluation_on_the_way(tmp_path, capsys):
    report = train.run(CONFIG, str(tmp_path), splits=toy.splits_with_held_out())
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    seen = [event for event in events if "validation/accuracy" in event]
    assert [event["step"] for event in seen] == [3, 6, 9]
    assert list(report["splits"]) == ["validation", "test"]
    assert "test accuracy" not in capsys.readouterr().out  # the test split is looked at once, last
    memory = read_state(tmp_path)["variables"]["memory"]
    np.testing.assert_array_equal(memory["count"], [3, 3])
    np.testing.assert_allclose(memory["average"], seen[-1]["validation/accuracy"], rtol=1e-6)
    np.testing.assert_allclose(memory["own"], seen[-1]["validation/experts"], rtol=1e-6)
    assert jax.tree.leaves(memory)[0].shape == (2,)


def test_a_method_learns_nothing_from_the_test_split(tmp_path):
    train.run(CONFIG, str(tmp_path), splits=toy.splits())
    memory = read_state(tmp_path)["variables"]["memory"]
    np.testing.assert_array_equal(memory["count"], [0, 0])


@pytest.mark.parametrize(
    "losses, said",
    [
        ([1.0, 0.5], "student 10/20  loss 1.00 0.50  100 img/s  0:02 left"),
        ([5.0, 1.0, 2.0, 3.0, 4.0], "student 10/20  loss 1.00 to 5.00  100 img/s  0:02 left"),
        ([0.0, 0.0], "student 10/20  100 img/s  0:02 left"),  # nothing learns by gradients
    ],
)
def test_a_line_of_the_log_as_it_is_shown(losses, said):
    console = Console(file=io.StringIO(), width=80)
    Display(console, "student", 20, 0, 20).numbers(10, losses, 100.0)
    assert console.file.getvalue() == said + "\n"
