"""Sources of images: how a data set is prepared once, and then read.

Nothing here imports TensorFlow, and nothing is downloaded unless the config asks for it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.config.settings import Data
from ltjax.data import builders, folders, preparing, splits
from ltjax.data.encoded import decode
from ltjax.data.images import Images, InMemory
from ltjax.data.stored import DamagedSet, Stored
from ltjax.errors import UserError
from ltjax.storage import NotWritten


class Loaded(NamedTuple):
    """A data set as its source gives it: a training set, which may have a tail, and a test set."""

    train: Images
    test: Images
    class_names: Sequence[str]  # [C]
    manifest: dict[str, Any]  # {'train': {'rule', 'sha256', ...}}


class Source(NamedTuple):
    """How a data set is prepared and opened.

    prepare: (data, tell) writes what `load` reads, unless it is there; `tell` takes a line of text
      before each thing that takes time.
    load: (data) -> Loaded; raises ltjax.storage.Damaged if it is not what was written.
    repair: (data, tell) makes what is damaged again, if that is possible.
    """

    prepare: Callable[[Data, Callable[[str], None]], None]
    load: Callable[[Data], Loaded]
    repair: Callable[[Data, Callable[[str], None]], None] | None = None


def tfds_long_tail(name: str) -> Source:
    """A data set of TFDS, whose training set gets a long tail (ltjax.data.builders)."""

    def at(data):
        """The long-tailed set and its source, at their places."""
        config = builders.LongTailed(data.imbalance, data.imbalance_factor, data.seed)
        source = folders.place(data.dir, lambda folder: Stored(folder, name))
        tail = folders.place(
            data.dir, lambda folder: Stored(folder, f"{name}_lt", config, source.folder)
        )
        return tail, source

    def prepare(data, tell):
        tail, source = at(data)
        if tail.exists():
            return
        asked = folders.given(data.dir)
        if why := folders.refusal(tail.path):
            error = NotWritten(asked, why)
            error.kept = "set config.data.dir to a folder that can be"
            raise error
        if tail.folder != asked:
            tell(f"{asked} cannot be written: the long-tailed set goes to {tail.folder}.")
        preparing.prepare(tail, source, data.download, tell)

    def load(data):
        return _loaded(at(data)[0])

    def repair(data, tell):
        tail, source = at(data)
        with preparing.alone(tail.folder, name, tell) as locked:
            try:
                _loaded(tail)  # another process may have repaired it meanwhile
            except DamagedSet as damage:
                preparing.again(tail, source, damage, tell, locked)

    return Source(prepare, load, repair)


def of_arrays(train: InMemory, test: InMemory, class_names: Sequence[str]) -> Source:
    """Images that are in memory already.

    With config.data.imbalance_factor above 1, the training set gets a long tail by the rule of the
    other data sets; with 1 it is used unchanged.

    Args:
      train: u8[N, H, W, channels], labels from 0 to C - 1.
      test: of the same shape.
      class_names: [C].

    Raises:
      UserError: if they are anything else.
    """
    _check(train, test, class_names)

    def load(data):
        chosen, rule = np.arange(len(train.label)), "as given"
        if data.imbalance_factor > 1:
            largest = float(np.bincount(train.label, minlength=len(class_names)).min())
            counts = splits.long_tailed_counts(
                len(class_names), largest, data.imbalance_factor, data.imbalance
            )
            splits.check_counts(counts, data.imbalance_factor)
            chosen = splits.select(train.label, counts, data.seed)
            rule = f"{data.imbalance}, imbalance factor {data.imbalance_factor:g}, seed {data.seed}"
        kept = train.take(chosen)
        digest = splits.checksum(kept.image, kept.label, chosen)
        return Loaded(kept, test, class_names, {"train": {"rule": rule, "sha256": digest}})

    return Source(lambda data, tell: None, load)


def _check(train, test, class_names):
    classes = len(class_names)
    for name, images in (("training", train), ("test", test)):
        image, label = np.asarray(images.image), np.asarray(images.label)
        if image.dtype != np.uint8 or image.ndim != 4 or not len(image):
            raise UserError(
                f"The {name} images are {image.dtype}{list(image.shape)}; they must be "
                f"uint8[N, H, W, channels], N at least 1."
            )
        if image.shape[1:] != np.shape(train.image)[1:]:
            raise UserError(
                f"The {name} images are of shape {image.shape[1:]}, those of training of shape "
                f"{np.shape(train.image)[1:]}; they must be alike."
            )
        if label.shape != image.shape[:1] or not np.issubdtype(label.dtype, np.integer):
            raise UserError(
                f"The {name} labels are {label.dtype}{list(label.shape)}; they must be integers, "
                f"one for each of {len(image)} images."
            )
        if label.min() < 0 or label.max() >= classes:
            raise UserError(
                f"The {name} labels are from {label.min()} to {label.max()}; they must be from 0 "
                f"to {classes - 1}, for there are {classes} class names."
            )
    missing = np.flatnonzero(np.bincount(train.label, minlength=classes) == 0)
    if len(missing):
        raise UserError(f"Class {class_names[missing[0]]!r} has no training image; leave it out.")


def _loaded(tail: Stored) -> Loaded:
    with tail.reading() as builder:
        manifest = builder.info.metadata["manifest"]
        rules = {"train": tail.config.rule, "test": builders.WHOLE_TEST_SPLIT}
        for split, rule in rules.items():
            if manifest[split]["rule"] != rule:
                raise tail.damaged(f"its {split} split is {manifest[split]['rule']!r}")
        train, test = (_read(tail, builder.SHAPE, split, manifest[split]) for split in rules)
        return Loaded(train, test, builder.CLASS_NAMES, manifest)


def _read(tail: Stored, shape: tuple[int, int, int], split: str, manifest: dict) -> InMemory:
    rows = tail.read(split)
    label = np.array([row["label"] for row in rows], np.int64)
    image = decode(rows, shape)
    index = np.array([int(row["id"]) for row in rows])
    found = {
        "class_counts": np.bincount(label, minlength=len(manifest["class_counts"])).tolist(),
        "sha256": splits.checksum(image, label, index),
    }
    for what, value in found.items():
        if value != manifest[what]:
            raise tail.damaged(f"its {split} split is not what its manifest says: {what} differ")
    return InMemory(image, label)
