"""Data sets are prepared by one process at a time, whole or not at all, and errors are told."""

import contextlib
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import ROOT

from ltjax import storage
from ltjax.config.settings import Data
from ltjax.data import datasets, preparing
from ltjax.data.stored import Stored
from ltjax.errors import UserError

READ = """
import fcntl, resource, sys
from ltjax.config.settings import Data
from ltjax.data import datasets
{before}
data = Data(name="digits", imbalance_factor=20.0, dir=sys.argv[1])
datasets.prepare(data)
print(datasets.load(data).info.class_counts.sum())
"""
NO_LOCKS = """
def flock(file, how):
    raise OSError(95, "Operation not supported")
fcntl.flock = flock
"""


def start(folder, before=""):
    return subprocess.Popen(
        [sys.executable, "-c", READ.format(before=before), str(folder)],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """(what was printed, the last line of the errors)."""
    out, err = process.communicate(timeout=120)
    return out, (err.splitlines() or [""])[-1]


def half_made(folder):
    return [path for path in folder.rglob("incomplete*") if path.exists()]


@pytest.mark.parametrize(
    "before", ["", pytest.param(NO_LOCKS, marks=pytest.mark.slow)], ids=["locks", "no locks"]
)
def test_three_first_runs_at_once_all_read_the_same(tmp_path, before):
    folder = tmp_path / "tfds"
    found = [end(process) for process in [start(folder, before) for _ in range(3)]]
    assert [out.splitlines()[-1:] for out, _ in found] == [["417"]] * 3, found
    if not before:
        assert sum("Preparing digits_lt" in out for out, _ in found) == 1
    assert not half_made(folder)


@pytest.mark.slow
def test_one_that_waits_says_so_and_goes_on_when_the_other_is_killed(tmp_path):
    folder = tmp_path / "tfds"
    first = start(folder)
    while not half_made(folder):
        assert first.poll() is None, first.communicate()
        time.sleep(0.001)
    first.send_signal(signal.SIGSTOP)
    second = start(folder)
    assert second.stdout.readline() == "Waiting for another process that prepares digits.\n"
    left = half_made(folder)
    first.kill()
    first.communicate()
    out, err = end(second)
    assert out.splitlines()[-1:] == ["417"], err
    assert left and not half_made(folder)


@pytest.mark.slow
def test_nothing_is_left_in_temporary_folders(tmp_path):
    folder = tmp_path / "tfds"
    assert end(start(folder))[0].endswith("417\n")
    assert [path.name for path in tmp_path.iterdir()] == ["tfds"]
    assert sorted(path.name for path in folder.iterdir()) == [".digits.lock", "digits", "digits_lt"]


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 200_000])
def test_what_the_system_refuses_is_told_by_its_cause(tmp_path, most):
    folder = tmp_path / "tfds"
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))"
    _, err = end(start(folder, limit))
    assert err == (
        f"ltjax.storage.NotWritten: {folder}/digits/1.0.0 cannot be written (File too large)."
    )
    assert not half_made(folder)
    assert end(start(folder))[0].endswith("417\n")


class Fails:
    """A builder of TFDS whose preparing ends in an error."""

    info = tfds.core.DatasetInfo  # has a full_name

    def __init__(self, error):
        self.error = error

    def download_and_prepare(self, download_dir):
        raise self.error


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ConnectionError("Max retries\nexceeded"), UserError, "could not be downloaded (Max retri"),
        (TimeoutError("timed out"), UserError, "Check the network"),
        (caused(ValueError("x"), ConnectionResetError(104, "reset")), UserError, "the network"),
        (tfds.download.DownloadError("HTTP code 503"), UserError, "(HTTP code 503). Check the net"),
        (OSError(errno.EDQUOT, "x"), storage.NotWritten, "cannot be written (Disk quota exceeded)"),
        (PermissionError(errno.EACCES, "x"), storage.NotWritten, "(Permission denied)"),
        (OSError(errno.EROFS, "x"), storage.NotWritten, "(Read-only file system)"),
        (OSError("Not enough disk space. Needed: 3"), storage.NotWritten, "(No space left on dev"),
        (ZeroDivisionError("a bug"), ZeroDivisionError, "a bug"),
    ],
)
def test_the_network_is_named_for_downloads_alone(tmp_path, monkeypatch, error, kind, said):
    monkeypatch.setattr(Stored, "open", lambda self: Fails(error))
    monkeypatch.setattr(tfds.core.DatasetInfo, "full_name", "cifar10/3.0.2")
    with pytest.raises(kind) as caught:
        preparing._make(Stored(tmp_path, "cifar10"), lambda text: None)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert type(caught.value) is kind


def test_another_process_may_make_it_where_there_are_no_locks(tmp_path, monkeypatch):
    stored = Stored(tmp_path, "digits")

    class Slower(Fails):
        def download_and_prepare(self, download_dir):
            stored.path.mkdir(parents=True)
            (stored.path / "dataset_info.json").write_text("{}")
            raise self.error

    monkeypatch.setattr(tfds.core.DatasetInfo, "full_name", "digits/1.0.0")
    monkeypatch.setattr(Stored, "open", lambda self: Slower(OSError(errno.ENOTEMPTY, "x")))
    preparing._make(stored, lambda text: None)


def test_a_killed_preparation_of_the_source_is_cleaned_too(tmp_path):
    for left in ("digits/incomplete.ABC_1.0.0", "digits_lt/exp_20/incomplete.DEF_1.0.0"):
        (tmp_path / left).mkdir(parents=True)
        (tmp_path / left / "half").write_text("")
    theirs = tmp_path / "cifar10" / "incomplete.XYZ_3.0.2"  # perhaps another program's
    theirs.mkdir(parents=True)
    data = Data(name="digits", imbalance_factor=20.0, dir=str(tmp_path))
    datasets.prepare(data, lambda text: None)
    assert half_made(tmp_path) == [theirs]
    assert np.sum(datasets.load(data).info.class_counts) == 417


def test_a_factor_that_no_class_survives_leaves_nothing_behind(tmp_path):
    data = Data(dir=str(tmp_path), imbalance_factor=1000.0)
    with pytest.raises(UserError, match="it can be at most 124"):
        datasets.prepare(data, lambda text: None)
    assert not list((tmp_path / "digits_lt").glob("exp_*"))


def test_the_lock_is_of_one_data_set(tmp_path):
    said = []
    with contextlib.ExitStack() as held:
        for name in ("digits", "cifar10"):
            assert held.enter_context(preparing.alone(tmp_path, name, said.append))
    shutil.rmtree(tmp_path)
    with preparing.alone(pathlib.Path(tmp_path), "digits", said.append) as locked:
        assert locked
    assert not said


def test_a_missing_source_is_told_before_anything_is_made(tmp_path):
    said = []
    with pytest.raises(UserError, match="'cifar10' is not prepared in"):
        datasets.prepare(Data(name="cifar10", dir=str(tmp_path / "a")), said.append)
    assert said == [] and not list(tmp_path.iterdir())
