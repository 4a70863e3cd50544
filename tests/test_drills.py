"""The drills of tests/drills, shortened: runs that are killed, and a run that is long."""

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
