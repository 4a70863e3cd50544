"""TFDS builders: handwritten digits, and long-tailed versions of balanced data sets.

After `import ltjax.data.builders`, TFDS knows `digits`, `digits_lt`, `cifar10_lt` and
`cifar100_lt`, each long-tailed one with a config per kind and imbalance factor:

    tfds.data_source("cifar100_lt/exp_100")
    tfds.data_source("cifar100_lt", builder_kwargs=dict(config=LongTailed("exp", 37.0, seed=3)))

The long-tailed builders read their source from the same data_dir, unless they are given another
`source_dir`. Where TensorFlow is not installed, everything is stored as array_record, the one
format that TFDS then writes and reads.
"""

import dataclasses
import io
import os
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ltjax.data import splits
from ltjax.data.class_names import CIFAR10, CIFAR100, DIGITS
from ltjax.data.encoded import Row, decode
from ltjax.data.stored import Stored, has_tensorflow

DIGITS_TEST_PER_CLASS = 50
WHOLE_TEST_SPLIT = "the whole test split"


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


class _Info(tfds.core.DatasetInfo):
    """Of a data set that is described here alone."""

    def initialize_from_bucket(self) -> None:
        """TFDS would make an empty temporary folder, and look for a description elsewhere."""


class Ours(tfds.core.GeneratorBasedBuilder):
    """A data set that is made on this machine, without a download."""

    SHAPE: tuple[int, int, int]  # H, W, channels
    CLASS_NAMES: tuple[str, ...]

    def __init__(self, **how: Any):
        super().__init__(**how)
        # Without TensorFlow, TFDS's default format can be neither written nor read.
        if not (how.get("file_format") or self.info.initialized or has_tensorflow()):
            self.info.set_file_format("array_record", override=True)

    def _info(self) -> _Info:
        return _Info(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=self.SHAPE, encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=self.CLASS_NAMES),
                    "id": tfds.features.Text(),  # position in the source's files
                }
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(),
        )


class Digits(Ours):
    """1,797 handwritten digits of 8 x 8 pixels, from scikit-learn's bundled copy.

    The last 50 images of each class are the test split, the rest is the training split.
    """

    VERSION = tfds.core.Version("1.0.0")
    _HOMEPAGE = "https://archive.ics.uci.edu/dataset/80"
    SHAPE, CLASS_NAMES = (8, 8, 1), DIGITS

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


class _LongTailedBuilder(Ours):
    """A balanced source with a long-tailed training split; the test split stays whole."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        LongTailed(kind, float(factor))
        for kind in ("exp", "step")
        for factor in (100, 200, 50, 20, 10)
    ]
    SOURCE: str

    def __init__(self, *, source_dir: str | os.PathLike | None = None, **how: Any):
        self._source_dir = source_dir
        super().__init__(**how)

    def _split_generators(self, dl_manager):
        del dl_manager  # the source is there, or an error
        source = Stored(self._source_dir or self.data_dir_root, self.SOURCE)
        if source.ours and not source.exists():  # bundled: made on the way
            source.open().download_and_prepare()
        train, test = (source.read(split) for split in ("train", "test"))
        config = self.builder_config
        labels = np.array([row["label"] for row in train])
        num_classes = len(self.CLASS_NAMES)
        # Equal to len(labels) / C where the source is balanced, as the authors' rule has it.
        largest = float(np.bincount(labels, minlength=num_classes).min())
        counts = splits.long_tailed_counts(
            num_classes, largest, config.imbalance_factor, config.kind
        )
        splits.check_counts(counts, config.imbalance_factor)
        chosen = splits.select(labels, counts, config.seed)
        everything = np.arange(len(test))
        with source.telling():  # an image that cannot be decoded is the source's
            self.info.metadata["manifest"] = {
                "train": self._manifest(train, chosen, config.rule),
                "test": self._manifest(test, everything, WHOLE_TEST_SPLIT),
            }
        return {
            "train": self._generate_examples(train, chosen),
            "test": self._generate_examples(test, everything),
        }

    def _manifest(self, rows: list[Row], chosen: np.ndarray, rule: str) -> dict[str, Any]:
        picked = [rows[index] for index in chosen]
        label = np.array([row["label"] for row in picked])
        image = decode(picked, self.SHAPE)
        return {
            "rule": rule,
            "class_counts": np.bincount(label, minlength=len(self.CLASS_NAMES)).tolist(),
            "sha256": splits.checksum(image, label, np.asarray(chosen)),
        }

    def _generate_examples(self, rows, chosen):
        for index in chosen:
            row = rows[index]
            example = {"image": row["image"], "label": int(row["label"]), "id": f"{index:05d}"}
            yield int(index), example


class DigitsLt(_LongTailedBuilder):
    """Long-tailed handwritten digits."""

    SOURCE = "digits"
    SHAPE, CLASS_NAMES = (8, 8, 1), DIGITS


class Cifar10Lt(_LongTailedBuilder):
    """CIFAR-10-LT by the rule of Cui et al. 2019 and the selection of Cao et al. 2019."""

    SOURCE = "cifar10"
    SHAPE, CLASS_NAMES = (32, 32, 3), CIFAR10


class Cifar100Lt(_LongTailedBuilder):
    """CIFAR-100-LT by the rule of Cui et al. 2019 and the selection of Cao et al. 2019."""

    SOURCE = "cifar100"
    SHAPE, CLASS_NAMES = (32, 32, 3), CIFAR100
