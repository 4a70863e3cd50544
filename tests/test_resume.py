"""A killed and resumed run is bitwise equal to a run that was never stopped."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import toy
from conftest import ROOT

from ltjax import train
from ltjax.methods import METHODS, Row
from ltjax.methods.classifier import recipe
from ltjax.run import loop
from ltjax.run.checkpoint import read_state
from ltjax.run.saving import Checkpoints

CONFIG = toy.RUN | {"save_every_epochs": 0.4}  # 2 steps


class Killed(BaseException):
    """Nothing in the library handles it; only saves under way are waited for."""


def two_phases(settings, info):
    """Train; then go on from there, anew, with the head frozen."""
    (first,) = recipe(settings, info)
    second = first._replace(
        name="second",
        learner=toy.learner_of(toy.method(info, frozen=("head",), network="normed")),
        begin=lambda state, previous: state._replace(variables=previous),
    )
    return first, second


@pytest.fixture(autouse=True)
def in_its_table(monkeypatch):
    monkeypatch.setitem(METHODS, "two_phases", Row(two_phases, "Of a test.", "2026"))


def run(folder, method, programs, kill_at=None, **changed):
    """Run, perhaps killed once `kill_at` (phase, step) is through; returns the last state saved.

    `programs` keeps what is compiled from one run to the next.
    """

    def once(make, key):
        if key not in programs:
            programs[key] = make()
        return programs[key]

    compiled, evaluator = train._compiled, train.evaluator
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_compiled", lambda *a: once(lambda: compiled(*a), a[-1]))
        patch.setattr(train, "evaluator", lambda *a: once(lambda: evaluator(*a), id(a[0])))
        if kill_at:
            update = loop.Display.advance

            def advance(self, done):
                update(self, done)
                if (self._name, done) == kill_at:
                    raise Killed

            patch.setattr(loop.Display, "advance", advance)
        chosen = {"name": method} | toy.OPTIONS.get(method, {})
        train.run(CONFIG | {"method": chosen} | changed, str(folder), splits=toy.splits())
    return read_state(folder)


def events(folder):
    """The log, but for speeds."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "per_second" not in k} for line in lines]


# (where it is killed, where it resumes: saves are every 2 steps and at the end of a phase)
TWO_PHASES = [(("train", 7), (0, 6)), (("second", 1), (1, 0)), (("second", 9), (1, 8))]


def kills(method):
    """One in each phase; at the first step of a later one, when only its beginning is saved."""
    if method == "two_phases":
        return TWO_PHASES
    first, *later = toy.recipe(method, **{k: v for k, v in CONFIG.items() if k != "method"})
    starts = [((phase.name, 1), (number, 0)) for number, phase in enumerate(later, 1)]
    in_first = (5, 4) if first.num_steps > 5 else (3, 2)  # it may be a short one
    return [((first.name, in_first[0]), (0, in_first[1])), *starts]


# Each way in which phases follow one another is enough for a quick look; presets are classifiers.
QUICK = ("two_phases",)
EVERY_METHOD = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in (*METHODS, "two_phases")
    if name not in METHODS
    or not METHODS[name].config
    or name in ("remix", "bag_of_tricks", "ride", "sade", "balpoe")
]


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_killed_and_resumed_is_bitwise_uninterrupted(tmp_path, method, capsys):
    programs = {}
    expected = run(tmp_path / "whole", method, programs)
    for kill, (phase, step) in kills(method):
        with pytest.raises(Killed):
            run(tmp_path / "killed", method, programs, kill)
        with Checkpoints(tmp_path / "killed") as checkpoints:
            assert checkpoints.position()[:2] == (phase, step)
    capsys.readouterr()
    found = run(tmp_path / "killed", method, programs)
    assert f"Resuming from step {step} " in capsys.readouterr().out
    toy.assert_trees_equal(found, expected)
    # each step once, with the same numbers
    assert events(tmp_path / "killed") == events(tmp_path / "whole")


def by_calls(steps_per_call):
    """The fields of a run whose steps 1 to 5 and 6 to 10 may be taken together."""
    compute = {"experts_over": "map", "steps_per_call": steps_per_call}
    network = {"name": "tiny"}
    often = {"log_every_steps": 5, "save_every_epochs": 1.0}
    return {"compute": compute, "network": network} | often


@pytest.mark.slow
@pytest.mark.parametrize("method", ["classifier", "joint"])
def test_steps_of_one_call_are_those_of_many(tmp_path, method):
    one = run(tmp_path / "one", method, {}, **by_calls(1), num_epochs=1.0)
    four = run(tmp_path / "four", method, {}, **by_calls(4), num_epochs=1.0)
    # a loop over steps may be compiled to other roundings; measured: none here
    toy.assert_trees_close(four, one, atol=2e-6)
    (first,), (second,) = (events(tmp_path / name) for name in ("one", "four"))
    assert first.keys() == second.keys() and first["step"] == second["step"] == 5
    np.testing.assert_allclose(second["train/loss"], first["train/loss"], rtol=1e-5)


@pytest.mark.slow
def test_steps_of_one_call_resume_bitwise(tmp_path, monkeypatch):
    """Calls of 4, 1, 4 and 1 steps; once killed after the third, once asked to stop there."""
    programs, fields = {}, by_calls(4)
    expected = run(tmp_path / "whole", "classifier", programs, **fields)
    with pytest.raises(Killed):
        run(tmp_path / "killed", "classifier", programs, ("train", 9), **fields)
    with Checkpoints(tmp_path / "killed") as checkpoints:
        assert checkpoints.position().step == 5
    with monkeypatch.context() as patch, pytest.raises(loop.Stopped, match="saved at step 9 "):
        patch.setattr(Checkpoints, "stop_requested", lambda self: True)
        run(tmp_path / "killed", "classifier", programs, **fields)
    toy.assert_trees_equal(run(tmp_path / "killed", "classifier", programs, **fields), expected)
    assert events(tmp_path / "killed") == events(tmp_path / "whole")


def test_a_finished_run_is_shown_not_repeated(tmp_path, capsys):
    network, method = {"name": "tiny"}, {"name": "classifier"}
    config = CONFIG | {"num_epochs": 0.2, "method": method, "network": network}
    first = train.run(config, str(tmp_path), splits=toy.splits())
    written = (tmp_path / "report.json").stat().st_mtime_ns, events(tmp_path)
    assert train.run(config, str(tmp_path), splits=toy.splits()) == first
    assert ((tmp_path / "report.json").stat().st_mtime_ns, events(tmp_path)) == written
    assert "complete" in capsys.readouterr().out


def command(folder, data_dir):
    return [
        sys.executable, "-m", "ltjax.main", "--config", str(ROOT / "configs" / "digits.py"),
        "--workdir", str(folder), f"--config.data.dir={data_dir}", "--config.num_epochs=6",
        "--config.num_experts=1", "--config.log_every_steps=1", "--config.save_every_epochs=0.3",
        "--config.compute.experts_over=map",
    ]  # fmt: skip


def wait_for(folder, steps):
    log = folder / "log.jsonl"
    for _ in range(1200):
        if log.exists() and len(log.read_text().splitlines()) >= steps:
            return
        time.sleep(0.1)
    raise TimeoutError(f"no {steps} steps in {log}")


@pytest.mark.slow
def test_sigkill_and_sigterm_from_outside(tmp_path, data_dir):
    """Killed twice from outside, the second time politely; the same command resumes each time."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    start = dict(
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    whole = subprocess.run(command(tmp_path / "whole", data_dir), **start)
    assert whole.returncode == 0, whole.stdout
    killed = tmp_path / "killed"
    for steps, number in ((9, signal.SIGKILL), (30, signal.SIGTERM)):
        process = subprocess.Popen(command(killed, data_dir), **start)
        wait_for(killed, steps)
        process.send_signal(number)
        said = process.communicate()[0]
        assert process.returncode == (-9 if number == signal.SIGKILL else 143), said
        assert ("Resuming from step" in said) == (steps > 9)
    assert "To resume: python -m ltjax.main --config" in said
    last = subprocess.run(command(killed, data_dir), **start)
    assert last.returncode == 0 and "Resuming from step" in last.stdout, last.stdout
    toy.assert_trees_equal(read_state(killed), read_state(tmp_path / "whole"))
