"""Data sets by name, and the splits that a run trains and evaluates on."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ltjax.config.choices import pick
from ltjax.config.settings import Data
from ltjax.data import splits
from ltjax.data.images import Images
from ltjax.data.info import DataInfo
from ltjax.data.sources import Source, tfds_long_tail
from ltjax.errors import UserError, shown
from ltjax.storage import Damaged


class Dataset(NamedTuple):
    """A row of DATASETS: the source of images, and how a network sees them."""

    about: str  # what it holds, and its source
    source: Source  # how it is prepared and opened
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]
    std: tuple[float, ...]
    pad: int  # pixels of random shift in training
    flip: bool  # whether mirrored images mean the same


# The constants of LDAM-DRW's code, for both CIFAR sets.
_CIFAR = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010), pad=4, flip=True)

DATASETS = {
    "digits": Dataset(
        "Handwritten digits, 8x8, within scikit-learn. Alpaydin and Kaynak, 1998.",
        tfds_long_tail("digits"),
        mean=(0.306,),
        std=(0.375,),
        pad=1,
        flip=False,
    ),
    "cifar10": Dataset(
        "Photographs, 32x32, 10 classes. Krizhevsky, 2009.", tfds_long_tail("cifar10"), **_CIFAR
    ),
    "cifar100": Dataset(
        "Photographs, 32x32, 100 classes. Krizhevsky, 2009.", tfds_long_tail("cifar100"), **_CIFAR
    ),
}


class Splits(NamedTuple):
    """A data set, ready to train on."""

    info: DataInfo
    train: Images
    validation: Images | None  # held out of the training set, if the config asks for it
    test: Images
    manifest: dict  # of the source

    def evaluated(self) -> dict[str, Images]:
        """What a run is evaluated on, the test split last."""
        held_out = {} if self.validation is None else {"validation": self.validation}
        return held_out | {"test": self.test}


def prepare(data: Data, tell: Callable[[str], None] = print) -> None:
    """Write what `load` reads, unless it is there.

    Args:
      data: which data set.
      tell: called with a line of text before each thing that takes time.

    Raises:
      UserError: if its source is not prepared and may not be downloaded, or nothing can be written.
    """
    pick(DATASETS, data.name, "data.name").source.prepare(data, tell)


def load(data: Data, tell: Callable[[str], None] = print) -> Splits:
    """Open a prepared data set, and check it against its manifest.

    A damaged one is put aside and made again, where what it is made of is good.

    Args:
      data: which data set.
      tell: called with a line of text if it is made again.

    Raises:
      UserError: if it is not prepared, or is damaged and cannot be made again.
    """
    dataset = pick(DATASETS, data.name, "data.name")
    source = dataset.source
    try:
        loaded = source.load(data)
    except Damaged:
        if source.repair is None:
            raise
        source.repair(data, tell)
        loaded = source.load(data)
    train, test, names, manifest = loaded
    return assembled(data, dataset, train, test, names, manifest)


def assembled(data, dataset: Dataset, train: Images, test: Images, names, manifest) -> Splits:
    """The splits of a data set: a part of the training set is held out if the config asks for it.

    Args:
      data: its name, validation and seed are read.
      dataset: how a network sees its images.
      train: all training images.
      test: the test split.
      names: of the classes, [C].
      manifest: of the source.

    Raises:
      UserError: if the share that is held out holds no image.
    """
    validation = None
    if data.validation:
        keep, held = splits.hold_out(train.label, data.validation, data.seed)
        if not len(held):
            raise UserError(
                f"config.data.validation is {data.validation}, too small to hold out one image of "
                f"any class. The largest class has {np.bincount(train.label).max()} images."
            )
        train, validation = train.take(keep), train.take(held)
    channels = int(train.shape[-1])
    for name, values, fits in (
        ("mean", dataset.mean, lambda value: 0 <= value <= 1),
        ("std", dataset.std, lambda value: 0 < value <= 1),
    ):
        if len(values) != channels or not all(map(fits, values)):
            raise UserError(
                f"The {name} of data set {data.name!r} is {shown(tuple(values))}. It must be one "
                f"number for each of {channels} channels, of images scaled to 0 to 1."
            )
    info = DataInfo(
        name=data.name,
        class_names=tuple(names),
        class_counts=np.bincount(train.label, minlength=len(names)),
        image_shape=tuple(int(size) for size in train.shape),
        mean=dataset.mean,
        std=dataset.std,
        pad=dataset.pad,
        flip=dataset.flip,
        num_validation=0 if validation is None else len(validation.label),
        num_test=len(test.label),
    )
    return Splits(info, train, validation, test, manifest)
