"""A data set in a folder of TFDS: where it is, whether it is there, and what can be read of it.

What cannot be read is told in one line, by its cause: damage, or the system's refusal.
"""

import contextlib
import importlib.util
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from ltjax import storage
from ltjax.data.encoded import Row
from ltjax.errors import UserError, plain, shortened, shown


class DamagedSet(storage.Damaged):
    """A prepared data set is not what was written."""

    def __init__(self, what: str, remedy: str, path: pathlib.Path):
        """what: a sentence; remedy: another one; path: what is put aside to make it again."""
        super().__init__(f"{what} {remedy}")
        self.what, self.path = what, path


class Stored(NamedTuple):
    """A data set of TFDS at its place, prepared or not.

    folder: of TFDS, with all data sets.
    name: of the data set.
    config: of a long-tailed one, a ltjax.data.builders.LongTailed.
    source_dir: the TFDS folder with the source of a long-tailed one; None if it is the same.
    """

    folder: str | os.PathLike
    name: str
    config: Any = None
    source_dir: str | os.PathLike | None = None

    @property
    def path(self) -> pathlib.Path:
        """The folder of its files."""
        version = str(tfds.builder_cls(self.name).VERSION)
        config = [self.config.name] if self.config else []
        return pathlib.Path(self.folder, self.name, *config, version)

    @property
    def ours(self) -> bool:
        """Whether it is made on this machine, and so can be made again without a download."""
        return tfds.builder_cls(self.name).__module__.startswith("ltjax.")

    def exists(self) -> bool:
        """Whether there is something at its place, whole or damaged.

        Raises:
          UserError: if the system does not let us look.
        """
        return self._file_in_the_way() is not None or _is_folder(self.path)

    def open(self) -> tfds.core.DatasetBuilder:
        """Its builder; if the data set is not prepared, it is to be prepared as array_record.

        Raises:
          DamagedSet: if it is there, but not as it was written.
          UserError: if the system does not let us read it.
        """
        there = self.exists()
        how = {} if there else {"file_format": "array_record"}
        if self.config:
            listed = self.config.name in tfds.builder_cls(self.name).builder_configs
            # TFDS wants its listed configs by name
            how["config"] = self.config.name if listed else self.config
            how["source_dir"] = self.source_dir
        if there and (file := self._file_in_the_way()):
            raise self.damaged(f"{file} is a file", file)
        with self.telling():
            if there and not (self.path / "dataset_info.json").exists():  # raises if it cannot look
                raise self.damaged("dataset_info.json is missing")
            return tfds.builder(self.name, data_dir=os.fspath(self.folder), **how)

    @contextlib.contextmanager
    def reading(self) -> Iterator[tfds.core.DatasetBuilder]:
        """Its builder, for reading; errors of what is done with it are told as damage.

        Raises:
          DamagedSet: if it is there, but not as it was written.
          UserError: if it is not prepared or cannot be read, with what to do.
        """
        if not self.exists():
            raise self.missing()
        builder = self.open()
        with self.telling():
            yield builder

    def read(self, split: str) -> list[Row]:
        """All examples of a split, in the order of their ids, with the images still encoded.

        Raises:
          UserError: as `reading`, or if it is in a format that only TensorFlow reads.
        """
        with self.reading() as builder:
            decoders = {"image": tfds.decode.SkipDecoding()}
            file_format = builder.info.file_format
            if file_format is tfds.core.FileFormat.ARRAY_RECORD:
                self._count(builder.info.splits[split])
                rows = list(builder.as_data_source(split, decoders=decoders))
            elif has_tensorflow() and not self.ours:
                rows = list(tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders)))
            else:
                raise UserError(
                    f"Data set {self.name!r} in {self.path} is stored as {file_format.value}, "
                    f"which only TensorFlow reads; choose another config.data.dir and prepare it "
                    f"there as array_record (--config.data.download=True does)."
                )
            classes = builder.info.features["label"].num_classes
            if not rows or not all(0 <= row["label"] < classes for row in rows):
                raise self.damaged(f"its {split} split is empty or has other labels")
            return sorted(rows, key=lambda row: row["id"])

    def missing(self) -> UserError:
        """The error where it is not prepared."""
        return UserError(
            f"Data set {self.name!r} is not prepared in {self.path}. To have TFDS download and "
            f"prepare it, add --config.data.download=True; if it is elsewhere, set "
            f"config.data.dir."
        )

    def _count(self, split: tfds.core.SplitInfo) -> None:
        """TFDS reads as many examples as its description says, and not what else is there."""
        from array_record.python import array_record_module  # only who reads data needs it

        found = []
        for path in split.filepaths:
            with contextlib.closing(array_record_module.ArrayRecordReader(str(path))) as reader:
                found.append(reader.num_records())
        if found != split.shard_lengths:
            raise self.damaged(f"its files hold {found} examples, not {split.shard_lengths}")

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Around what is done with its content: errors are told by their cause."""
        try:
            yield
        except (UserError, MemoryError, ImportError):
            raise
        except Exception as error:  # libraries raise anything where a file is damaged
            raise self._unreadable(error) from error

    def _file_in_the_way(self) -> pathlib.Path | None:
        """What is a file, and should be a folder with the data set."""
        root = pathlib.Path(self.folder)
        if os.path.lexists(root) and not _is_folder(root):
            raise UserError(f"{root} is a file, not a folder. Give another config.data.dir.")
        below = [folder for folder in self.path.parents if folder.is_relative_to(root / self.name)]
        for folder in (*reversed(below), self.path):
            if not _is_folder(folder):
                return folder if os.path.lexists(folder) else None
        return None

    def _unreadable(self, error: Exception) -> UserError:
        why = storage.reason(error)
        if why in storage.NOT_DAMAGE:
            return UserError(f"Data set {self.name!r} in {self.path} cannot be read ({why}).")
        if why is None and isinstance(error, KeyError):
            why = f"{shown(error.args[0])} is missing"
        return self.damaged(why or shortened(plain(str(error))) or type(error).__name__)

    def damaged(self, why: str, path: pathlib.Path | None = None) -> DamagedSet:
        """The error for damage; `path` is what to delete, by default the folder of its files."""
        path = path or self.path
        again = "" if self.ours else " with --config.data.download=True downloads and"
        return DamagedSet(
            f"Data set {self.name!r} in {self.path} is damaged ({why}).",
            f"Delete {path}; the next run{again} prepares it again.",
            path,
        )


def _is_folder(path: pathlib.Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({storage.reason(error)}). Give another config.data.dir."
        ) from error


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; it is not imported."""
    return importlib.util.find_spec("tensorflow") is not None
