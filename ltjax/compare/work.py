"""Works through the cells of a planned table, each in a process and a folder of its own.

Any number of processes, on any machines that share the folder, may work on one table: a cell is
claimed by a lock, which the system releases when its process ends, however it ends.
"""

import contextlib
import fcntl
import json
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ltjax import storage
from ltjax.compare.plan import Cell, Plan
from ltjax.compare.rows import Run
from ltjax.config.settings import as_dict, differences
from ltjax.errors import UserError
from ltjax.recipes import checked, settings_of
from ltjax.run.files import CONFIG, LOCK, REPORT, load_report

_STOPS = {128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


class Stopped(Exception):  # noqa: N818, not an error
    """A signal stopped the work; the run under way has saved its state."""

    def __init__(self, exit_code: int):
        super().__init__("Stopped. What is finished is kept.")
        self.exit_code = exit_code


class Left(NamedTuple):
    """Cells that are not finished."""

    failed: dict[Cell, str]  # why, in a line
    elsewhere: list[Cell]  # another process has claimed them


def check(plan: Plan, folder: pathlib.Path) -> None:
    """Refuse a plan of which a cell cannot be run, or was run with another config.

    Raises:
      UserError: naming the row and the column.
    """
    known = set()
    for cell in plan.cells:
        try:
            ours = as_dict(settings_of(cell.config))
            alike = json.dumps({k: of for k, of in ours.items() if k not in ("seed", "data")})
            if alike not in known:  # recipes take time, and know nothing of seeds
                checked(cell.config)
                known.add(alike)
        except UserError as error:
            raise UserError(f"row {cell.row!r}, column {cell.column!r}: {error}") from error
        theirs = storage.read_json(folder / cell.folder / CONFIG, "Delete the folder of this cell.")
        changed = differences(theirs, ours) if isinstance(theirs, dict) else {}
        if changed:
            said = "; ".join(f"{name} was {old}, is {new}" for name, (old, new) in changed.items())
            raise UserError(
                f"{folder / cell.folder} was run with another config ({said}). Restore these "
                f"values in the table, or give another --workdir."
            )


def finished(plan: Plan, folder: pathlib.Path) -> dict[Cell, Run]:
    """The finished runs of a plan.

    Raises:
      UserError: for a report that cannot be read.
    """
    found = {}
    for cell in plan.cells:
        place = folder / cell.folder
        if (place / REPORT).exists():
            found[cell] = Run(place, load_report(place / REPORT))
    return found


def work(plan: Plan, folder: pathlib.Path, tell: Callable[[str], None]) -> Left:
    """Run the cells that are not finished, one after another, but for those claimed elsewhere.

    A cell that fails is reported and left for the next time; a cell that was cut short is resumed.

    Args:
      plan: whose cells `check` found right.
      folder: of the table; made if it is missing.
      tell: called with lines of text.

    Raises:
      Stopped: if a signal stopped the run of a cell.
      NotWritten: if the folder cannot be written.
    """
    failed: dict[Cell, str] = {}
    locks = folder / ".locks"
    with storage.writing(locks):
        locks.mkdir(parents=True, exist_ok=True)
    while True:
        elsewhere, progressed = [], False
        for cell in plan.cells:
            if cell in failed or (folder / cell.folder / REPORT).exists():
                continue
            with _claimed(locks / f"{cell.folder.replace('/', '--')}.lock") as ours:
                if not ours or _in_use(folder / cell.folder):
                    elsewhere.append(cell)
                    continue
                if (folder / cell.folder / REPORT).exists():  # finished meanwhile
                    continue
                tell(_ahead(plan, folder, cell, failed))
                why = _run(plan, cell, folder / cell.folder)
                progressed = True
                if why:
                    failed[cell] = why
                    tell(f"{_named(cell)} failed: {why}")
        if not progressed:
            return Left(failed, elsewhere)


def command(plan: Plan, cell: Cell, place: pathlib.Path) -> list[str]:
    """What `python` is to be started with to run a cell."""
    fields = [f"--config.{field}={_as_flag(value)}" for field, value in cell.overrides.items()]
    return ["-m", "ltjax.main", f"--config={plan.base}", *fields, f"--workdir={place}"]


def seconds_left(plan: Plan, folder: pathlib.Path) -> float | None:
    """How long the other cells take on one such machine, by those that are finished.

    By the cells of the same row, else by those of as many experts, else by all; None without any.
    """
    done = finished(plan, folder)
    seconds = {cell: run.report["cost"]["train_seconds"] for cell, run in done.items()}
    total = 0.0
    for cell in plan.cells:
        if cell in done:
            continue
        alike = [
            [of for one, of in seconds.items() if one.row == cell.row],
            [of for one, of in seconds.items() if _experts(one) == _experts(cell)],
            list(seconds.values()),
        ]
        known = next(filter(None, alike), None)
        if known is None:
            return None
        total += statistics.median(known)
    return total


def _experts(cell):
    return cell.config.get("num_experts")


def _run(plan, cell, place):
    """Why the run of a cell failed, in a line; None if it is finished."""
    arguments = command(plan, cell, place)
    print(f"$ python {shlex.join(arguments)}", flush=True)
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, text=True)
    last = ""
    with _handing_on(process):
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            last = line.strip() or last
        code = process.wait()
    if code in _STOPS:
        raise Stopped(code)
    if code < 0:
        return f"a signal ended it ({signal.Signals(-code).name})"
    return last.removeprefix("ltjax: ") or f"exit code {code}" if code else None


@contextlib.contextmanager
def _handing_on(process):
    """Signals to stop go to the run, which saves; Ctrl-C reaches it by itself."""
    before = {signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None)}
    for number in (signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.signal(number, lambda number, _: process.send_signal(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _claimed(path: pathlib.Path) -> Iterator[bool]:
    """Whether this process has a lock on the file, for the length of the block."""
    with storage.writing(path):
        file = path.open("a")
    with file:
        yield _locked(file)


def _in_use(place):
    """Whether a run is at work in a folder: started by hand, or by a process that was killed."""
    if not (place / LOCK).exists():
        return False
    with (place / LOCK).open("a") as file:
        return not _locked(file)


def _locked(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{file.name} is in a file system without locks ({error.strerror}), which keep two "
            f"processes apart. Give another --workdir."
        ) from error
    return True


def _ahead(plan, folder, cell, failed):
    done, count = len(finished(plan, folder)), len(plan.cells)
    seconds = seconds_left(plan, folder)
    about = f", about {_duration(seconds)} left on one such machine" if seconds else ""
    lost = f", {len(failed)} failed" if failed else ""
    return f"{_named(cell)}: {done} of {count} cells are finished{lost}{about}."


def _named(cell):
    return f"{cell.row}, {cell.column}, seed {cell.seed}"


def _duration(seconds):
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _as_flag(value):
    if isinstance(value, list):
        return f"({''.join(f'{one!r},' for one in value)})"
    return str(value)
