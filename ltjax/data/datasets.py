"""Data sets by name, and how one becomes images in memory.

Nothing here imports TensorFlow, and nothing is downloaded unless the config asks for it.
"""

import contextlib
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from ltjax.config.choices import pick
from ltjax.config.settings import Data
from ltjax.data import builders, splits
from ltjax.data.images import Images
from ltjax.errors import UserError


class Dataset(NamedTuple):
    """How the images of a data set are shown to a network."""

    about: str  # what it holds, and its source
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]
    std: tuple[float, ...]
    pad: int  # pixels of random shift in training
    flip: bool  # whether mirrored images mean the same


# The constants of LDAM-DRW's code, for both CIFAR sets.
_CIFAR = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010), pad=4, flip=True)

DATASETS = {
    "digits": Dataset(
        "Handwritten digits, 8x8, within scikit-learn. Alpaydin and Kaynak, 1998.",
        mean=(0.306,),
        std=(0.375,),
        pad=1,
        flip=False,
    ),
    "cifar10": Dataset("Photographs, 32x32, 10 classes. Krizhevsky, 2009.", **_CIFAR),
    "cifar100": Dataset("Photographs, 32x32, 100 classes. Krizhevsky, 2009.", **_CIFAR),
}


class Splits(NamedTuple):
    """A data set, ready to train on."""

    dataset: Dataset
    train: Images
    validation: Images | None  # held out of the training set, if the config asks for it
    test: Images
    class_names: list[str]
    class_counts: np.ndarray  # i64[C], of `train`
    manifest: dict


def prepare(data: Data, tell: Callable[[str], None] = print) -> None:
    """Write the long-tailed data set into TFDS's folder, unless it is there.

    Args:
      data: which one.
      tell: called with a line of text before each thing that takes time.

    Raises:
      UserError: if its source is not prepared and may not be downloaded, or nothing can be written.
    """
    builder = _builder(data)
    if builder.is_prepared():
        return
    source = builders.open_builder(data.name, data.dir)
    bundled = isinstance(source, builders.Digits)  # made along with its long-tailed version
    if data.download and not source.is_prepared() and not bundled:
        if not builders.has_tensorflow():
            raise UserError(
                f"TFDS prepares {data.name!r} with TensorFlow, which is not installed: "
                f"pip install -e '.[prepare]', and run again. Training does without it."
            )
        _prepare(source, tell)
    _prepare(builder, tell)


def load(data: Data) -> Splits:
    """Read a prepared data set into memory and check it against its manifest.

    Raises:
      UserError: if it is not prepared, or is not what its manifest says.
    """
    dataset = pick(DATASETS, data.name, "data.name")
    builder = _builder(data)
    builders.check_readable(builder)
    manifest = builder.info.metadata["manifest"]
    if manifest["train"]["rule"] != builder.builder_config.rule:
        raise UserError(
            f"{builder.data_path} holds another split ({manifest['train']['rule']}) than its name "
            f"says. Delete that folder; the next run prepares it again."
        )
    train, test = (_read(builder, split, manifest[split]) for split in ("train", "test"))
    validation = None
    if data.validation:
        keep, held = splits.hold_out(train.label, data.validation, data.seed)
        if not len(held):
            raise UserError(
                f"config.data.validation is {data.validation}, too small a share to hold out an "
                f"image of any class; the largest has {np.bincount(train.label).max()}."
            )
        train, validation = train.take(keep), train.take(held)
    names = builder.info.features["label"].names
    class_counts = np.bincount(train.label, minlength=len(names))
    return Splits(dataset, train, validation, test, names, class_counts, manifest)


def _builder(data: Data) -> tfds.core.DatasetBuilder:
    pick(DATASETS, data.name, "data.name")
    name = f"{data.name}_lt"
    config = builders.LongTailed(data.imbalance, data.imbalance_factor, data.seed)
    if config.name in tfds.builder_cls(name).builder_configs:
        config = config.name  # TFDS wants its listed configs by name
    return builders.open_builder(name, data.dir, config)


def _prepare(builder: tfds.core.DatasetBuilder, tell: Callable[[str], None]) -> None:
    tell(f"Preparing {builder.info.full_name} in {builder.data_path}")
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints what was just told
            builder.download_and_prepare()
    except OSError as error:
        raise UserError(
            f"Data set {builder.name!r} could not be prepared in {builder.data_path} ({error}). "
            f"Is there a network, and is config.data.dir a folder that can be written?"
        ) from error


def _read(builder: tfds.core.DatasetBuilder, split: str, manifest: dict) -> Images:
    rows = builders.read_encoded(builder, split)
    label = np.array([row["label"] for row in rows], np.int64)
    image = builders.decode(rows)
    index = np.array([int(row["id"]) for row in rows])
    found = {
        "class_counts": np.bincount(label, minlength=len(manifest["class_counts"])).tolist(),
        "sha256": splits.checksum(image, label, index),
    }
    for what, value in found.items():
        if value != manifest[what]:
            raise UserError(
                f"The {split} split in {builder.data_path} is not what its manifest says "
                f"({what} differ). Delete that folder; the next run prepares it again."
            )
    return Images(image, label)
