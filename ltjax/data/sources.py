"""Sources of images: how a data set is prepared once, and then read.

Nothing here imports TensorFlow, and nothing is downloaded unless the config asks for it.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from ltjax.config.settings import Data
from ltjax.data import builders, splits
from ltjax.data.images import Images, InMemory
from ltjax.errors import UserError


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
    load: (data) -> Loaded.
    """

    prepare: Callable[[Data, Callable[[str], None]], None]
    load: Callable[[Data], Loaded]


def tfds_long_tail(name: str) -> Source:
    """A data set of TFDS, whose training set gets a long tail (ltjax.data.builders)."""

    def builder_of(data):
        config = builders.LongTailed(data.imbalance, data.imbalance_factor, data.seed)
        if config.name in tfds.builder_cls(f"{name}_lt").builder_configs:
            config = config.name  # TFDS wants its listed configs by name
        return builders.open_builder(f"{name}_lt", data.dir, config)

    def prepare(data, tell):
        builder = builder_of(data)
        if builder.is_prepared():
            return
        source = builders.open_builder(name, data.dir)
        bundled = isinstance(source, builders.Digits)  # made along with its long-tailed version
        if data.download and not source.is_prepared() and not bundled:
            if not builders.has_tensorflow():
                raise UserError(
                    f"Preparing {name!r} requires TensorFlow, which is missing. Run: "
                    f"pip install -e '.[prepare]'. Training does not need it."
                )
            _prepare(source, tell)
        _prepare(builder, tell)

    def load(data):
        builder = builder_of(data)
        builders.check_readable(builder)
        manifest = builder.info.metadata["manifest"]
        if manifest["train"]["rule"] != builder.builder_config.rule:
            raise UserError(
                f"{builder.data_path} holds another split ({manifest['train']['rule']}) than its "
                f"name says. Delete that folder; the next run prepares it again."
            )
        train, test = (_read(builder, split, manifest[split]) for split in ("train", "test"))
        return Loaded(train, test, builder.info.features["label"].names, manifest)

    return Source(prepare, load)


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


def _prepare(builder: tfds.core.DatasetBuilder, tell: Callable[[str], None]) -> None:
    tell(f"Preparing {builder.info.full_name} in {builder.data_path}")
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints what was just told
            builder.download_and_prepare()
    except OSError as error:
        raise UserError(
            f"Data set {builder.name!r} could not be prepared in {builder.data_path} ({error}). "
            f"Check the network, and that config.data.dir is a folder you can write to."
        ) from error


def _read(builder: tfds.core.DatasetBuilder, split: str, manifest: dict) -> InMemory:
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
    return InMemory(image, label)
