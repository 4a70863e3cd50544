"""Kills real runs at random moments until they are done, and compares them with undisturbed ones.

    python tests/drills/kill.py                       (100 strikes, about half an hour on 2 cores)
    python tests/drills/kill.py --strikes 5 --methods crt

Each run is a process of the command line. A strike waits for a moment (a save under way, the
evaluation, a phase that begins, compiling, or any) and sends the next signal; then the same command
is started again. At the end parameters, log and report must be those of a run that was never
touched, bit for bit but for times; nothing may be left in the folder that the other does not have.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from ltjax.run.checkpoint import read_state

ROOT = pathlib.Path(__file__).parents[2]
METHODS = ("classifier", "crt", "lfme", "ride", "cam", "bbn")
SIGNALS = {
    "KILL": (signal.SIGKILL,),
    "TERM": (signal.SIGTERM,),
    "INT": (signal.SIGINT,),
    "INT twice": (signal.SIGINT, signal.SIGINT),
    "HUP": (signal.SIGHUP,),
}
MOMENTS = ("save", "save", "save", "evaluation", "phase", "compiling", "any", "any")
HELD_OUT = ("lfme",)  # it needs a validation split
LIMIT = 300  # seconds, of one process


class Failed(Exception):  # noqa: N818
    """What a strike must not do, or leave."""


def command(method, folder):
    """A short run with many saves and evaluations."""
    options = {
        "data.dir": folder.parent / "tfds",
        "method.name": method,
        "num_experts": 2,
        "num_epochs": 3.0,
        "schedule.name": "step",
        "schedule.lr": 0.05,
        "log_every_steps": 1,
        "save_every_epochs": 0.3,
        "eval_every_epochs": 1.0,
        "data.validation": 0.2 if method in HELD_OUT else 0.0,
    }
    return [
        *(sys.executable, "-m", "ltjax.main", "--config", str(ROOT / "configs" / "digits.py")),
        *("--workdir", str(folder)),
        *(f"--config.{name}={value}" for name, value in options.items()),
    ]


class Process:
    """A run in a process of its own, whose output is read from a file."""

    def __init__(self, method, folder, output):
        self.folder, self.output = folder, output
        with output.open("w") as file:
            self._process = subprocess.Popen(
                command(method, folder),
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"JAX_PLATFORMS": "cpu"},
                cwd=output.parent,
            )
        self._began = time.monotonic()

    def running(self):
        """Whether it has not ended."""
        if time.monotonic() - self._began > LIMIT:
            self._process.kill()
            raise Failed(f"no end after {LIMIT} s:\n{self.said()}")
        return self._process.poll() is None

    def said(self):
        """What it has printed so far."""
        return self.output.read_text(errors="replace")

    def wait_for(self, moment, rng):
        """Wait for a moment, or for the end."""
        if moment == "any":
            until = time.monotonic() + rng.uniform(0, 12)
            while self.running() and time.monotonic() < until:
                time.sleep(0.005)
            return
        skip = rng.randrange(6) if moment == "save" else rng.randrange(2)
        seen = set()
        while self.running() and len(seen) <= skip:
            seen |= self._signs(moment)
            time.sleep(0.001)
        time.sleep(rng.choice((0, 0.003, 0.03, 0.3)) * rng.random())

    def _signs(self, moment):
        """What shows a moment; each new sign is another such moment."""
        if moment == "save":
            place = self.folder / "checkpoints"
            names = os.listdir(place) if place.is_dir() else []
            return {name for name in names if "tmp" in name}
        if moment == "phase":
            return {line for line in self.said().splitlines() if line.endswith(": compiling")}
        if moment == "compiling":
            return {len(self.said()) > 0} - {False}
        return {
            line for line in self.said().splitlines() if " epoch " in line or "epoch" in line[:6]
        }

    def strike(self, signals):
        """Send signals, a moment apart; returns the exit code."""
        for number in signals:
            if self.running():
                self._process.send_signal(number)
                time.sleep(0.02)
        while self.running():
            time.sleep(0.002)
        return self._process.returncode

    def finish(self):
        """Wait for the end; returns the exit code."""
        while self.running():
            time.sleep(0.01)
        return self._process.returncode


def without_times(value):
    """A log line or a report without what no two runs have in common."""
    if isinstance(value, dict):
        gone = ("second", "peak_bytes")
        return {k: without_times(v) for k, v in value.items() if not any(x in k for x in gone)}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def remains(folder):
    """Everything that a run leaves, comparable."""
    files = sorted(
        str(path.relative_to(folder).parts[0])
        for path in folder.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts
    )
    log = [without_times(json.loads(line)) for line in (folder / "log.jsonl").open()]
    report = without_times(json.loads((folder / "report.json").read_text()))
    checkpoints = sorted(path.name for path in (folder / "checkpoints").iterdir())
    return {"files": sorted(set(files)), "log": log, "report": report, "checkpoints": checkpoints}


def compare(found, expected):
    """Raise where two folders differ."""
    ours, theirs = read_state(found), read_state(expected)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    ours, theirs = remains(found), remains(expected)
    for what, value in theirs.items():
        if ours[what] != value:
            raise Failed(f"{what} differs:\n{ours[what]}\nnot\n{value}")


def drill(method, strikes, rng, place, tell=print):
    """Strike a method's runs, one after another, until there were enough strikes."""
    counts = collections.Counter()
    whole = place / f"{method}-whole"
    undisturbed = Process(method, whole, place / f"{method}-whole.txt")
    if undisturbed.finish():
        raise Failed(undisturbed.said())
    number = 0
    while sum(counts.values()) < strikes:
        folder, done = place / f"{method}-{number}", False
        while not done:
            process = Process(method, folder, place / f"{method}-{number}.txt")
            if sum(counts.values()) < strikes:
                name = list(SIGNALS)[sum(counts.values()) % len(SIGNALS)]  # each equally often
                moment = rng.choice(MOMENTS)
                process.wait_for(moment, rng)
                struck = process.running()
                code = process.strike(SIGNALS[name])
            else:
                struck, code = False, process.finish()
            said = process.said()
            done = code == 0
            if struck:
                counts[f"{name}, {moment}"] += 1
            if "Traceback" in said or not (done or struck):
                raise Failed(f"{method}: exit code {code}\n{said}")
        compare(folder, whole)
        number += 1
        tell(f"{method}: run {number} is as if untouched; {sum(counts.values())} strikes so far")
    return counts


def main():
    """Run the drill; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strikes", type=int, default=100, help="over all methods; 100")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, counts = random.Random(args.seed), collections.Counter()
    with tempfile.TemporaryDirectory() as place:
        for i, method in enumerate(args.methods):
            share = args.strikes * (i + 1) // len(args.methods) - sum(counts.values())
            try:
                counts += drill(method, share, rng, pathlib.Path(place))
            except Failed as failed:
                print(f"FAILED {failed}")
                return 1
    for name, count in sorted(counts.items()):
        print(f"{count:4} {name}")
    print(f"{sum(counts.values())} strikes; every run ended as if untouched.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
