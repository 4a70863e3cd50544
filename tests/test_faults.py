"""Runs whose disk is full, gone or locked, from outside: one line, and the same command resumes."""

import os
import shutil
import subprocess
import sys
import time

import pytest
import toy
from conftest import ROOT

from ltjax.run.checkpoint import read_state

pytestmark = pytest.mark.slow
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system takes root")


def command(folder, data_dir):
    options = {
        "data.dir": data_dir,
        "network.name": "resnet8",
        "num_experts": 2,
        "num_epochs": 6.0,
        "schedule.warmup_epochs": 0,
        "save_every_epochs": 0.3,
        "log_every_steps": 1,
    }
    return [
        *(sys.executable, "-m", "ltjax.main", "--config", str(ROOT / "configs" / "digits.py")),
        *("--workdir", str(folder)),
        *(f"--config.{name}={value}" for name, value in options.items()),
    ]


def start(folder, data_dir, limit=""):
    """A run in a process of its own, under a limit of the shell."""
    line = f"{limit or 'true'}; exec {' '.join(command(folder, data_dir))}"
    return subprocess.Popen(
        ["bash", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    """The folder of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    process = start(folder, data_dir)
    said = process.communicate()
    assert process.returncode == 0, said
    return folder


def refused(process, why):
    """The run ends with the system's reason in one line, and how to resume."""
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    first, second = said.splitlines()
    assert f"cannot be written ({why})" in first, said
    assert second.startswith("To resume, when that is mended: python -m ltjax.main")
    return first


def resumed(folder, whole, data_dir):
    """The same command ends as if nothing had happened."""
    process = start(folder, data_dir)
    said, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), errors
    toy.assert_trees_equal(read_state(folder), read_state(whole))
    return said


def wait_for(path):
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.05)
    raise TimeoutError(path)


@pytest.fixture
def disk(tmp_path):
    """(options) -> a small file system of one's own."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)
        return place

    yield mount
    subprocess.run(["umount", str(place)], check=False)


@needs_root
@pytest.mark.parametrize(
    "size", [f"size={k}k" for k in (12, 40, 200, 900, 1600)] + ["nr_inodes=60"]
)
def test_a_full_disk(disk, whole, data_dir, size):
    place = disk(size)
    process = start(place / "run", data_dir)
    refused(process, "No space left on device")
    subprocess.run(["mount", "-o", "remount,size=100m,nr_inodes=100k", str(place)], check=True)
    resumed(place / "run", whole, data_dir)


def test_files_that_may_not_grow(tmp_path, whole, data_dir):
    refused(start(tmp_path / "run", data_dir, "ulimit -f 30"), "File too large")
    resumed(tmp_path / "run", whole, data_dir)


def test_a_folder_that_is_deleted(tmp_path, whole, data_dir):
    process = start(tmp_path / "run", data_dir)
    wait_for(tmp_path / "run" / "checkpoints" / "4")
    for _ in range(20):  # a save may be under way
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert "its checkpoints are not there any more" in refused(process, "No such file or directory")
    resumed(tmp_path / "run", whole, data_dir)


def test_a_folder_that_is_renamed(tmp_path, whole, data_dir):
    process = start(tmp_path / "run", data_dir)
    wait_for(tmp_path / "run" / "checkpoints" / "4")
    (tmp_path / "run").rename(tmp_path / "other")
    refused(process, "No such file or directory")
    assert "Resuming from step" in resumed(tmp_path / "other", whole, data_dir)


@needs_root
def test_checkpoints_that_may_not_be_changed(tmp_path, whole, data_dir):
    process = start(tmp_path / "run", data_dir)
    place = tmp_path / "run" / "checkpoints"
    wait_for(place / "4")
    if subprocess.run(["chattr", "+i", str(place)], check=False).returncode:
        process.kill()
        process.communicate()
        pytest.skip("this file system has no immutable folders")
    try:
        began = time.monotonic()
        refused(process, "Operation not permitted")
        assert time.monotonic() - began < 30
    finally:
        subprocess.run(["chattr", "-i", str(place)], check=True)
    assert "Resuming from step" in resumed(tmp_path / "run", whole, data_dir)
