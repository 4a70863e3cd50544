"""Standard output and error, whose loss stops nothing, and Ctrl-C where no training notes it.

Nothing here needs JAX: mistakes on a command line are answered at once.
"""

import argparse
import contextlib
import io
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn, TextIO

from rich.console import Console

from ltjax.errors import plain

_CURSOR = "\x1b[?25h"  # shows it: a progress bar hides it


class Output:
    """A stream that goes on where its end is gone: a closed pipe or terminal, or a full disk.

    Characters that it cannot show are replaced.
    """

    def __init__(self, file: TextIO | None):
        """file: None, as Python has it for a stream that was closed before, leads nowhere."""
        self._file, self._lost = file or io.StringIO(), file is None

    def write(self, text: str) -> int:
        """Write, or drop the text where that is not possible."""
        try:
            if not self._lost:
                self._file.write(text)
        except UnicodeEncodeError:
            code = self._file.encoding or "ascii"
            return self.write(text.encode(code, "replace").decode(code))
        except (OSError, ValueError):  # ValueError: the file is closed
            self._lost = True
        return len(text)

    def flush(self) -> None:
        """Hand on what is written, or drop it."""
        try:
            if not self._lost:
                self._file.flush()
        except (OSError, ValueError):
            self._lost = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def console(quiet: bool = False) -> Console:
    """A console on standard output that takes text as it is, and stops nothing if it is gone."""
    return Console(file=Output(sys.stdout), quiet=quiet, markup=False, emoji=False)


def say(console: Console, text: str) -> None:
    """Print a line as it is, above a progress bar if there is one."""
    console.print(plain(text), highlight=False, markup=False, emoji=False, soft_wrap=True)


def show(text: str) -> None:
    """Print text to standard output."""
    print(plain(text), file=Output(sys.stdout), flush=True)


def fail(message: str, code: int = 2) -> int:
    """Print a message to standard error; returns the exit code."""
    print(plain(f"ltjax: {message}"), file=Output(sys.stderr), flush=True)
    return code


class Parser(argparse.ArgumentParser):
    """Options of a command; a mistake in them is said in one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and end the process."""
        self.exit(fail(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help."))


def finish(code: int) -> None:
    """End the process; Python would complain about a standard output that is gone."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


class Interrupts:
    """Ctrl-C ends the process at once: an import or a library might swallow an exception."""

    def __init__(self) -> None:
        """Take over Ctrl-C, until training notes it (ltjax.run.signals)."""
        self.after = "Training has not begun."  # what is said then
        signal.signal(signal.SIGINT, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if sys.stdout and sys.stdout.isatty():
            print(_CURSOR, end="", file=Output(sys.stdout), flush=True)
        os._exit(fail(f"Interrupted. {self.after}", code=130))
