"""What happens where numbers are no longer finite: the run stops, or an expert is set aside.

Steps are deterministic, so that nothing needs to be watched while all is well: afterwards, the
steps since the last checkpoint are taken again, singly, until one is not finite.

By default the run stops. With config.on_divergence='set_aside' the expert concerned is set aside.
It is computed on, because all experts are one program, but counts in no average, log or report.
Experts share nothing, so that the others learn what they would have learned in any case.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ltjax import storage
from ltjax.config.settings import Settings
from ltjax.learner import TrainState
from ltjax.mesh import fetch
from ltjax.phases import Phase
from ltjax.run.compiled import Compiled
from ltjax.run.shared import Run, SetAside
from ltjax.terminal import say

BATCH = "diverged.npz"  # in the folder of a run that stopped


class Diverged(Exception):  # noqa: N818, what happened, not a mistake
    """A run, or all of several, did not stay finite."""


class NotFinite(Diverged):
    """A number is no longer finite; the last good checkpoint is kept."""

    def __init__(
        self,
        what: str,
        experts: Sequence[int],
        step: int,
        phase: str,
        kept: str,
        others: str = "",
    ):
        """Say what is not finite.

        Args:
          what: "loss" or another metric, "state", "gradient" or "output on the ... split".
          experts: which, from 1.
          step: after which this was noticed, of the phase.
          phase: its name.
          kept: what the run can be resumed from, in words.
          others: how the other experts can finish, in words, if they can.
        """
        super().__init__(what, experts, step, phase, kept, others)
        self.what, self.experts, self.step, self.phase, self.kept, self.others = self.args

    def __str__(self) -> str:
        several = f"expert{'s' * (len(self.experts) > 1)} {', '.join(map(str, self.experts))}"
        return (
            f"The {self.what} of {several} is no longer finite at "
            f"step {self.step:,} of {self.phase}; {self.kept}. A lower --config.schedule.lr may "
            f"help, with another --workdir{self.others}."
        )


class Found(NamedTuple):
    """What was not finite first."""

    step: int  # of the phase, counted from 1
    what: str  # as NotFinite says it
    experts: list[int]  # from 1


class Watch:
    """Over the numbers of one phase."""

    def __init__(self, run: Run, number: int, compiled: Compiled):
        """Watch phase `number` of the run."""
        self._run, self._number, self._compiled = run, number, compiled
        self._phase = run.recipe[number]

    def check(self, is_finite: np.ndarray, what: str, done: int, replay: bool = True) -> None:
        """Set aside the experts that are not finite, or stop the run.

        Args:
          is_finite: bool[E].
          what: was looked at, as NotFinite says it.
          done: steps.
          replay: look for the first bad step; not if the steps themselves may all be finite.

        Raises:
          NotFinite: if the run is to stop, or no expert is left.
        """
        run, aside = self._run, self._run.aside()
        bad = not_finite(is_finite, aside)
        if not bad:
            return
        run.checkpoints.wait()
        first = self._first(done) if replay else None
        found = first or Found(done, what, bad)
        left = self._phase.num_experts - len(aside) - len(found.experts)
        goes_on = run.settings.on_divergence == "set_aside" and left > 0
        file = f"diverged-expert-{found.experts[0]}.npz" if goes_on else BATCH
        kept = ""
        if first and jax.process_index() == 0:
            with storage.writing(run.folder / file):
                write_batch(run.folder / file, self._compiled, first)
            kept = f"; the batch of that step is in {file}"
        name = self._phase.name
        if not goes_on:
            kept = f"{run.checkpoints.kept()} in {run.folder}{kept}"
            may = left > 0 and why_not_aside(self._phase, run.settings) is None
            others = "; --config.on_divergence=set_aside finishes the other experts" if may else ""
            if aside:
                kept += "; no other expert is left"
            raise NotFinite(found.what, found.experts, found.step, name, kept, others)
        for expert in found.experts:
            run.set_aside.append(SetAside(expert, found.what, found.step, name))
            say(run.console, f"{run.set_aside[-1]} The others train on{kept}.")
        self.check(is_finite, what, done, replay)  # others may have begun later

    def _first(self, done):
        """The first bad step since the last checkpoint; None if all are finite this time."""
        run, compiled, saved = self._run, self._compiled, self._run.checkpoints.position()
        if saved and saved.phase == self._number:
            like = compiled.initial(run.info.example)
            state, start = run.checkpoints.restore(like=like), saved.step
        elif self._number == 0:
            state, start = compiled.begin(run.info.example, None), 0
        else:  # it began so
            return None
        say(run.console, f"Looking for the first step after {start:,} that is not finite.")
        return first_bad(compiled, state, start, done, run.aside())


def why_not_aside(phase: Phase, settings: Settings) -> str | None:
    """Why an expert cannot be set aside, in words; None if it can."""
    if phase.num_experts == 1:
        return "needs at least two experts (joint counts as one)"
    if phase.num_experts != settings.num_experts:
        return f"method {settings.method['name']!r} makes an expert of several networks"
    if settings.compute.convolution == "blocks":
        return "convolution 'blocks' has all experts in one product, which one of them spoils"
    return None


def first_bad(
    compiled: Compiled, state: TrainState, start: int, end: int, aside: Sequence[int] = ()
) -> Found | None:
    """Take the steps `start` to `end` again, until one is not finite.

    Args:
      compiled: the phase.
      state: after `start` steps; its buffers are donated.
      start: steps done.
      end: steps after which something was not finite.
      aside: experts, from 1, that are not looked at.

    Returns:
      A step whose "loss" is not finite, or, where that still was, whose "gradient" is not. None if
      all are finite this time: on some devices sums have no fixed order.
    """
    for step in range(start, end):
        state, metrics = compiled.update(state, compiled.requests(step))
        numbers = {
            "loss": np.isfinite(fetch(metrics["loss"])),
            "gradient": fetch(compiled.programs.is_finite(state)),
        }
        for what, is_finite in numbers.items():
            bad = not_finite(is_finite, aside)
            if bad:
                return Found(step + 1, what, bad)
    return None


def not_finite(is_finite: np.ndarray, aside: Sequence[int]) -> list[int]:
    """The experts, from 1, that are not finite, bool[E], and not set aside."""
    return [int(i) + 1 for i in np.flatnonzero(~is_finite) if i + 1 not in aside]


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
