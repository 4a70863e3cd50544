"""Data sets as TFDS sees them, and as images in memory."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ltjax.config.settings import Data
from ltjax.data import builders, datasets, splits
from ltjax.data.encoded import decode
from ltjax.data.images import InMemory, evaluation_batches
from ltjax.data.stored import Stored


@pytest.fixture(scope="module")
def digits(data_dir):
    data = Data(name="digits", imbalance_factor=20.0, dir=data_dir)
    datasets.prepare(data, tell=lambda text: None)
    return data


def test_digits_are_scikit_learns(digits, data_dir):
    from sklearn.datasets import load_digits

    source = tfds.data_source("digits", split="train+test", data_dir=data_dir)
    original = load_digits()
    assert len(source) == len(original.images) == 1797
    for row in (source[i] for i in range(0, 1797, 100)):
        index = int(row["id"])
        np.testing.assert_array_equal(
            row["image"][..., 0], np.round(original.images[index] * 255 / 16)
        )
        assert row["label"] == original.target[index]


def test_the_long_tailed_digits_are_the_rule_and_the_selection(digits, data_dir):
    loaded = datasets.load(digits)
    counts = [124, 88, 63, 45, 32, 23, 16, 12, 8, 6]  # floor(124 * 20^(-j / 9))
    np.testing.assert_array_equal(loaded.info.class_counts, counts)
    np.testing.assert_array_equal(np.bincount(loaded.test.label), 50)
    source = Stored(data_dir, "digits").read("train")
    labels = np.array([row["label"] for row in source])
    chosen = np.sort(splits.select(labels, np.array(counts), seed=0))
    np.testing.assert_array_equal(loaded.train.image, decode(source, (8, 8, 1))[chosen])
    np.testing.assert_array_equal(loaded.train.label, labels[chosen])


def test_anyone_can_read_a_long_tailed_set_with_plain_tfds(digits, data_dir):
    builder = tfds.builder("digits_lt/exp_20", data_dir=data_dir, file_format="array_record")
    assert builder.info.splits["train"].num_examples == 417
    manifest = builder.info.metadata["manifest"]["train"]
    assert manifest["class_counts"][0] == 124 and "seed 0" in manifest["rule"]
    config = builders.LongTailed("step", 7.5, seed=3)
    other = tfds.data_source(
        "digits_lt",
        split="train",
        data_dir=data_dir,
        builder_kwargs={"config": config, "file_format": "array_record"},
        download=True,
    )
    labels = [row["label"] for row in other]
    np.testing.assert_array_equal(np.bincount(labels), [124] * 5 + [int(124 / 7.5)] * 5)


def test_a_validation_part_is_cut_from_the_training_set_alone(digits, data_dir):
    whole = datasets.load(digits)
    data = Data(name="digits", imbalance_factor=20.0, dir=data_dir, validation=0.2)
    cut = datasets.load(data)
    assert len(cut.train.label) + len(cut.validation.label) == len(whole.train.label)
    np.testing.assert_array_equal(
        np.bincount(cut.validation.label), [24, 17, 12, 9, 6, 4, 3, 2, 1, 1]
    )
    np.testing.assert_array_equal(cut.info.class_counts, np.bincount(cut.train.label))
    np.testing.assert_array_equal(cut.test.image, whole.test.image)


@pytest.mark.slow  # reads 60,000 images twice
@pytest.mark.parametrize("name, classes", [("cifar10", 10), ("cifar100", 100)])
def test_cifar_lt_has_the_published_counts(name, classes, tmp_path):
    """On the real images, read where TFDS keeps them; the long-tailed copy goes elsewhere."""
    source = tfds.builder(name, file_format="array_record")
    if not source.is_prepared():
        pytest.skip(f"{name} is not prepared in {source.data_path}")
    (tmp_path / name).symlink_to(pathlib.Path(source.data_path).parent)
    data = Data(name=name, imbalance_factor=100.0, dir=str(tmp_path))
    datasets.prepare(data, tell=lambda text: None)
    loaded = datasets.load(data)
    expected = splits.long_tailed_counts(classes, 50_000 / classes, 100)
    np.testing.assert_array_equal(loaded.info.class_counts, expected)
    assert loaded.test.image.shape == (10_000, 32, 32, 3)
    assert loaded.info.class_counts.sum() == {"cifar10": 12_406, "cifar100": 10_847}[name]


def test_tensorflow_is_not_imported(digits):
    code = (
        "import sys; import ltjax.train; from ltjax.data import datasets;"
        "from ltjax.config.settings import Data;"
        f"datasets.load(Data(name='digits', imbalance_factor=20.0, dir={digits.dir!r}));"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_last_batch_of_an_evaluation_is_filled_up_and_masked():
    images = InMemory(np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2, 1), np.arange(7))
    batches = list(evaluation_batches(images, 4))
    assert [batch["image"].shape for batch in batches] == [(4, 2, 2, 1)] * 2
    mask = np.concatenate([batch["mask"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    np.testing.assert_array_equal(mask, [1] * 7 + [0])
    np.testing.assert_array_equal(labels[mask > 0], np.arange(7))
