"""Files on disk: paths that can be used, files written whole and durable, errors in one line.

What the system refuses (a full disk, a quota, a folder that is gone or may not be written) is no
bug: it becomes a NotWritten or a UserError with the system's own reason. Nothing here needs JAX.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import numpy as np

from ltjax.errors import UserError, shown

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_PATTERN = "*?["  # Orbax and TFDS take a path with one of these for a pattern
# What the environment may refuse, besides what is a mistake in the program.
_REFUSALS = [
    os.strerror(getattr(errno, name))
    for name in (
        *("ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EIO", "EACCES", "EPERM", "ENOENT", "ENOTDIR"),
        *("EISDIR", "EMFILE", "ENFILE", "ENODEV", "ENXIO", "ESTALE", "ENAMETOOLONG", "ELOOP"),
        *("ENOLCK", "EBUSY", "ETXTBSY", "ENOMEM", "ETIMEDOUT", "EREMOTEIO", "ENOTCONN"),
    )
    if hasattr(errno, name)
]
# Of what cannot be read for another reason than damage.
NOT_DAMAGE = {
    os.strerror(number)
    for number in (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
}


class NotWritten(UserError):  # noqa: N818, what happened
    """Something could not be stored. The state of a run that was saved before is untouched."""

    def __init__(self, path: pathlib.Path, why: str):
        """path: what was being written; why: the system's reason, such as "Disk full"."""
        super().__init__(path, why)
        self.path, self.why, self.kept = path, why, ""

    def __str__(self) -> str:
        kept = f"; {self.kept}" if self.kept else ""
        return f"{self.path} cannot be written ({self.why}){kept}."


class Damaged(UserError):  # noqa: N818, what it is
    """What is read is not what was written."""


def reason(error: BaseException | None) -> str | None:
    """The system's reason behind an error, such as "No space left on device"; None without one.

    Libraries wrap errors of the system into their own, as causes or as text.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno and error.strerror:
            return os.strerror(error.errno)
        for part in getattr(error, "exceptions", ()):  # of a group
            if found := reason(part):
                return found
        text = str(error)
        for known in _REFUSALS:
            if known in text:
                return known
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Around what writes `path`.

    Raises:
      NotWritten: for an error that the system is the reason of. Other errors pass.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        why = reason(error)
        if why is None:
            raise
        raise NotWritten(path, why) from error


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a file; a reader sees the old or the new content, never a part, even after a crash.

    Raises:
      NotWritten: if the system refuses; what was there before is still there.
    """
    with _whole(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write a value as JSON; numbers that are not finite are a bug, and refused.

    Raises:
      NotWritten: as `write_text`.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an .npz file, whole as by `write_text`; its parts have checksums.

    Raises:
      NotWritten: as `write_text`.
    """
    with _whole(path) as file:
        np.savez_compressed(file, **arrays)


@contextlib.contextmanager
def _whole(path):
    if not path.name:  # such as "."
        raise NotWritten(path, os.strerror(errno.EISDIR))
    part = path.with_name(f"{path.name}.part")
    with writing(path):
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        sync(path.parent)


def read_json(path: pathlib.Path, remedy: str) -> Any:
    """The value that `write_json` wrote, or None if there is no such file.

    Raises:
      Damaged: if it is not JSON; the message ends with the remedy.
      UserError: if the file cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}). {remedy}") from error
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        raise Damaged(f"{path} is damaged: it is not JSON. {remedy}") from error


def locked(file: TextIO, where: pathlib.Path) -> bool:
    """Lock an open file, until it is closed or its process ends; False if another one has the lock.

    Raises:
      UserError: if the file system has no locks; the message names `where`, a --workdir or a part
        of one.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise UserError(
                f"{where} is in a file system without locks ({error.strerror}), which keep two "
                f"runs apart. Give another --workdir."
            ) from error
        return False
    return True


def sync(path: pathlib.Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows does so by itself
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_all(folder: pathlib.Path) -> None:
    """Wait until everything in a folder, and its own entry, is on the disk."""
    for place, _, files in os.walk(folder):
        for name in files:
            sync(pathlib.Path(place, name))
        sync(pathlib.Path(place))
    sync(folder.parent)


def aside(path: pathlib.Path) -> pathlib.Path:
    """Move a damaged file or folder beside itself, so that it is not overwritten; its new path."""
    number = 1
    while (new := path.with_name(f"damaged-{number}-{path.name}")).exists():
        number += 1
    with writing(new):
        path.rename(new)
    return new


def remove(path: pathlib.Path) -> None:
    """Delete what an interrupted process left; what cannot be deleted stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def usable(path: str | os.PathLike, option: str) -> pathlib.Path:
    """A local path that all libraries take as it is; a leading ~ is the home folder.

    Args:
      path: as the user gave it.
      option: that gave it, such as "--workdir", for messages.

    Raises:
      UserError: if it is empty, a URL, a pattern, or not printable.
    """
    text = os.fspath(path)

    def refused(why):
        return UserError(f"{option} is {shown(text)}, but {why}. Give another {option}.")

    if not text.strip():
        raise refused("it must be the path of a folder")
    if "://" in text or ":/" in text:
        raise refused("that is not a local folder")
    if not text.isprintable():
        raise refused("characters that cannot be printed are not possible in it")
    try:
        found = pathlib.Path(text).expanduser()
        whole = str(found.absolute())
    except (RuntimeError, OSError) as error:  # no such user; no current folder
        raise refused((reason(error) or str(error)).rstrip(".")) from None
    if any(mark in whole for mark in _PATTERN):
        raise refused(f"{whole} has one of {' '.join(_PATTERN)}, which stand for patterns of paths")
    return found
