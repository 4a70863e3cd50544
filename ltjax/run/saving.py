"""Saving a run while it trains, and restoring it on its devices."""

import pathlib
from types import TracebackType

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ltjax import storage
from ltjax.errors import UserError
from ltjax.learner import PyTree
from ltjax.run.checkpoint import FOLDER, KEPT, Position, entries_of, newest, read_position, why
from ltjax.run.digest import digests
from ltjax.run.quiet import quiet


class Checkpoints:
    """The checkpoints of one run, newest last; the newest two are kept.

    A save is asynchronous and becomes visible when it is complete: a run that is killed during one
    resumes from the previous checkpoint.
    """

    def __init__(self, folder: pathlib.Path):
        """Open the checkpoints in the folder of a run, which `clean` has left.

        Raises:
          NotWritten: if their folder cannot be made.
        """
        self._folder = folder / FOLDER
        quiet()
        with storage.writing(self._folder):
            self._manager = ocp.CheckpointManager(
                self._folder.absolute(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=preservation_policy.LatestN(KEPT),
                    enable_async_checkpointing=True,
                    # in another thread, an error would be waited for in vain
                    async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
                ),
            )
        self._saving: tuple[int, Position] | None = None
        number = newest(folder)
        self._durable = None if number is None else (number, self.position())
        self._asked = 0

    def save(self, number: int, state: PyTree, position: Position) -> None:
        """Save under a number that grows with the run; the save before is durable then.

        Raises:
          NotWritten: if this save or the one before cannot be written.
        """
        self.wait()
        entries = entries_of(number, position, digests(state))
        with storage.writing(self._folder):
            saved = self._manager.save(
                number,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    position=ocp.args.JsonSave(entries),
                ),
                force=True,
            )
        assert saved, f"Orbax refused to save {number} after {self._manager.latest_step()}"
        self._saving = number, position

    def wait(self) -> None:
        """Wait until the save under way, if there is one, is complete and on the disk.

        Raises:
          NotWritten: if it cannot be written.
        """
        with storage.writing(self._folder):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
            if self._saving is not None and jax.process_index() == 0:
                storage.sync_all(self._folder / str(self._saving[0]))
        if self._saving is not None:
            self._durable = self._saving
        self._saving = None

    def kept(self) -> str:
        """What a run that ends now can be resumed from, in words."""
        if self._durable is None:
            return "nothing was saved yet"
        number, position = self._durable
        if not (self._folder / str(number)).is_dir():  # deleted, or renamed
            return "its checkpoints are not there any more"
        return f"the state of step {position.step:,} is kept"

    def position(self) -> Position | None:
        """The position of the newest complete checkpoint, or None if there is none.

        Raises:
          UserError: if it is damaged, or cannot be read.
        """
        folder = self._folder.parent
        return None if newest(folder) is None else read_position(folder)

    def restore(self, like: PyTree) -> PyTree:
        """The newest state, in the shapes, dtypes and shardings of `like`.

        Raises:
          UserError: if it is of another form, or cannot be read.
        """
        number = self._manager.latest_step()
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
            return self._manager.restore(number, args=args)["state"]
        except Exception as error:
            raise UserError(
                f"The checkpoint {self._folder / str(number)} is not of this version's form "
                f"({why(error)}). Resume it with the version of ltjax that wrote it, or give "
                f"another --workdir."
            ) from error

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
        try:
            self.wait()
            self._manager.close()
        except Exception:
            if kind is None:  # else the first error says what is wrong
                raise
