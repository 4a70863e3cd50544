"""How a data set gets into a folder of TFDS: by one process at a time, and whole or not at all."""

import contextlib
import errno
import fcntl
import io
import os
import pathlib
from collections.abc import Callable, Iterator

import tensorflow_datasets as tfds

from ltjax import storage
from ltjax.data import folders
from ltjax.data.stored import DamagedSet, Stored, has_tensorflow
from ltjax.errors import UserError, plain, shortened

Tell = Callable[[str], None]
_OF_THE_NETWORK = ("requests", "urllib3", "http", "ssl", "socket")  # packages of errors
_OF_DOWNLOADS = ("DownloadError", "NonMatchingChecksumError")  # of TFDS


@contextlib.contextmanager
def alone(folder: str | os.PathLike, name: str, tell: Tell) -> Iterator[bool]:
    """Let one process at a time change a data set and what is made of it.

    The lock is released when the process ends, however it ends.

    Args:
      folder: of TFDS; made if it is missing.
      name: of the data set.
      tell: is told if another process holds the lock.

    Yields:
      Whether there is a lock: some file systems have none.

    Raises:
      NotWritten: if the folder cannot be made.
    """
    folder = pathlib.Path(folder)
    with storage.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(open(folder / f".{name}.lock", "ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell(f"Waiting for another process that prepares {name}.")
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True


def prepare(tail: Stored, source: Stored, download: bool, tell: Tell) -> None:
    """Make a long-tailed data set, and its source where that is possible.

    Args:
      tail: what is made, unless it is there.
      source: what it is made of.
      download: whether the source may be downloaded.
      tell: called with a line of text before each thing that takes time.

    Raises:
      UserError: with what to do; NotWritten if the system refuses to store something.
    """
    if not (source.ours or source.exists()):  # told before a folder is made
        if not download:
            raise source.missing()
        if not has_tensorflow():
            raise UserError(
                f"Preparing {source.name!r} requires TensorFlow, which is missing. Run: "
                f"pip install -e '.[prepare]'. Training does not need it."
            )
    with alone(tail.folder, source.name, tell) as locked:
        if not tail.exists():  # another process may just have made it
            _prepare(tail, source, tell, locked)


def again(tail: Stored, source: Stored, damage: DamagedSet, tell: Tell, locked: bool) -> None:
    """Make a damaged long-tailed data set again, if its source is good; inside `alone`.

    Raises:
      DamagedSet: the damage, if the source is not there; that of the source, if it is not good.
    """
    if not source.ours and not source.exists():
        raise damage
    if not source.ours:
        for split in ("train", "test"):
            source.read(split)
    _prepare(_instead(tail, damage, tell), source, tell, locked)


def _prepare(tail: Stored, source: Stored, tell: Tell, locked: bool) -> None:
    if locked:  # so what is half made is nobody's any more
        _clean(tail)
        _clean(source)
    if not source.exists():
        _make(source, tell)
    try:
        _make(tail, tell)
    except DamagedSet as damage:
        if not source.ours:
            raise
        source = _instead(source, damage, tell)
        _make(source, tell)
        _make(tail._replace(source_dir=source.folder), tell)


def _make(stored: Stored, tell: Tell) -> None:
    builder = stored.open()
    tell(f"Preparing {builder.info.full_name} in {stored.path}")
    tfds.disable_progress_bar()
    downloads = stored.path.with_name(f"incomplete.downloads_{stored.path.name}")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints what was just told
            # nothing is downloaded for our own, but TFDS wants a place for it
            builder.download_and_prepare(download_dir=downloads if stored.ours else None)
    except UserError:
        raise
    except Exception as error:
        if (stored.path / "dataset_info.json").exists():
            return  # another process made it meanwhile: the file system has no locks
        raise _told(stored, error) from error
    finally:
        if stored.ours:
            storage.remove(downloads)
        with contextlib.suppress(OSError):  # nothing was made
            stored.path.parent.rmdir()


def _told(stored: Stored, error: Exception) -> Exception:
    """An error of preparing by its cause: the network, the system, or a bug."""
    if not stored.ours and _is_of_the_network(error):
        return UserError(
            f"Data set {stored.name!r} could not be downloaded ({shortened(plain(str(error)))}). "
            f"Check the network, and repeat the command."
        )
    no_space = "Not enough disk space" in str(error)  # TFDS's own words
    why = os.strerror(errno.ENOSPC) if no_space else storage.reason(error)
    return storage.NotWritten(stored.path, why) if why else error


def _is_of_the_network(error: BaseException | None) -> bool:
    while error is not None:
        kind = type(error)
        if isinstance(error, ConnectionError | TimeoutError) or kind.__name__ in _OF_DOWNLOADS:
            return True
        if kind.__module__.partition(".")[0] in _OF_THE_NETWORK:
            return True
        error = error.__cause__ or error.__context__
    return False


def _instead(stored: Stored, damage: DamagedSet, tell: Tell) -> Stored:
    """Where a damaged data set is made again: at its place, or in the user's own folder."""
    if not folders.refusal(damage.path.parent):
        tell(f"{damage.what} It is kept as {storage.aside(damage.path)}, and made again.")
        return stored
    tell(f"{damage.what} It cannot be put aside there. It is made again in {folders.own()}.")
    return stored._replace(folder=folders.own())


def _clean(stored: Stored) -> None:
    """Delete what a killed process left half made, of what is made here."""
    if stored.ours:
        version, common = stored.path.name, pathlib.Path(stored.folder, stored.name, ".config")
        for left in (*stored.path.parent.glob(f"incomplete.*_{version}"), *common.glob("incomp*")):
            storage.remove(left)
