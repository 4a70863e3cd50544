"""The folder of a run: its config, its lock and its log. Only process 0 writes."""

import contextlib
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from ltjax import storage
from ltjax.config.settings import Settings, as_dict, differences
from ltjax.data.info import DataInfo
from ltjax.errors import UserError
from ltjax.run.checkpoint import FOLDER as CHECKPOINTS
from ltjax.run.files import CONFIG, DATA, LOCK, LOG, read_data


def default(config: Mapping[str, Any], what: str) -> pathlib.Path:
    """runs/<data>-<what>-<hash of what decides the result>: the same config, the same folder."""
    decisive = differences({}, config)
    text = json.dumps(decisive, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return pathlib.Path("runs") / f"{config['data']['name']}-{what}-{digest}"


@contextlib.contextmanager
def claimed(folder: pathlib.Path, settings: Settings) -> Iterator[None]:
    """Make the folder of a run, or check that it belongs to this run, and lock it.

    Raises:
      UserError: if the folder holds a run of another config or other files, cannot be used, or is
        in use by another process.
    """
    lock = None
    try:
        if folder.exists():
            _check_whose(folder)  # before a lock is left in it
        folder.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            lock = (folder / LOCK).open("a")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be used ({storage.reason(error)}). Give another --workdir."
        ) from error
    with lock or contextlib.nullcontext():
        if lock and not storage.locked(lock, folder):
            raise UserError(
                f"Another process is using {folder}. Wait for it to finish, or give another "
                f"--workdir."
            )
        _check_or_begin(folder, as_dict(settings))
        try:
            yield
        finally:
            # a save under way makes a folder again that was deleted or renamed meanwhile
            if lock and not (folder / CONFIG).exists():
                storage.remove(folder / CHECKPOINTS)
                with contextlib.suppress(OSError):
                    folder.rmdir()


def remember_data(folder: pathlib.Path, info: DataInfo) -> None:
    """Write data.json into the folder of a run, or check that it describes the same data.

    Raises:
      UserError: if the run was begun on other data.
    """
    theirs = read_data(folder)
    if theirs is None:
        save_json(folder / DATA, info.as_json())
        return
    old = _plain(theirs)
    changed = [name for name, value in _plain(info).items() if old[name] != value]
    if changed:
        raise UserError(
            f"{folder} holds a run on other data ({', '.join(changed)} differ). Restore the data, "
            f"or give another --workdir."
        )


def write(path: pathlib.Path, text: str) -> None:
    """Write a file whole (ltjax.storage.write_text), on process 0."""
    if jax.process_index() == 0:
        storage.write_text(path, text)


def save_json(path: pathlib.Path, value: Any) -> None:
    """Write a value as JSON, on process 0."""
    if jax.process_index() == 0:
        storage.write_json(path, value)


def save_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file, on process 0."""
    if jax.process_index() == 0:
        storage.write_arrays(path, arrays)


class Log:
    """What happened, one JSON object a line, and the numbers among it as TensorBoard events.

    Each line has 'number' (grows with the run), 'phase', 'step' and 'epoch'; a list holds one
    number an expert.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        number: int,
        digest: str = "",
        tell: Callable[[str], None] = print,
    ):
        """Resume after `number`; later lines of a killed run are dropped, for they come again.

        Args:
          folder: of the run.
          number: of the checkpoint that the run resumes from; 0 for none.
          digest: what `digest` was at that checkpoint; "" if that is not known.
          tell: is told if the log was damaged. Then it is kept under another name, and what can
            be read of it is used.

        Raises:
          NotWritten: if the files cannot be written.
        """
        self._active = jax.process_index() == 0
        self._sum = hashlib.sha256()
        if not self._active:
            return
        self._path = path = folder / LOG
        with storage.writing(path):
            lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        numbers = [_number(line) for line in lines]
        kept = [line for line, of in zip(lines, numbers, strict=True) if 0 <= of <= number]
        self._sum.update(b"".join(kept))
        # what a killed process was writing is cut off at the end
        whole = all(of >= 0 for of in numbers[: len(kept)])
        if not whole or (digest and digest != self.digest()):
            tell(
                f"{path} is damaged; {len(kept):,} of its lines are used, and the whole is kept as "
                f"{storage.aside(path).name}."
            )
        storage.write_text(path, b"".join(kept).decode())
        with storage.writing(path):
            self._lines = path.open("ab")
        self._board = folder / "tensorboard"
        with storage.writing(self._board):
            self._board.mkdir(exist_ok=True)
            # a name of its own also for two starts within a second
            own = f".{os.getpid()}.{number}"
            self._events = EventsWriter(str(self._board / "events"), own)
            # what a killed run wrote after its checkpoint is hidden
            start = SessionLog(status=SessionLog.START)
            self._events.write_event(_event(number + 1, session_log=start))

    def digest(self) -> str:
        """SHA-256 of all lines so far; of nothing but on process 0."""
        return self._sum.hexdigest()

    def write(self, number: int, **event: Any) -> None:
        """Add one event.

        Raises:
          NotWritten: if the file cannot be written.
        """
        if not self._active:
            return
        line = json.dumps({"number": number, **event}, allow_nan=False).encode() + b"\n"
        with storage.writing(self._path):
            self._lines.write(line)
            self._lines.flush()
        self._sum.update(line)
        with storage.writing(self._board):
            for name, value in event.items():
                for tag, of in _scalars(name, value):
                    self._events.write_event(_event(number, summary=scalar(tag, of)))

    def flush(self) -> None:
        """Hand everything to the disk: a resumed run writes only what follows."""
        if self._active:
            with storage.writing(self._board):
                self._events.flush()
            with storage.writing(self._path):
                storage.sync(self._path)

    def read(self) -> list[dict]:
        """All events so far; none but on process 0."""
        if not self._active:
            return []
        return [json.loads(line) for line in self._path.read_bytes().splitlines()]

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            failing = contextlib.suppress(OSError) if kind else storage.writing(self._path)
            with failing:
                self._lines.close()
                self._events.close()


def _plain(info):
    """As it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(info.as_json()))


def _number(line):
    """The number of an event's line; -1 if it is not one, or cut off."""
    try:
        number = json.loads(line)["number"] if line.endswith(b"\n") else -1
    except (ValueError, RecursionError, TypeError, KeyError):
        return -1
    return number if type(number) is int else -1


def _event(number, **content):
    return Event(step=number, wall_time=time.time(), **content)


def _scalars(name, value):
    if isinstance(value, list):
        return [(f"{name}/expert{i}", x) for i, x in enumerate(value, 1) if x is not None]
    return [(name, value)] if isinstance(value, float) else []


def _check_whose(folder):
    """Refuse a folder with other files than those of a run."""
    ours = {LOCK, f"{CONFIG}.part"}  # the second, of a run that was killed at its very start
    if not (folder / CONFIG).exists() and any(path.name not in ours for path in folder.iterdir()):
        raise UserError(
            f"{folder} holds files that are not a run of ltjax. Give another --workdir."
        )


def _check_or_begin(folder, ours):
    """The config of the folder's run is ours, or becomes so; the folder is locked."""
    _check_whose(folder)
    theirs = storage.read_json(folder / CONFIG, "Give another --workdir.")
    if theirs is None:
        save_json(folder / CONFIG, ours)
        return
    if not isinstance(theirs, dict):
        raise UserError(f"{folder / CONFIG} is not the config of a run. Give another --workdir.")
    changed = differences(theirs, ours)
    if changed:
        fields = "; ".join(f"{name} was {old}, is {new}" for name, (old, new) in changed.items())
        raise UserError(
            f"{folder} holds a run of another config ({fields}). Restore these values, or give "
            f"another --workdir."
        )
