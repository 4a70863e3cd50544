"""A run that was killed and goes on is bitwise the run that was never stopped."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import toy
from conftest import ROOT

from ltjax import loop, train
from ltjax.checkpoint import Checkpoints, read_state
from ltjax.data import datasets
from ltjax.loop import Loop
from ltjax.methods import METHODS
from ltjax.methods.classifier import recipe

CONFIG = dict(
    network={"name": "toy"},
    schedule={"name": "cosine", "lr": 0.05},
    num_experts=2,
    batch_size=16,
    num_epochs=2.0,  # of 5 steps
    save_every_epochs=0.4,  # 2 steps
    log_every_steps=1,
    mesh={"experts_over": "map"},
)


class Killed(BaseException):
    """As abrupt as a signal that cannot be caught: nothing in the library handles it."""


def two_phases(settings, info):
    """Train; then go on from there, anew, with the head frozen."""
    (first,) = recipe(settings, info)
    method = toy.frozen_head(info)
    second = first._replace(
        name="second",
        learner=method,
        begin=lambda state, previous: state._replace(variables=previous.variables),
    )
    return first, second


@pytest.fixture(autouse=True)
def toy_data(monkeypatch):
    monkeypatch.setattr(datasets, "prepare", lambda data, tell: None)
    monkeypatch.setattr(datasets, "load", lambda data: toy.splits())
    monkeypatch.setitem(METHODS, "two_phases", two_phases)


def run(folder, method, loops, kill_at=None):
    """Run, perhaps killed once `kill_at` (phase, step) is through; returns the last state saved.

    `loops` keeps the compiled programs from one run to the next, {phase: Loop}.
    """

    def compiled_once(this, phase):
        loops.setdefault(phase, Loop(this, phase)).this = this
        return loops[phase]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "Loop", compiled_once)
        if kill_at:
            update = loop.Display.advance

            def advance(self, done):
                update(self, done)
                if (self._name, done) == kill_at:
                    raise Killed

            patch.setattr(loop.Display, "advance", advance)
        train.run(CONFIG | {"method": {"name": method}}, workdir=str(folder))
    return read_state(folder)


@pytest.mark.parametrize(
    "method, kills",
    [
        ("classifier", [("train", 5)]),
        ("joint", [("train", 3)]),
        # in each phase; and at the first step of phase two, when only the end of one is saved
        ("two_phases", [("train", 7), ("second", 1), ("second", 9)]),
    ],
)
def test_killed_and_resumed_is_bitwise_uninterrupted(tmp_path, method, kills):
    loops = {}
    expected = run(tmp_path / "whole", method, loops)
    for kill in kills:
        with pytest.raises(Killed):
            run(tmp_path / "killed", method, loops, kill)
    found = run(tmp_path / "killed", method, loops)
    toy.assert_trees_equal(found, expected)

    def events(name):
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        return [
            {k: v for k, v in json.loads(line).items() if "per_second" not in k} for line in lines
        ]

    assert events("killed") == events("whole")  # each step once, with the same numbers


def test_a_finished_run_is_shown_not_repeated(tmp_path, monkeypatch, capsys):
    config = CONFIG | {"num_epochs": 0.2, "method": {"name": "classifier"}}
    first = train.run(config, workdir=str(tmp_path))
    monkeypatch.setattr(train, "Loop", None)
    assert train.run(config, workdir=str(tmp_path)) == first
    assert "complete" in capsys.readouterr().out


def test_nan_stops_the_run_and_keeps_the_last_good_state(tmp_path):
    config = CONFIG | {"schedule": {"name": "step", "lr": 1e30, "drop_at": ()}}
    with pytest.raises(loop.Diverged, match="no longer finite"):
        train.run(config, workdir=str(tmp_path))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.position() is None  # nothing that is not finite was saved
    assert not (tmp_path / "report.json").exists()


def command(folder, data_dir):
    return [
        sys.executable, "-m", "ltjax.main", "--config", str(ROOT / "configs" / "digits.py"),
        "--workdir", str(folder), f"--config.data.dir={data_dir}", "--config.num_epochs=6",
        "--config.num_experts=2", "--config.log_every_steps=1", "--config.save_every_epochs=0.3",
        "--config.mesh.experts_over=map",
    ]  # fmt: skip


def wait_for(folder, steps):
    log = folder / "log.jsonl"
    for _ in range(1200):
        if log.exists() and len(log.read_text().splitlines()) >= steps:
            return
        time.sleep(0.1)
    raise TimeoutError(f"no {steps} steps in {log}")


def test_sigkill_and_sigterm_from_outside(tmp_path, data_dir):
    """Killed twice from outside, once politely; the same command goes on each time."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    start = dict(
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    whole = subprocess.run(command(tmp_path / "whole", data_dir), **start)
    assert whole.returncode == 0, whole.stdout
    killed = tmp_path / "killed"
    for steps, number in ((9, signal.SIGKILL), (20, signal.SIGTERM)):
        process = subprocess.Popen(command(killed, data_dir), **start)
        wait_for(killed, steps)
        process.send_signal(number)
        said = process.communicate()[0]
        assert process.returncode == (-9 if number == signal.SIGKILL else 143), said
    assert "To go on: python -m ltjax.main --config" in said
    last = subprocess.run(command(killed, data_dir), **start)
    assert last.returncode == 0 and "Going on from step" in last.stdout, last.stdout
    toy.assert_trees_equal(read_state(killed), read_state(tmp_path / "whole"))
