"""Files are written whole or not at all, and what the system refuses is said in one line."""

import errno
import os

import pytest

from ltjax import storage
from ltjax.errors import UserError


def test_a_file_is_written_whole_or_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    storage.write_json(path, {"a": [1, 2.5, None]})
    assert storage.read_json(path, "") == {"a": [1, 2.5, None]}

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(storage.NotWritten, match=r"report\.json cannot be written .No space left"):
        storage.write_json(path, {"a": 2})
    assert storage.read_json(path, "") == {"a": [1, 2.5, None]}
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(ValueError):
        storage.write_json(tmp_path / "report.json", {"nll": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_file_is_named_with_its_remedy(tmp_path, content):
    path = tmp_path / "data.json"
    assert storage.read_json(path, "Delete it.") is None
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"data\.json is damaged: it is not JSON\. Delete it\."):
        storage.read_json(path, "Delete it.")


FULL = "No space left on device"


def wrapped(error):
    try:
        raise ValueError("a library's own words") from error
    except ValueError as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EROFS, "other words"), "Read-only file system"),
        (wrapped(OSError(errno.EDQUOT, "x")), "Disk quota exceeded"),
        (ValueError("RESOURCE_EXHAUSTED: [OS error 28: ENOSPC No space left on device]"), FULL),
        (ExceptionGroup("of tasks", [KeyError(1), OSError(errno.EFBIG, "")]), None),
        (ExceptionGroup("of tasks", [KeyError(1), OSError(errno.EFBIG, "x")]), "File too large"),
        (KeyError("checkpoint"), None),
        (ZeroDivisionError(), None),
    ],
)
def test_the_reason_is_the_systems_however_it_is_wrapped(error, said):
    assert storage.reason(error) == said


def test_a_bug_is_not_taken_for_the_systems_refusal(tmp_path):
    with pytest.raises(KeyError), storage.writing(tmp_path):
        raise KeyError("a bug")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "must be the path of a folder"),
        ("  ", "must be the path of a folder"),
        ("gs://bucket/run", "not a local folder"),
        ("runs/w[2]x", "patterns of paths"),
        ("runs/a*", "patterns of paths"),
        ("runs/a?", "patterns of paths"),
        ("runs/a\x1b[31m", "cannot be printed"),
        ("runs/a\nb", "cannot be printed"),
        ("~nobody-of-this-name/x", "home"),
    ],
)
def test_a_path_that_a_library_would_misread_is_refused(path, said):
    with pytest.raises(UserError) as caught:
        storage.usable(path, "--workdir")
    assert said in str(caught.value) and "--workdir is" in str(caught.value)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_folder_above_counts_too(tmp_path, monkeypatch):
    (tmp_path / "a[1]").mkdir()
    monkeypatch.chdir(tmp_path / "a[1]")
    with pytest.raises(UserError, match="patterns"):
        storage.usable("runs/x", "--workdir")


@pytest.mark.parametrize(
    "name", ["plain", "mit leerzeichen", "ü, 日本", "a'b", "100%", "-x", "{a}"]
)
def test_other_paths_are_taken_as_they_are(tmp_path, name):
    assert storage.usable(tmp_path / name, "--workdir") == tmp_path / name


def test_a_leading_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.usable("~/runs", "--workdir") == tmp_path / "runs"


def test_what_is_moved_aside_overwrites_nothing(tmp_path):
    for content in "ab":
        (tmp_path / "log").write_text(content)
        storage.aside(tmp_path / "log")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"damaged-1-log": "a", "damaged-2-log": "b"}
