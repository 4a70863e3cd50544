"""Trains for long, with many saves and evaluations, and watches what may grow.

    python tests/drills/soak.py                (50,000 steps of a tiny network)
    python tests/drills/soak.py --steps 5000

Memory, open files, threads and the folder of checkpoints are looked at after each tenth. Between
the third and the last look memory may grow by 100 KiB a save, which Orbax and TensorStore keep
(docs/reliability.md), and nothing else may. The log grows by a line an entry, as it should.
"""

import argparse
import ctypes
import gc
import os
import pathlib
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import toy

from ltjax import train
from ltjax.run import loop

LOOKED_AT = ("resident KiB", "open files", "threads", "checkpoints")
SAVES = 200
GROWTH = 100  # KiB a save


def look(folder):
    """What may grow: resident KiB, open files, threads, checkpoints."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is freed and kept is not in use
    status = pathlib.Path("/proc/self/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    files = len(os.listdir("/proc/self/fd"))
    saved = len(os.listdir(folder / "checkpoints"))
    threads = threading.active_count()
    return dict(zip(LOOKED_AT, (resident, files, threads, saved), strict=True))


def soak(steps, folder):
    """Train; returns what was seen after each tenth."""
    per_epoch = 5  # of 16 images, of the toy's 75
    config = dict(
        method={"name": "classifier"},
        network={"name": "normed"},
        augment={"name": "none"},
        schedule={"name": "step", "lr": 0.01, "drop_at": ()},
        num_experts=2,
        batch_size=16,
        num_epochs=steps / per_epoch,
        log_every_steps=steps // 500,
        save_every_epochs=steps / per_epoch / SAVES,
        eval_every_epochs=steps / per_epoch / SAVES,
        compute={"experts_over": "map"},
    )
    seen, save = [], loop.Loop.save

    def watched(self, state, done, *rest):
        save(self, state, done, *rest)
        if done * 10 // steps > len(seen):
            self.run.checkpoints.wait()
            seen.append(look(folder))

    loop.Loop.save = watched
    try:
        train.run(config, str(folder), splits=toy.splits_with_held_out())
    finally:
        loop.Loop.save = save
    return seen


def grown(seen):
    """What grew between the third look and the last, by more than it may."""
    third, last = seen[2], seen[-1]
    allowed = {"resident KiB": GROWTH * SAVES * (len(seen) - 3) / len(seen)}
    return [name for name in third if last[name] > third[name] + allowed.get(name, 0)]


def main():
    """Run the drill; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        seen = soak(args.steps, pathlib.Path(place) / "run")
    for number, one in enumerate(seen, 1):
        print(f"{number * args.steps // 10:8,} steps  {one}")
    bad = grown(seen)
    print(f"grew: {', '.join(bad)}" if bad else "nothing grew")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
