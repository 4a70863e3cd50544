"""TFDS builders: handwritten digits, and long-tailed versions of balanced data sets.

After `import ltjax.data.builders`, TFDS knows `digits`, `digits_lt`, `cifar10_lt` and
`cifar100_lt`, each long-tailed one with a config per kind and imbalance factor:

    tfds.data_source("cifar100_lt/exp_100")
    tfds.data_source("cifar100_lt", builder_kwargs=dict(config=LongTailed("exp", 37.0, seed=3)))

The long-tailed builders read their source from the same data_dir. Where TensorFlow is not
installed, everything is stored as array_record, the one format that TFDS then writes and reads.
"""

import dataclasses
import importlib.util
import io
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ltjax.data import splits
from ltjax.errors import UserError

DIGITS_TEST_PER_CLASS = 50


@dataclasses.dataclass
class LongTailed(tfds.core.BuilderConfig):
    """A long-tailed training set: kind 'exp' or 'step', imbalance factor, and selection seed."""

    kind: str = "exp"
    imbalance_factor: float = 100.0
    seed: int = 0

    def __init__(self, kind: str = "exp", imbalance_factor: float = 100.0, seed: int = 0):
        factor = f"{imbalance_factor:.10g}".replace(".", "p").replace("+", "")
        super().__init__(name=f"{kind}_{factor}" + (f"_seed{seed}" if seed else ""))
        self.kind, self.imbalance_factor, self.seed = kind, imbalance_factor, seed

    @property
    def rule(self) -> str:
        """How the training split comes about, for its manifest."""
        return f"{self.kind}, imbalance factor {self.imbalance_factor:g}, seed {self.seed}"


class _Builder(tfds.core.GeneratorBasedBuilder):
    def __init__(self, **how):
        super().__init__(**how)
        # Without TensorFlow, TFDS's default format can be neither written nor read.
        if not (how.get("file_format") or self.is_prepared() or has_tensorflow()):
            self.info.set_file_format("array_record", override=True)


class Digits(_Builder):
    """1,797 handwritten digits of 8 x 8 pixels, from scikit-learn's bundled copy.

    The last 50 images of each class are the test split, the rest is the training split.
    """

    VERSION = tfds.core.Version("1.0.0")
    _HOMEPAGE = "https://archive.ics.uci.edu/dataset/80"
    _CLASS_NAMES = tuple("0123456789")

    def _info(self):
        return _info(self, shape=(8, 8, 1), class_names=self._CLASS_NAMES)

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing to download
        from sklearn.datasets import load_digits  # 1 s of import, needed once

        digits = load_digits()
        image = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        test = np.sort(
            np.concatenate(
                [np.flatnonzero(digits.target == j)[-DIGITS_TEST_PER_CLASS:] for j in range(10)]
            )
        )
        train = np.setdiff1d(np.arange(len(image)), test)
        return {
            name: self._generate_examples(image, digits.target, rows)
            for name, rows in (("train", train), ("test", test))
        }

    def _generate_examples(self, image, label, rows):
        for row in rows:
            png = io.BytesIO()
            Image.fromarray(image[row, :, :, 0]).save(png, format="png")
            example = {"image": png.getvalue(), "label": int(label[row]), "id": f"{row:05d}"}
            yield int(row), example


class _LongTailedBuilder(_Builder):
    """A balanced source with a long-tailed training split; the test split stays whole."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        LongTailed(kind, float(factor))
        for kind in ("exp", "step")
        for factor in (100, 200, 50, 20, 10)
    ]
    SOURCE: str

    def _info(self):
        features = self._source().info.features
        return _info(self, shape=features["image"].shape, class_names=features["label"].names)

    def _source(self):
        return open_builder(self.SOURCE, self._data_dir_root)

    def _split_generators(self, dl_manager):
        del dl_manager  # the source is there, or an error
        source = self._source()
        if isinstance(source, Digits) and not source.is_prepared():  # bundled: made on the way
            source.download_and_prepare()
        check_readable(source, by_tensorflow_too=True)
        config = self.builder_config
        train, test = (read_encoded(source, split) for split in ("train", "test"))
        labels = np.array([row["label"] for row in train])
        num_classes = source.info.features["label"].num_classes
        # Equal to len(labels) / C where the source is balanced, as the authors' rule has it.
        largest = float(np.bincount(labels, minlength=num_classes).min())
        counts = splits.long_tailed_counts(
            num_classes, largest, config.imbalance_factor, config.kind
        )
        splits.check_counts(counts, config.imbalance_factor)
        chosen = splits.select(labels, counts, config.seed)
        everything = np.arange(len(test))
        self.info.metadata["manifest"] = {
            "train": _manifest(train, chosen, num_classes, config.rule),
            "test": _manifest(test, everything, num_classes, "the whole test split"),
        }
        return {
            "train": self._generate_examples(train, chosen),
            "test": self._generate_examples(test, everything),
        }

    def _generate_examples(self, rows, chosen):
        for index in chosen:
            row = rows[index]
            example = {"image": row["image"], "label": int(row["label"]), "id": f"{index:05d}"}
            yield int(index), example


class DigitsLt(_LongTailedBuilder):
    """Long-tailed handwritten digits."""

    SOURCE = "digits"


class Cifar10Lt(_LongTailedBuilder):
    """CIFAR-10-LT by the rule of Cui et al. 2019 and the selection of Cao et al. 2019."""

    SOURCE = "cifar10"


class Cifar100Lt(_LongTailedBuilder):
    """CIFAR-100-LT by the rule of Cui et al. 2019 and the selection of Cao et al. 2019."""

    SOURCE = "cifar100"


def open_builder(
    name: str, data_dir: str | None, config: str | LongTailed | None = None
) -> tfds.core.DatasetBuilder:
    """A data set as it is prepared in `data_dir`; if it is not, to be prepared as array_record."""
    builder = tfds.builder(name, data_dir=data_dir, config=config)
    if builder.is_prepared():
        return builder
    return tfds.builder(name, data_dir=data_dir, config=config, file_format="array_record")


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; it is not imported."""
    return importlib.util.find_spec("tensorflow") is not None


def check_readable(builder: tfds.core.DatasetBuilder, by_tensorflow_too: bool = False) -> None:
    """Refuse a data set that is not prepared, or in a format that cannot be read.

    Args:
      builder: of the data set.
      by_tensorflow_too: accept formats that need TensorFlow, if that is installed.

    Raises:
      UserError: with what to do.
    """
    where = builder.data_path
    if not builder.is_prepared():
        raise UserError(
            f"Data set {builder.name!r} is not prepared in {where}. To have TFDS download and "
            f"prepare it, add --config.data.download=True; if it is elsewhere, set config.data.dir."
        )
    file_format = builder.info.file_format
    readable = file_format is tfds.core.FileFormat.ARRAY_RECORD
    if not readable and not (by_tensorflow_too and has_tensorflow()):
        raise UserError(
            f"Data set {builder.name!r} in {where} is stored as {file_format.value}, which only "
            f"TensorFlow reads; choose another config.data.dir and prepare it there as "
            f"array_record (--config.data.download=True does)."
        )


def read_encoded(builder: tfds.core.DatasetBuilder, split: str) -> list[dict]:
    """All examples of a split, in the order of their ids, with the images still encoded."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    if builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD:
        source = builder.as_data_source(split, decoders=decoders)
    else:
        source = tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders))
    return sorted(source, key=lambda row: row["id"])


def decode(rows: list[dict]) -> np.ndarray:
    """The images of encoded examples, u8[N, H, W, channels]."""
    image = np.stack([np.asarray(Image.open(io.BytesIO(row["image"]))) for row in rows])
    return image if image.ndim == 4 else image[..., None]


def _info(builder, shape, class_names):
    return tfds.core.DatasetInfo(
        builder=builder,
        description=type(builder).__doc__,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=shape, encoding_format="png"),
                "label": tfds.features.ClassLabel(names=class_names),
                "id": tfds.features.Text(),  # position in the source's files
            }
        ),
        supervised_keys=("image", "label"),
        metadata=tfds.core.MetadataDict(),
    )


def _manifest(rows, chosen, num_classes, rule):
    picked = [rows[index] for index in chosen]
    label = np.array([row["label"] for row in picked])
    return {
        "rule": rule,
        "class_counts": np.bincount(label, minlength=num_classes).tolist(),
        "sha256": splits.checksum(decode(picked), label, np.asarray(chosen)),
    }
