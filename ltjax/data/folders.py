"""Where data sets are: the folder of TFDS, and one of the user's own where that is read-only.

A cluster often keeps data sets in a folder that users may read and not write. The source is read
there, and its long-tailed version goes to the user's own folder.
"""

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Callable

from ltjax import storage
from ltjax.data.stored import Stored
from ltjax.errors import UserError

_MAY_NOT = {os.strerror(number) for number in (errno.EACCES, errno.EPERM, errno.EROFS)}


def given(folder: str | None) -> pathlib.Path:
    """The folder of config.data.dir; for None that of TFDS itself.

    Raises:
      UserError: if it cannot be used as it is.
    """
    if folder is not None:
        return storage.usable(folder, "config.data.dir")
    if "TFDS_DATA_DIR" in os.environ:
        return storage.usable(os.environ["TFDS_DATA_DIR"], "TFDS_DATA_DIR")
    return storage.usable("~/tensorflow_datasets", "config.data.dir")


def own() -> pathlib.Path:
    """The user's own folder: ltjax/ under XDG_DATA_HOME or ~/.local/share.

    Raises:
      UserError: if it cannot be used as it is.
    """
    root = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return storage.usable(os.path.join(root, "ltjax"), "XDG_DATA_HOME")


def place(folder: str | None, of: Callable[[pathlib.Path], Stored]) -> Stored:
    """A data set where it is, or where it can be made.

    Args:
      folder: config.data.dir.
      of: the data set in a folder of TFDS.

    Raises:
      UserError: if the system does not let us look.
    """
    root = given(folder)
    here = of(root)
    there_too = here.exists()
    missing = folder is not None and not root.exists()  # more likely misspelt than read-only
    if missing or refusal(here.path) not in _MAY_NOT:
        return here
    with contextlib.suppress(UserError):  # a user without a home
        there = of(own())
        if there.exists() or not (there_too or refusal(there.path)):
            return there
    return here


def refusal(path: pathlib.Path) -> str | None:
    """Why the system lets nothing be made at a path, such as "Permission denied"; None if it does.

    Nothing is left behind.
    """
    above = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    try:
        with tempfile.TemporaryFile(dir=above):
            return None
    except OSError as error:
        return storage.reason(error)
