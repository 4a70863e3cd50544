"""Where a run stopped being finite: the steps since its last checkpoint are taken again, singly.

Steps are deterministic, so that nothing needs to be watched while all is well.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ltjax.learner import TrainState
from ltjax.mesh import fetch
from ltjax.run.compiled import Compiled

BATCH = "diverged.npz"  # in the folder of a run


class Diverged(Exception):  # noqa: N818, what happened, not a mistake
    """A run, or all of several, did not stay finite."""


class NotFinite(Diverged):
    """A number is no longer finite; the last good checkpoint is kept."""

    def __init__(self, what: str, experts: Sequence[int], step: int, phase: str, kept: str):
        """Say what is not finite.

        Args:
          what: "loss", "state", "gradient" or "output on the ... split".
          experts: which, from 1.
          step: after which this was noticed, of the phase.
          phase: its name.
          kept: what the run can be resumed from, in words.
        """
        super().__init__(what, experts, step, phase, kept)
        self.what, self.experts, self.step, self.phase, self.kept = self.args

    def __str__(self) -> str:
        return (
            f"The {self.what} of expert {', '.join(map(str, self.experts))} is no longer finite at "
            f"step {self.step:,} of {self.phase}; {self.kept}. A lower --config.schedule.lr may "
            f"help, with another --workdir."
        )


class Found(NamedTuple):
    """The first step that was not finite."""

    step: int  # counted from 1
    what: str  # "loss"; "gradient" if the loss still was
    experts: list[int]  # from 1


def first_bad(compiled: Compiled, state: TrainState, start: int, end: int) -> Found | None:
    """Take the steps `start` to `end` again, until one is not finite.

    Args:
      compiled: the phase.
      state: after `start` steps; its buffers are donated.
      start: steps done.
      end: steps after which something was not finite.

    Returns:
      None if all are finite this time: on some devices sums have no fixed order.
    """
    for step in range(start, end):
        state, metrics = compiled.update(state, compiled.requests(step))
        numbers = {
            "loss": np.isfinite(fetch(metrics["loss"])),
            "gradient": fetch(compiled.programs.is_finite(state)),
        }
        for what, is_finite in numbers.items():
            if not is_finite.all():
                return Found(step + 1, what, (np.flatnonzero(~is_finite) + 1).tolist())
    return None


def write_batch(path: pathlib.Path, compiled: Compiled, found: Found) -> None:
    """Write the batch of a step as it left the feed, for the experts concerned.

    The file has 'step', 'experts' i64[n], 'image' u8[n, B, H, W, channels], 'label' and 'index'
    i32[n, B], and further streams as 'STREAM/image' and so on. NumPy reads it without pickles.
    """
    feed = compiled.feed
    batch = jax.device_get(feed.load(feed.arrays, feed.host_batch(found.step - 1)))
    rows = np.array(found.experts) - 1
    named = {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in _leaves(batch)}
    arrays = {name: np.asarray(leaf)[rows] for name, leaf in named.items()}
    np.savez_compressed(path, step=found.step, experts=np.array(found.experts), **arrays)


def _leaves(tree):
    return jax.tree_util.tree_leaves_with_path(tree)
