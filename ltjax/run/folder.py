"""The folder of a run: its config, its lock and its log. Only process 0 writes."""

import contextlib
import fcntl
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import jax
from tensorboardX import SummaryWriter

from ltjax.config.settings import Settings, as_dict, differences
from ltjax.data.info import REMEDY, DataInfo, from_json
from ltjax.errors import UserError
from ltjax.run.files import CONFIG, DATA, LOCK, LOG


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
    if "://" in str(folder) or ":/" in str(folder):
        raise UserError(f"{folder} is not a local folder. Give another --workdir.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_or_begin(folder, as_dict(settings))
        lock = (folder / LOCK).open("a") if jax.process_index() == 0 else None
    except UserError:
        raise
    except (OSError, ValueError) as error:  # not to be read or written; not JSON, not text
        raise UserError(f"{folder} cannot be used ({error}). Give another --workdir.") from error
    with lock or contextlib.nullcontext():
        if lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends
            except OSError as error:
                raise UserError(
                    f"Another process is using {folder}. Wait for it to finish, or give another "
                    f"--workdir."
                ) from error
        yield


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


def read_data(folder: pathlib.Path) -> DataInfo | None:
    """What data.json in the folder of a run says; None if it is missing.

    Raises:
      UserError: if the file is damaged, or has a later format.
    """
    value = load_json(folder / DATA, REMEDY)
    return None if value is None else from_json(value, str(folder / DATA))


def write(path: pathlib.Path, text: str) -> None:
    """Write a file; a reader sees the old or the new content, never a part."""
    if jax.process_index() == 0:
        _write_whole(path, text)


def save_json(path: pathlib.Path, value: Any) -> None:
    """Write a value as JSON."""
    write(path, json.dumps(value, indent=2) + "\n")


def load_json(path: pathlib.Path, remedy: str) -> Any:
    """The value that save_json wrote, or None if there is no such file.

    Raises:
      UserError: if the file cannot be read, or is not JSON; it ends with the remedy.
    """
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). {remedy}") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        raise UserError(f"{path} is damaged: it is not JSON. {remedy}") from error


class Log:
    """What happened, one JSON object a line, and the numbers among it as TensorBoard events.

    Each line has 'number' (grows with the run), 'phase', 'step' and 'epoch'; a list holds one
    number an expert.
    """

    def __init__(self, folder: pathlib.Path, number: int):
        """Resume after `number`; later lines of a killed run are dropped, for they come again."""
        self._active = jax.process_index() == 0
        if not self._active:
            return
        self._path = folder / LOG
        events = _events(self._path.read_text()) if self._path.exists() else []
        kept = [event for event in events if event["number"] <= number]
        _write_whole(self._path, "".join(json.dumps(event) + "\n" for event in kept))
        self._lines = self._path.open("a")
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=number + 1)

    def write(self, number: int, **event: Any) -> None:
        """Add one event."""
        if not self._active:
            return
        self._lines.write(json.dumps({"number": number, **event}) + "\n")
        self._lines.flush()
        for name, value in event.items():
            for tag, scalar in _scalars(name, value):
                self._events.add_scalar(tag, scalar, number)

    def flush(self) -> None:
        """Hand everything to the system: a resumed run writes only what follows."""
        if self._active:
            self._events.flush()

    def read(self) -> list[dict]:
        """All events so far; none but on process 0."""
        return _events(self._path.read_text()) if self._active else []

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            self._lines.close()
            self._events.close()


def _plain(info):
    """As it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(info.as_json()))


def _events(text):
    """The events of a log; a last line that was cut off is left out."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _scalars(name, value):
    if isinstance(value, list):
        return [(f"{name}/expert{i + 1}", x) for i, x in enumerate(value)]
    return [(name, value)] if isinstance(value, float) else []


def _check_or_begin(folder, ours):
    if not (folder / CONFIG).exists():
        if any(path.name != LOCK for path in folder.iterdir()):
            raise UserError(
                f"{folder} holds files that are not a run of ltjax. Give another --workdir."
            )
        save_json(folder / CONFIG, ours)
        return
    theirs = load_json(folder / CONFIG, "Give another --workdir.")
    if not isinstance(theirs, dict):
        raise UserError(f"{folder / CONFIG} is not the config of a run. Give another --workdir.")
    changed = differences(theirs, ours)
    if changed:
        fields = "; ".join(f"{name} was {old}, is {new}" for name, (old, new) in changed.items())
        raise UserError(
            f"{folder} holds a run of another config ({fields}). Restore these values, or give "
            f"another --workdir."
        )


def _write_whole(path, text):
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text)
    part.replace(path)
