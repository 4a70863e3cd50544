"""A damaged data set is told from one that may not be read, and made again where that is possible.

What is read is what was written, whatever happens to any file.
"""

import dataclasses
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from ltjax.config.settings import Data
from ltjax.data import datasets, stored
from ltjax.data.stored import DamagedSet, Stored
from ltjax.errors import UserError


def data(folder, **more):
    return Data(name="digits", imbalance_factor=20.0, dir=str(folder), **more)


def read(folder):
    """(what was told, the data)."""
    told = []
    datasets.prepare(data(folder), told.append)
    return told, datasets.load(data(folder), told.append)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    return folder, read(folder)[1]


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copytree(good[0], tmp_path / "tfds")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 2
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def replace(path):
    path.unlink()
    path.mkdir()


HOW = (flip, cut, empty, pathlib.Path.unlink, replace)
CASES = [(name, how) for name in ("dataset_info.json", "metadata.json", "train") for how in HOW]
CASES += [("test", flip), ("features.json", cut), ("label.labels.txt", flip)]


def assert_same(found, expected):
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(found, split).image, getattr(expected, split).image)
        np.testing.assert_array_equal(getattr(found, split).label, getattr(expected, split).label)
    assert found.info.class_names == expected.info.class_names


@pytest.mark.parametrize(("name", "how"), CASES)
@pytest.mark.parametrize("of", [pytest.param("digits", marks=pytest.mark.slow), "digits_lt"])
def test_whatever_is_damaged_the_right_data_are_read(good, copy, of, name, how):
    (path,) = (path for path in (copy / of).rglob("*1.0.0/*") if name in path.name)
    how(path)
    if of == "digits":  # so that the source is read
        shutil.rmtree(copy / "digits_lt")
    told, found = read(copy)
    assert_same(found, good[1])
    said = [line for line in told if not line.startswith("Preparing")]
    kept = list(copy.rglob("damaged-1-1.0.0"))
    assert len(said) == len(kept) <= 1  # nothing is put aside without a word, and nothing deleted
    if name in ("train", "test", "dataset_info.json") or (of, name) == (
        "digits_lt",
        "metadata.json",
    ):
        assert f"Data set '{of}' in {path.parent} is damaged (" in said[0], said
        assert said[0].endswith("and made again.") and str(kept[0]) in said[0]
        assert "\n" not in said[0]
        assert read(copy)[0] == []


@pytest.mark.parametrize("where", ["digits_lt", "digits_lt/exp_20", "digits_lt/exp_20/1.0.0"])
def test_a_file_in_place_of_a_folder_is_put_aside(good, copy, where):
    shutil.rmtree(copy / where)
    (copy / where).write_text("mine")
    told, found = read(copy)
    assert f"({copy / where} is a file). It is kept as" in told[0]
    assert_same(found, good[1])
    (kept,) = copy.rglob("damaged-1-*")
    assert kept.read_text() == "mine"


def cifar(folder):
    """A folder for CIFAR-10 that holds anything but the data set."""
    path = Stored(folder, "cifar10").path
    path.mkdir(parents=True)
    (path / "dataset_info.json").write_text("{")
    return path


def test_a_damaged_source_that_was_downloaded_is_left_alone(tmp_path):
    path = cifar(tmp_path)
    with pytest.raises(DamagedSet) as caught:
        datasets.prepare(Data(name="cifar10", dir=str(tmp_path)), lambda text: None)
    assert re.fullmatch(
        rf"Data set 'cifar10' in {path} is damaged \(.*\)\. Delete {path}; the next run with "
        rf"--config.data.download=True downloads and prepares it again\.",
        str(caught.value),
    )
    assert (path / "dataset_info.json").read_text() == "{"


def test_a_tail_is_put_aside_only_if_its_source_is_good(copy):
    tail = copy / "cifar10_lt" / "exp_20" / "1.0.0"
    tail.mkdir(parents=True)
    with pytest.raises(DamagedSet, match=f"'cifar10_lt' in {tail} is damaged"):
        datasets.load(Data(name="cifar10", imbalance_factor=20.0, dir=str(copy)))
    cifar(copy)
    with pytest.raises(DamagedSet, match="'cifar10' in .* is damaged"):
        datasets.load(Data(name="cifar10", imbalance_factor=20.0, dir=str(copy)))
    assert tail.is_dir()


def test_what_another_process_made_again_is_used(good, copy):
    from ltjax.data.datasets import DATASETS

    told = []
    DATASETS["digits"].source.repair(data(copy), told.append)
    assert told == [] and not list(copy.rglob("damaged*"))


@pytest.mark.parametrize(
    "where",
    ["", "digits_lt", "digits_lt/exp_20/1.0.0", "dataset_info.json", "metadata.json", "train"],
)
def test_lack_of_permission_is_no_damage(copy, as_a_user, where):
    paths = [copy / where] if "/" in where or not where or where == "digits_lt" else None
    paths = paths or [
        path for path in (copy / "digits_lt/exp_20/1.0.0").iterdir() if where in path.name
    ]
    as_a_user(copy)
    paths[0].chmod(0)
    try:
        with pytest.raises(UserError) as caught:
            read(copy)
    finally:
        paths[0].chmod(0o755)
    said = str(caught.value)
    assert "cannot be read (Permission denied)" in said and "Delete" not in said
    assert "\n" not in said and not isinstance(caught.value, DamagedSet)
    assert not list(copy.rglob("damaged*"))


def test_an_image_of_another_kind_in_the_source_is_told_as_damage(good, copy, monkeypatch):
    """The check sums of the container are right: somebody wrote it so."""
    from ltjax.data import builders, preparing

    def generate(self, image, label, rows):
        for row in rows:
            yield int(row), {"image": b"%!PS-Adobe", "label": int(label[row]), "id": f"{row:05d}"}

    shutil.rmtree(copy)
    with monkeypatch.context() as hostile:
        hostile.setattr(builders.Digits, "_generate_examples", generate)
        hostile.setattr("tensorflow_datasets.features.Image.encode_example", lambda self, x: x)
        preparing._make(Stored(copy, "digits"), lambda text: None)
    told, found = read(copy)
    assert "(an image is no PNG of 8 x 8 pixels and 1 channels). It is kept as" in told[1], told
    assert_same(found, good[1])


def test_a_split_that_is_not_what_its_manifest_says_is_made_again(tmp_path):
    data = Data(name="digits", imbalance_factor=10.0, dir=str(tmp_path))
    datasets.prepare(data, tell=lambda text: None)
    good = datasets.load(data)
    (path,) = pathlib.Path(tmp_path).glob("digits_lt/exp_10/*/metadata.json")
    metadata = json.loads(path.read_text())
    metadata["manifest"]["train"]["sha256"] = "0" * 64
    path.write_text(json.dumps(metadata))
    told = []
    assert datasets.load(data, told.append).manifest == good.manifest
    assert "its train split is not what its manifest says: sha256 differ" in told[0]


@pytest.mark.parametrize("download", [False, True])
def test_a_data_set_that_only_tensorflow_reads_is_refused(tmp_path, monkeypatch, download):
    """As TFDS's own default leaves it: stored as tfrecord."""
    data = Data(name="digits", imbalance_factor=10.0, dir=str(tmp_path), download=download)
    datasets.prepare(data, tell=lambda text: None)
    (path,) = pathlib.Path(tmp_path).glob("digits/*/dataset_info.json")
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    other = dataclasses.replace(data, imbalance_factor=5.0)
    monkeypatch.setattr(stored, "has_tensorflow", lambda: False)
    with pytest.raises(UserError, match=r"'digits' .* stored as tfrecord.*config\.data\.dir"):
        datasets.prepare(other, tell=lambda text: None)
    (path,) = pathlib.Path(tmp_path).glob("digits_lt/exp_10/*/dataset_info.json")
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match=r"'digits_lt' .* stored as tfrecord"):
        datasets.load(data)


def test_a_split_under_anothers_name_is_put_aside(tmp_path):
    data = Data(name="digits", imbalance_factor=10.0, dir=str(tmp_path))
    datasets.prepare(data, tell=lambda text: None)
    folder = tmp_path / "digits_lt"
    (folder / "exp_10").rename(folder / "exp_5")
    told = []
    other = datasets.load(dataclasses.replace(data, imbalance_factor=5.0), told.append)
    assert "its train split is 'exp, imbalance factor 10, seed 0'" in told[0]
    assert other.info.class_counts.tolist()[-1] == 24  # floor(124 / 5)
