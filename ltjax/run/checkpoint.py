"""A checkpoint: what it holds, and how it is read and verified; with ltjax.run.saving all of Orbax.

A checkpoint is the state of all experts and a position, with a digest of either: what is read is
what was saved, or it is not used. A digest is that of numbers, not of files, so that it does not
depend on the number of processes and devices.
"""

import contextlib
import gc
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from ltjax import storage
from ltjax.errors import UserError, shortened
from ltjax.run.digest import digests
from ltjax.run.quiet import quiet

FOLDER = "checkpoints"
FORMAT = 2  # of what is saved beside a state; 0, of earlier versions, has no digests
KEPT = 2  # checkpoints, the newest


class Position(NamedTuple):
    """A place in a run: a phase, and the updates done in it."""

    phase: int
    step: int
    seconds: float  # that training has taken so far
    log: str = ""  # digest of the log until here, "" if unknown (ltjax.run.folder.Log)
    set_aside: Sequence[Sequence] = ()  # the fields of each ltjax.run.shared.SetAside
    surroundings: Sequence[dict[str, str]] = ()  # one after another, ltjax.report.summary


def newest(folder: str | pathlib.Path) -> int | None:
    """The number of the newest complete checkpoint in the folder of a run, or None."""
    return max(_numbers(pathlib.Path(folder) / FOLDER), default=None)


def is_good(folder: str | pathlib.Path) -> bool:
    """Whether the newest checkpoint in the folder of a run is what was saved.

    Raises:
      UserError: if it cannot be read for another reason than damage.
    """
    try:
        read_state(folder)
    except Damaged:
        return False
    return True


def clean(folder: pathlib.Path, tell: Callable[[str], None]) -> None:
    """Leave only good checkpoints in the folder of a run, on process 0 and before it is opened.

    What an interrupted process left is deleted. A damaged checkpoint is moved aside, and `tell`
    is told; the one before becomes the newest.

    Raises:
      UserError: if none is good, or if one cannot be read for another reason than damage.
    """
    place = folder / FOLDER
    if jax.process_index() != 0 or not place.is_dir():
        return
    for path in place.iterdir():
        if ".orbax-checkpoint-tmp" in path.name:
            storage.remove(path)
    damaged = []
    for number in sorted(_numbers(place), reverse=True):
        try:
            _read(place / str(number))
            break
        except Damaged as error:
            damaged.append((number, error))
    else:
        if damaged:
            raise UserError(
                f"{damaged[0][1].what}, and there is no other. To train from the beginning, give "
                f"another --workdir."
            )
    for number, error in damaged:
        kept = storage.aside(place / str(number))
        tell(f"{error.what}. It is kept as {kept.name}, and the one before is used.")
    for number in sorted(_numbers(place), reverse=True)[KEPT:]:  # left by an interrupted deletion
        storage.remove(place / str(number))


def read_state(folder: str | pathlib.Path) -> dict:
    """The newest state of a run's folder as nested dicts of NumPy arrays, on any machine.

    {'step', 'key', 'variables': {'params', 'stats', 'memory'}, 'opt_state'}, each leaf with the
    leading axis [E]; keys are given as their data, u32[E, 2].

    Raises:
      UserError: if there is no checkpoint, or the newest is damaged or cannot be read.
    """
    return _read(_newest(folder))[0]


def read_position(folder: str | pathlib.Path) -> Position:
    """The position of the newest checkpoint in a run's folder.

    Raises:
      UserError: as `read_state`.
    """
    return _position(_newest(folder))[0]


class Damaged(storage.Damaged):
    """A checkpoint that is not what was saved."""

    def __init__(self, path: pathlib.Path, how: str):
        super().__init__(path, how)
        self.what = f"The checkpoint {path} is damaged ({how})"

    def __str__(self) -> str:
        return (
            f"{self.what}. Repeat the command of the run, which resumes from the checkpoint before."
        )


def entries_of(number: int, position: Position, experts: list[str]) -> dict:
    """What is saved beside a state: its number, its position, and digests of all of it."""
    entries = {"format": FORMAT, "number": number, **position._asdict(), "experts": experts}
    return entries | {"sha256": _sum(entries)}


def why(error: Exception) -> str:
    """What an error of Orbax says, in a few words."""
    lines = str(error).splitlines() or [""]
    return storage.reason(error) or shortened(lines[0]) or type(error).__name__


def _sum(entries):
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _read(path):
    """(the state, the position) of a checkpoint, as they were saved."""
    position, experts = _position(path)
    with _may_be_damaged(path):
        with _alone(ocp.PyTreeCheckpointHandler) as reader:
            tree = reader.metadata(path.absolute() / "state").item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            args = ocp.args.PyTreeRestore(restore_args=as_numpy)
            state = reader.restore(path.absolute() / "state", args=args)
        found = digests(state) if experts is not None else None
    if found != experts:
        bad = [str(i) for i, (a, b) in enumerate(zip(found, experts, strict=False), 1) if a != b]
        raise Damaged(path, f"the numbers of expert {', '.join(bad)} are not those that were saved")
    return state, position


def _alone(handler):
    """A reader of Orbax that no other process takes part in."""
    mine = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=mine, active_processes={mine}, barrier_sync_key_prefix=f"process{mine}"
    )
    return ocp.Checkpointer(
        handler(multiprocessing_options=options), multiprocessing_options=options
    )


def _position(path):
    """(the position, the digests of experts or None) of a checkpoint."""
    with _may_be_damaged(path):
        with _alone(ocp.JsonCheckpointHandler) as reader:
            entries = dict(reader.restore(path.absolute() / "position"))
        version = entries.pop("format", 0)
        if version > FORMAT:
            raise UserError(
                f"The checkpoint {path} has format {version}, and this version of ltjax reads "
                f"formats up to {FORMAT}. Use the version that wrote it."
            )
        if version:
            digest = entries.pop("sha256")
            if (
                digest != _sum({"format": version, **entries})
                or str(entries["number"]) != path.name
            ):
                raise Damaged(path, "its position is not the one that was saved")
        experts, _ = entries.pop("experts", None), entries.pop("number", None)
        return Position(**entries), experts


@contextlib.contextmanager
def _may_be_damaged(path):
    """Around reading: damage, whatever it looks like to a library, is Damaged."""
    quiet()
    refused = None
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        system = storage.reason(error)
        if system in storage.NOT_DAMAGE:
            refused = UserError(f"The checkpoint {path} cannot be read ({system}).")
        else:
            refused = Damaged(path, why(error))
    if refused:  # here, where nothing holds the library's error and its tasks any more
        gc.collect()
        raise refused


def _numbers(place):
    if not place.is_dir():
        return []
    return [int(path.name) for path in place.iterdir() if path.name.isdecimal()]


def _newest(folder):
    number = newest(folder)
    if number is None:
        raise UserError(
            f"{pathlib.Path(folder) / FOLDER} holds no checkpoint. Give the folder of a run that "
            f"saved one."
        )
    return pathlib.Path(folder) / FOLDER / str(number)
