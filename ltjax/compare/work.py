"""Works through the cells of a planned table, each in a process and a folder of its own.

Any number of processes, on any machines that share the folder, may work on one table: a cell is
claimed by a lock, which the system releases when its process ends, however it ends.
"""

import collections
import contextlib
import fcntl
import json
import pathlib
import pprint
import shlex
import signal
import statistics
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import NamedTuple, TextIO

from ltjax import storage
from ltjax.compare.plan import Cell, Plan
from ltjax.compare.rows import Run
from ltjax.config.settings import as_dict, differences
from ltjax.errors import UserError
from ltjax.recipes import checked, settings_of
from ltjax.run.files import CONFIG, LOCK, REPORT, load_report
from ltjax.terminal import Output

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # ask a run to save and stop


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
            alike = _without(ours, "seed", "data.seed", "data.imbalance", "data.imbalance_factor")
            if alike not in known:  # recipes take time, and know nothing of these
                checked(cell.config)
                known.add(alike)
        except UserError as error:
            raise UserError(f"row {cell.row!r}, column {cell.column!r}: {error}") from error
        place = folder / cell.folder
        theirs = storage.read_json(place / CONFIG, "Delete the folder of this cell.")
        report = _report(place)
        for config in (theirs, report and report["config"]):
            changed = differences(config, ours) if isinstance(config, dict) else {}
            if changed:
                said = "; ".join(f"{k} was {old}, is {new}" for k, (old, new) in changed.items())
                raise UserError(
                    f"{place} was run with another config ({said}). Restore these values in the "
                    f"table, delete that folder, or give another --workdir."
                )


def finished(plan: Plan, folder: pathlib.Path) -> dict[Cell, Run]:
    """The finished runs of a plan; one whose report is damaged is not, and its command mends it.

    Raises:
      UserError: for a report that cannot be read.
    """
    found = {cell: _report(folder / cell.folder) for cell in plan.cells}
    return {cell: Run(folder / cell.folder, of) for cell, of in found.items() if of is not None}


def _report(place):
    try:
        return load_report(place / REPORT) if (place / REPORT).exists() else None
    except storage.Damaged:
        return None


def _without(config, *names):
    """A config as text, without some fields."""
    flat = {name: of for name, (_, of) in differences({}, config).items() if name not in names}
    return json.dumps(flat, sort_keys=True, default=str)


def work(
    plan: Plan,
    folder: pathlib.Path,
    tell: Callable[[str], None],
    after: Callable[[dict[Cell, str]], None] = lambda failed: None,
) -> Left:
    """Run the cells that are not finished, one after another, but for those claimed elsewhere.

    A cell that fails is reported and left for the next time; a cell that was cut short is resumed.

    Args:
      plan: whose cells `check` found right.
      folder: of the table; made if it is missing.
      tell: called with lines of text.
      after: called after each cell with what has failed so far.

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
            if cell in failed or _report(folder / cell.folder):
                continue
            with _claimed(locks / f"{_as_one(cell)}.lock") as claim:
                if not claim or _in_use(folder / cell.folder):
                    elsewhere.append(cell)
                    continue
                if _report(folder / cell.folder):  # finished meanwhile
                    continue
                tell(_ahead(plan, folder, cell, failed))
                why = _run(write_config(cell, folder), folder / cell.folder, tell, claim)
                progressed = True
                if why:
                    failed[cell] = why
                    tell(f"{_named(cell)} failed: {why}")
                after(failed)
        if not progressed:
            return Left(failed, elsewhere)


def write_config(cell: Cell, folder: pathlib.Path) -> pathlib.Path:
    """Write the config of a cell, whole, as a file that --config takes; returns its path.

    Raises:
      NotWritten: if the system refuses.
    """
    path = folder / "configs" / f"{_as_one(cell)}.py"
    with storage.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    text = pprint.pformat(cell.config, width=100, sort_dicts=False)
    storage.write_text(
        path,
        f"import ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict(\n{textwrap.indent(text, ' ' * 8)}\n    )\n",
    )
    return path


def write_page(folder: pathlib.Path, text: str) -> None:
    """Write table.md, one process at a time.

    Raises:
      NotWritten: if the system refuses.
    """
    path = folder / ".locks" / "table.lock"
    with storage.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            storage.write_text(folder / "table.md", text)


def _run(config, place, tell, claim):
    """Why the run of a cell failed, in a line; None if it is finished.

    Raises:
      Stopped: if this process, or the run, was asked to stop.
    """
    arguments = ["-m", "ltjax.main", f"--config={config}", f"--workdir={place}"]
    tell(f"$ python {shlex.join(arguments)}")
    process, asked = None, []

    def hand_on(number, frame):
        asked.append(number)
        if process:
            process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in _SIGNALS}
    try:
        # a group of its own: Ctrl-C reaches the run once, from here; the claim lives as long as it
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
            pass_fds=(claim.fileno(),),
        )
        for number in asked[:1]:  # before there was a run
            process.send_signal(number)
        lines = collections.deque(maxlen=20)
        for line in process.stderr:
            print(line, end="", file=Output(sys.stderr), flush=True)
            lines.append(line.strip())
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    # a run that ends by itself just then is finished; this process stops all the same
    stops = asked or [number for number in _SIGNALS if code in (128 + number, -number)]
    if stops:
        raise Stopped(128 + stops[0])
    if not code:
        return None
    if code < 0:
        return f"a signal ended it ({signal.Signals(-code).name})"
    said = [line for line in lines if line.startswith("ltjax: ")] or list(filter(None, lines))
    return said[-1].removeprefix("ltjax: ") if said else f"exit code {code}"


@contextlib.contextmanager
def _claimed(path: pathlib.Path) -> Iterator[TextIO | None]:
    """The file, locked for the length of the block; None if another process has the lock."""
    with storage.writing(path):
        file = path.open("a")
    with file:
        yield file if storage.locked(file, path) else None


def _in_use(place):
    """Whether a run is at work in a folder: started by hand, or by a process that was killed."""
    if not (place / LOCK).exists():
        return False
    with storage.writing(place / LOCK), (place / LOCK).open("a") as file:
        return not storage.locked(file, place)


def _ahead(plan, folder, cell, failed):
    done = finished(plan, folder)
    lost = f", {len(failed)} failed" if failed else ""
    seconds = _seconds_left(plan, done)
    about = f", about {_duration(seconds)} left on one such machine" if seconds else ""
    return f"{_named(cell)}: {len(done)} of {len(plan.cells)} cells are finished{lost}{about}."


def _seconds_left(plan, done):
    """How long the other cells take on one such machine; None if none is finished.

    By the finished cells of the same row, else by those of as many experts, else by all.
    """
    seconds = [(cell, run.report["cost"]["train_seconds"]) for cell, run in done.items()]
    if not seconds:
        return None
    total = 0.0
    for cell in (cell for cell in plan.cells if cell not in done):
        alike = (
            [of for one, of in seconds if one.row == cell.row],
            [of for one, of in seconds if _experts(one) == _experts(cell)],
            [of for _, of in seconds],
        )
        total += statistics.median(next(filter(None, alike)))
    return total


def _experts(cell):
    return cell.config.get("num_experts")


def _as_one(cell):
    return cell.folder.replace("/", "--")


def _named(cell):
    return f"{cell.row}, {cell.column}, seed {cell.seed}"


def _duration(seconds):
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
