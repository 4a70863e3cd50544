"""Two processes of four devices do what one of eight does: the stand-in for a pod."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import toy
from conftest import ROOT

from ltjax.run.checkpoint import read_state


def start(folder, data_dir, devices, *more):
    # One step: differences in the order of sums grow at every ReLU edge after that.
    command = [
        sys.executable, "-m", "ltjax.main", "--config", str(ROOT / "configs" / "digits.py"),
        "--workdir", str(folder), f"--config.data.dir={data_dir}", "--config.num_epochs=0.14",
        "--config.num_experts=2", "--config.schedule.name=step", *more,
    ]  # fmt: skip
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return said


def both(folder, data_dir):
    """What each of two processes says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = [f"--coordinator={address}", "--num_processes=2"]
    processes = [start(folder, data_dir, 4, *together, f"--process_id={i}") for i in range(2)]
    return [finish(process) for process in processes]


def log(folder):
    (event,) = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return event


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one(tmp_path, data_dir):
    one = finish(start(tmp_path / "one", data_dir, 8))
    first, second = both(tmp_path / "two", data_dir)
    assert "average probs" in first and "average probs" not in second  # process 0 speaks
    found, expected = read_state(tmp_path / "two"), read_state(tmp_path / "one")
    # The forward pass is continuous, so what it leaves behind agrees to rounding.
    stats = found["variables"]["stats"], expected["variables"]["stats"]
    toy.assert_trees_close(*stats, atol=2e-6)
    losses = [log(tmp_path / name)["train/loss"] for name in ("two", "one")]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    # The gradient (the momentum after one step) is not: a ReLU whose input rounds to the other
    # side of zero moves a tensor by up to 1 %. A sum taken twice would move it by 100 % and more.
    for ours, theirs in zip(
        *(jax.tree.leaves(s["opt_state"]) for s in (found, expected)), strict=True
    ):
        assert np.linalg.norm(ours - theirs) <= 3e-2 * np.linalg.norm(theirs)

    def tables(said):
        return [line for line in said.splitlines() if line.startswith(("expert", "average"))]

    assert tables(first) == tables(one) != []

    # what one verifies, both resume from
    (tmp_path / "two" / "report.json").unlink()
    again, _ = both(tmp_path / "two", data_dir)
    assert "Resuming from step 1 " in again and tables(again) == tables(first)
    toy.assert_trees_equal(read_state(tmp_path / "two"), found)
