"""Orbax and tensorstore: an error of theirs is raised, and not told again from their threads.

What fails in a save or a read is raised where it is waited for. Besides, it is logged, printed by
threads, and complained about by every task that ends after it, in hundreds of lines.
"""

import functools
import logging
import sys
import threading

_THREADS = ("async_save", "save_finalize")


@functools.cache
def quiet() -> None:
    """Drop these, and nothing else, for the rest of the process."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_is_other)
    sys.unraisablehook = functools.partial(_unraisable, sys.unraisablehook)
    threading.excepthook = functools.partial(_of_thread, threading.excepthook)


def _is_other(record):
    """Whether a record is not a warning or an error of Orbax, or of a task of its."""
    text = record.pathname + record.getMessage()
    return record.levelno < logging.WARNING or not ("orbax" in text or "never retrieved" in text)


def _unraisable(before, found):
    if "Event loop is closed" not in str(found.exc_value):
        before(found)


def _of_thread(before, found):
    if not found.thread or found.thread.name not in _THREADS:
        before(found)
