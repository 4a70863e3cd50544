"""What the loop does besides steps: it evaluates on the way, and lets a method remember."""

import json

import jax
import numpy as np
import toy

from ltjax import train
from ltjax.checkpoint import read_state
from ltjax.data import datasets
from ltjax.methods import METHODS
from ltjax.methods.classifier import recipe


def remembering(settings, info):
    """A method that keeps the accuracy of the last evaluation, and how many there were."""
    (phase,) = recipe(settings, info)
    method = toy.method(info)

    def init(key, batch):
        return method.init(key, batch)._replace(
            memory={"count": np.zeros(()), "accuracy": np.zeros(())}
        )

    def after_eval(memory, evaluation):
        accuracy = np.asarray(evaluation["average"]["accuracy"])
        return {"count": memory["count"] + 1, "accuracy": accuracy + 0 * memory["accuracy"]}

    learner = toy.learner_of(method._replace(init=init, after_eval=after_eval))
    return (phase._replace(learner=learner),)


def test_a_method_learns_from_each_evaluation_on_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets, "prepare", lambda data, tell: None)
    held_out = toy.images([3, 3, 3, 3], seed=2)
    monkeypatch.setattr(datasets, "load", lambda data: toy.splits()._replace(validation=held_out))
    monkeypatch.setitem(METHODS, "remembering", remembering)
    config = {
        "method": {"name": "remembering"},
        "network": {"name": "tiny"},
        "num_experts": 2,
        "batch_size": 16,
        "num_epochs": 2.0,  # of 5 steps
        "eval_every_epochs": 0.6,  # at steps 3, 6 and 9
        "compute": {"experts_over": "map"},
    }
    report = train.run(config, workdir=str(tmp_path))
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    seen = [event for event in events if "validation/accuracy" in event]
    assert [event["step"] for event in seen] == [3, 6, 9]
    assert list(report["splits"]) == ["validation", "test"]
    assert "test accuracy" not in capsys.readouterr().out  # the test split is looked at once, last
    memory = read_state(tmp_path)["variables"]["memory"]
    np.testing.assert_array_equal(memory["count"], [3, 3])
    np.testing.assert_allclose(memory["accuracy"], seen[-1]["validation/accuracy"], rtol=1e-6)
    assert jax.tree.leaves(memory)[0].shape == (2,)
