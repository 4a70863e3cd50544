"""The training loop of one phase. It knows no method: it sees a phase and a state.

Steps are taken in calls of several, none of which goes past a place where the loop has things to
do. The order there: update; every `log_every_steps` a line of metrics per expert; every
`eval_every_epochs`, and at the end of a phase that another one follows, evaluate, then, where that
was on a held-out part, `after_eval`; every `save_every_epochs`, after an evaluation, at the end and
when asked to stop, save. Nothing is logged or saved that is not finite.
"""

import pathlib
import signal
import time
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from ltjax.config.settings import Settings
from ltjax.data.datasets import Splits
from ltjax.data.feeds import MAIN, resident
from ltjax.data.images import Images
from ltjax.evaluation.evaluate import evaluator, heads_as_experts, measurer
from ltjax.experts import best_over, independent, seeded_keys
from ltjax.learner import TrainState, Variables
from ltjax.mesh import EXPERTS, REQUESTS, WHOLE, fetch, jit_once, mesh_for, place, sharded
from ltjax.phases import Info, Phase, steps_per_epoch
from ltjax.report import summary as report
from ltjax.run.checkpoint import Checkpoints, Position
from ltjax.run.console import Display, Speed, say
from ltjax.run.folder import Log
from ltjax.run.signals import Stop
from ltjax.run.steps_per_call import most_steps, strides


class Stopped(Exception):  # noqa: N818, not an error
    """The run was asked to stop by a signal, and its state is saved."""

    def __init__(self, number: int, where: str, folder: pathlib.Path):
        super().__init__(f"Stopped; saved at {where} in {folder}.")
        self.exit_code = 128 + number


class Diverged(Exception):  # noqa: N818, what happened, not a mistake
    """The loss or the state is no longer finite; the last good checkpoint is kept."""


class Run(NamedTuple):
    """What all phases of a run share."""

    settings: Settings
    splits: Splits
    info: Info
    recipe: tuple[Phase, ...]
    folder: pathlib.Path
    checkpoints: Checkpoints
    log: Log
    console: Console


class Loop:
    """One phase, compiled for the devices at hand."""

    def __init__(self, this: Run, phase_number: int):
        """Compile nothing yet; programs are compiled when first called."""
        settings, phase = this.settings, this.recipe[phase_number]
        self.this, self.phase, self._phase_number = this, phase, phase_number
        self._mesh = mesh_for(phase.num_experts, expert=settings.mesh.expert)
        draws = {MAIN: phase.draw, **phase.streams}
        images = drawn_from(this.splits, phase.source)
        self._feed = resident(images, draws, settings.seed, phase_number, phase.num_experts)
        many = independent(phase.learner, best_over(settings.compute))
        self._many = sharded(many, self._mesh, self._feed.load)
        self._evaluate = evaluator(many.predict, self._mesh, settings.eval_batch_size)
        self._per_epoch = steps_per_epoch(len(this.info.labels), phase)
        self._log_every = settings.log_every_steps
        self._eval_every = self._steps(settings.eval_every_epochs)
        self._save_every = self._steps(settings.save_every_epochs)

    def initial(self) -> TrainState:
        """A fresh state, every leaf in its final shape."""
        keys = seeded_keys(self.this.settings.seed, self._phase_number, self.phase.num_experts)
        return self._many.init(keys, self.this.info.example)

    def begin(self, previous: Variables | None) -> TrainState:
        """The state that the phase begins with.

        Args:
          previous: variables at the end of the previous phase, if there is one.
        """
        begin = jit_once(self.phase.begin, self._mesh)
        return begin(self.initial(), None if previous is None else fetch(previous))

    def train(self, state: TrainState, start: int, seconds: float) -> tuple[TrainState, float]:
        """Take the steps from `start` to the end of the phase.

        Args:
          state: as `initial` gives it, or a later one; its buffers are given up.
          start: steps already done in this phase.
          seconds: that training took so far, in earlier phases and sessions.

        Returns:
          The last state, and the seconds that training took by now.

        Raises:
          Stopped: on Ctrl-C or SIGTERM, after saving.
          Diverged: if something is not finite.
        """
        this, phase, settings = self.this, self.phase, self.this.settings
        arrays = place(self._feed.arrays, self._mesh, WHOLE)
        images_per_step = phase.num_experts * phase.batch_size
        speed = Speed(images_per_step)
        began, metrics, compiled = time.perf_counter(), None, set()
        every = [n for n in (self._log_every, self._eval_every, self._save_every) if n]
        calls = strides(start, phase.num_steps, every, most_steps(settings.compute))
        is_last_phase = self._phase_number + 1 == len(this.recipe)
        with (
            Stop(lambda text: say(this.console, text)) as stop,
            Display(this.console, phase.name, phase.num_steps, start, images_per_step) as display,
        ):
            for step, count in calls:
                requests = place(self._feed.host_batches(step, count), self._mesh, REQUESTS)
                # One call may run while the next is prepared. A longer queue would go on running
                # long after Ctrl-C.
                jax.block_until_ready(metrics)
                if count in compiled:
                    speed.begin(step)
                else:  # the first call of a program compiles it
                    speed.pause()
                    compiled.add(count)
                state, metrics = self._many.update(state, arrays, requests)

                done, last = step + count, step + count == phase.num_steps
                finished = last and is_last_phase
                stopping = stop.signal or this.checkpoints.stop_requested()
                display.advance(done)
                if done % self._log_every == 0 or last:
                    self._log(done, fetch(metrics), speed, display)
                pause = last or _is_due(done, self._eval_every)
                # the last state of a run has its own evaluation
                if pause and not finished and not phase.skip_evaluation:
                    state = self._evaluate_and_tell(state, done)
                if pause or stopping or _is_due(done, self._save_every):
                    self.save(state, done, seconds + time.perf_counter() - began)
                    speed.pause()
                if stopping and not finished:
                    raise Stopped(stop.signal or signal.SIGTERM, self.at(done), this.folder)
        return state, seconds + time.perf_counter() - began

    def evaluate(self, state: TrainState) -> dict[str, dict]:
        """Evaluate on what was held out, the test split last.

        Returns:
          {split: metrics.summary(...)}; with several heads, 'heads' more, those of each expert in
          turn, numbers as those of 'experts', 'head_names' of one expert and how they are
          'combined', in words; if not to the mean of their logits, 'heads_mean', what that would
          give, [E]; with measures, 'measures', {name: [E]}.
        """
        splits, settings, many = self.this.splits, self.this.settings, self._many.many
        counts, size = self.this.info.class_counts, settings.eval_batch_size
        results = {}
        for name in ("validation", "test"):
            images = getattr(splits, name)
            if images is None:
                continue
            result = self._evaluate(state, images, counts, settings.combine)
            if many.heads:
                each = evaluator(heads_as_experts(many.heads), self._mesh, size)
                alone = each(state, images, counts, settings.combine)["experts"]
                after = len(alone) // self.phase.num_experts  # of K heads comes their mean
                of_expert = [alone[i : i + after] for i in range(0, len(alone), after)]
                result["heads"] = [head for heads in of_expert for head in heads[:-1]]
                if many.combined:
                    result["heads_mean"] = [heads[-1] for heads in of_expert]
                result["head_names"], result["combined"] = list(many.head_names), many.combined
            if many.measures:
                result["measures"] = measurer(many.measures, self._mesh, size)(state, images)
            results[name] = result
        return results

    def at(self, done: int) -> str:
        """A place in the run, in words."""
        several = f" of {self.phase.num_steps:,} of {self.phase.name}"
        return f"step {done:,}{several if len(self.this.recipe) > 1 else ''}"

    def _log(self, done, metrics, speed, display):
        values = {f"train/{name}": value.tolist() for name, value in metrics.items()}
        self._check_finite(np.isfinite(values["train/loss"]), "loss", done)
        rate = speed.lap(done)
        if rate is not None:
            values["images_per_second"] = rate
        self.this.log.write(self._number(done), **self._when(done), **values)
        display.numbers(done, values["train/loss"], rate)

    def _evaluate_and_tell(self, state, done):
        this = self.this
        name = "validation" if this.splits.validation else "test"
        images = getattr(this.splits, name)
        result = self._evaluate(state, images, this.info.class_counts, this.settings.combine)
        memory = fetch(state.variables.memory)
        if this.splits.validation and jax.tree.leaves(memory):  # of the test split nothing learns
            memory = place(self._many.many.after_eval(memory, result), self._mesh, EXPERTS)
            state = state._replace(variables=state.variables._replace(memory=memory))
        this.log.write(self._number(done), **self._when(done), **report.for_log(name, result))
        phase = f"{self.phase.name}, " if len(this.recipe) > 1 else ""
        epoch = f"{phase}epoch {done / self._per_epoch:.4g}"
        say(this.console, f"{epoch}: {report.one_line(name, result)}")
        return state

    def save(self, state: TrainState, done: int, seconds: float) -> None:
        """Save the state after `done` steps of this phase, if it is finite."""
        self._check_finite(fetch(self._many.is_finite(state)), "state", done)
        position = Position(self._phase_number, done, seconds)
        self.this.checkpoints.save(self._number(done), state, position)
        self.this.log.flush()

    def _check_finite(self, is_finite, what, done):
        if not is_finite.all():
            bad = np.flatnonzero(~is_finite) + 1
            saved = self.this.checkpoints.position()
            kept = f"the state of step {saved.step:,} is kept" if saved else "nothing was saved yet"
            raise Diverged(
                f"The {what} of expert {', '.join(map(str, bad))} is no longer finite at step "
                f"{done:,} of {self.phase.name}; {kept} in {self.this.folder}. A lower "
                f"--config.schedule.lr, with another --workdir, may help."
            )

    def _steps(self, epochs):
        return max(1, round(epochs * self._per_epoch)) if epochs else 0

    def _number(self, done):
        return number(self.this.recipe, self._phase_number, done)

    def _when(self, done):
        return {"phase": self.phase.name, "step": done, "epoch": done / self._per_epoch}


def drawn_from(splits: Splits, source: str) -> Images:
    """The images that a phase draws from; those of the test split come without their labels."""
    images = getattr(splits, source)
    return images._replace(label=np.full_like(images.label, -1)) if source == "test" else images


def _is_due(done, every):
    return every > 0 and done % every == 0


def number(recipe: tuple[Phase, ...], phase: int, step: int) -> int:
    """One number for a place in a run, growing by 1 a step and by 1 from phase to phase."""
    return sum(earlier.num_steps + 1 for earlier in recipe[:phase]) + step
