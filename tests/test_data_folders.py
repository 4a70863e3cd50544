"""Where data sets are looked for, and where they go if a folder is read-only."""

import shutil

import pytest

from ltjax.config.settings import Data
from ltjax.data import datasets, folders
from ltjax.data.stored import Stored
from ltjax.errors import UserError
from ltjax.storage import NotWritten

ODD = ("", "  ", "gs://bucket/tfds", "https://a.b/c", "a[1]", "a*", "a?", "a\x1b[2J", "a\nb", "\0")


def digits(folder):
    return Data(name="digits", imbalance_factor=20.0, dir=None if folder is None else str(folder))


def one_line(error):
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("folder", ODD)
@pytest.mark.parametrize("what", [datasets.prepare, datasets.load])
def test_an_odd_folder_is_refused_in_one_line(folder, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        what(digits(folder))
    assert one_line(caught).startswith("config.data.dir is ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ODD[:-1])  # no environment holds the last
def test_so_is_an_odd_default(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", folder)
    with pytest.raises(UserError) as caught:
        datasets.prepare(digits(None))
    assert one_line(caught).startswith("TFDS_DATA_DIR is ")
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home[1]"))
    with pytest.raises(UserError, match="patterns of paths"):
        datasets.prepare(digits(None))
    assert not list(tmp_path.iterdir())


def test_a_tilde_and_a_relative_path_are_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("~/tfds", "tfds"):
        datasets.prepare(digits(folder), lambda text: None)
        assert datasets.load(digits(folder)).info.num_train == 417
    assert [path.name for path in tmp_path.iterdir()] == ["tfds"]


def test_the_default_is_that_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "a"))
    assert folders.given(None) == tmp_path / "a"
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.given(None) == tmp_path / "tensorflow_datasets"


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    path = tmp_path / "tfds"
    path.write_text("")
    with pytest.raises(UserError, match=r"tfds is a file, not a folder\. Give another"):
        datasets.prepare(digits(path))
    with pytest.raises(UserError) as caught:
        datasets.prepare(digits(path / "below"))
    assert "cannot be written (Not a directory)" in one_line(caught)


@pytest.fixture
def shared(tmp_path, as_a_user, monkeypatch):
    """A prepared source in a folder that this user may only read."""
    folder = tmp_path / "shared"
    datasets.prepare(digits(folder), lambda text: None)
    shutil.rmtree(folder / "digits_lt")
    as_a_user(tmp_path)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    yield folder
    for path in tmp_path.rglob("*"):
        path.chmod(0o755)


def test_the_tail_of_a_read_only_source_goes_to_a_folder_of_the_users_own(shared, tmp_path):
    told, own = [], tmp_path / "own" / "ltjax"
    for _ in range(2):
        datasets.prepare(digits(shared), told.append)
        assert datasets.load(digits(shared), told.append).info.num_train == 417
    assert told == [
        f"{shared} cannot be written: the long-tailed set goes to {own}.",
        f"Preparing digits_lt/exp_20/1.0.0 in {own}/digits_lt/exp_20/1.0.0",
    ]
    assert not (own / "digits").exists() and not (shared / "digits_lt").exists()


def test_a_damaged_tail_in_a_read_only_folder_is_made_again_elsewhere(shared, tmp_path):
    place = shared / "digits_lt" / "exp_20" / "1.0.0"
    shared.chmod(0o755)
    place.mkdir(parents=True)
    for path in (shared, place, place.parent):
        path.chmod(0o555)
    told = []
    assert datasets.load(digits(shared), told.append).info.num_train == 417
    assert "It cannot be put aside there. It is made again in" in told[0]
    assert place.is_dir() and not list(shared.rglob("damaged*"))
    assert datasets.load(digits(shared), told.append).info.num_train == 417
    assert len(told) == 2


def test_without_any_place_one_line_says_so(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(shared))
    with pytest.raises(NotWritten) as caught:
        datasets.prepare(digits(shared))
    assert one_line(caught) == (
        f"{shared} cannot be written (Permission denied); set config.data.dir to a folder that "
        f"can be."
    )
    with pytest.raises(NotWritten) as caught:  # misspelt, or of another user
        datasets.prepare(digits(shared / "missing"))
    assert f"{shared}/missing cannot be written (Permission denied)" in one_line(caught)


def test_nothing_is_left_by_looking_whether_a_folder_can_be_written(tmp_path):
    assert folders.refusal(tmp_path / "a" / "b") is None
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    assert folders.place(str(tmp_path), lambda folder: Stored(folder, "digits")).folder == tmp_path
