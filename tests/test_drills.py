"""The drills of tests/drills, shortened: runs that are killed, a long run, and changed code."""

import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


def drill(name, *options):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "drills" / name), *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_runs_that_are_killed_end_as_if_untouched():
    said = drill("kill.py", "--strikes", "12")
    assert "12 strikes; every run ended as if untouched." in said


def test_a_long_run_grows_nothing():
    assert "nothing grew" in drill("soak.py", "--steps", "10000")


def test_a_changed_start_of_a_loss_is_noticed():
    pytest.importorskip("cosmic_ray")
    said = drill("mutate.py", "ltjax/losses/objective.py", "--share", "0.2")
    _, _, tried, killed, survived = said.splitlines()[-1].split()
    assert int(tried) == int(killed) >= 5 and survived == "0"
