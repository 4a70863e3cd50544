"""Saving and restoring a run: the only file that names Orbax."""

import contextlib
import logging
import pathlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ltjax.errors import UserError
from ltjax.learner import PyTree

FOLDER = "checkpoints"


class Position(NamedTuple):
    """A place in a run: a phase, and the updates done in it."""

    phase: int
    step: int
    seconds: float  # that training has taken so far


class Checkpoints:
    """The checkpoints of one run, newest last; the newest two are kept.

    A save is asynchronous and becomes visible when it is complete: a run that is killed during one
    resumes from the previous checkpoint.
    """

    def __init__(self, folder: pathlib.Path):
        """Open the checkpoints in the folder of a run."""
        # Orbax reports a relative path only when it saves, in another thread.
        self._manager = ocp.CheckpointManager(
            (folder / FOLDER).absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.LatestN(2), enable_async_checkpointing=True
            ),
        )
        self._asked = 0

    def save(self, number: int, state: PyTree, position: Position) -> None:
        """Save under a number that grows with the run."""
        saved = self._manager.save(
            number,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position._asdict())
            ),
            force=True,
        )
        assert saved, f"Orbax refused to save {number} after {self._manager.latest_step()}"

    def position(self) -> Position | None:
        """The position of the newest checkpoint, or None if there is none."""
        newest = self._manager.latest_step()
        if newest is None:
            return None
        return Position(**self._restore(newest, position=ocp.args.JsonRestore())["position"])

    def restore(self, like: PyTree) -> PyTree:
        """The newest state, in the shapes, dtypes and shardings of `like`."""
        newest = self._manager.latest_step()
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._restore(newest, state=ocp.args.StandardRestore(target))["state"]

    def stop_requested(self) -> bool:
        """Whether the cluster asked this job to stop.

        All processes get the same answer if all call this equally often: they agree on the number
        of the call, counted from the start of the process, that first returns True.
        """
        self._asked += 1
        return self._manager.reached_preemption(self._asked)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.close()  # waits for a save under way

    def _restore(self, number: int, **items: Any) -> Any:
        try:
            return self._manager.restore(number, args=ocp.args.Composite(**items))
        except (ValueError, OSError, KeyError) as error:
            folder = pathlib.Path(self._manager.directory) / str(number)
            raise UserError(
                f"The checkpoint {folder} cannot be read ({str(error).splitlines()[0]}). Delete "
                f"that folder to resume from the previous checkpoint, or give another --workdir."
            ) from error


def read_state(folder: str | pathlib.Path) -> dict:
    """The newest state of a run's folder as nested dicts of NumPy arrays, on any machine.

    {'step', 'key', 'variables': {'params', 'stats', 'memory'}, 'opt_state'}, each leaf with the
    leading axis [E]; keys are given as their data, u32[E, 2].

    Raises:
      UserError: if there is no checkpoint.
    """
    path = _newest(folder) / "state"
    with _silent("absl"), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))


def read_position(folder: str | pathlib.Path) -> Position:
    """The position of the newest checkpoint in a run's folder.

    Raises:
      UserError: if there is no checkpoint.
    """
    with _silent("absl"), ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return Position(**reader.restore(_newest(folder) / "position"))


def _newest(folder):
    checkpoints = pathlib.Path(folder).absolute() / FOLDER
    numbers = [int(path.name) for path in checkpoints.glob("*") if path.name.isdigit()]
    if not numbers:
        raise UserError(
            f"{checkpoints} holds no checkpoint. Give the folder of a run that saved one."
        )
    return checkpoints / str(max(numbers))


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Silence a logger that warns of a normal case: an item without metadata of its own."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
