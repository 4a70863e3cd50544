"""The training loop of one phase. It knows no method: it sees a phase and a state.

One call takes several steps, but never passes a step at which the loop logs, evaluates or saves.
The order is: update; every `log_every_steps`, log a line of metrics per expert; every
`eval_every_epochs`, and at the end of a phase that another one follows, evaluate, then, on a
held-out split, call `after_eval`; every `save_every_epochs`, after an evaluation, at the end and
on a signal to stop, save. Values that are not finite are never logged or saved, but for the state
of experts that are set aside (ltjax.run.divergence).
"""

import pathlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ltjax.data.images import Images
from ltjax.evaluation.metrics import one_line, scalars
from ltjax.learner import TrainState, Variables
from ltjax.mesh import fetch
from ltjax.phases import Phase, steps_per_epoch
from ltjax.run.checkpoint import Position
from ltjax.run.compiled import Compiled
from ltjax.run.console import Display, Speed
from ltjax.run.divergence import Watch
from ltjax.run.shared import Run
from ltjax.run.signals import Signals
from ltjax.run.steps_per_call import most_steps, strides
from ltjax.terminal import say


class Stopped(Exception):  # noqa: N818, not an error
    """A signal stopped the run; its state is saved."""

    def __init__(self, number: int, where: str, folder: pathlib.Path):
        super().__init__(f"Stopped; saved at {where} in {folder}.")
        self.exit_code = 128 + number


class Evaluation(NamedTuple):
    """What a phase is evaluated on while it trains."""

    split: str  # "validation", or "test"
    images: Images
    evaluate: Callable[[Variables, Images, Sequence[int], bool], dict]  # as `evaluator` makes it


class Loop:
    """The training of one phase."""

    def __init__(self, run: Run, number: int, compiled: Compiled, evaluation: Evaluation):
        """Train phase `number` of the run's recipe."""
        settings, phase = run.settings, run.recipe[number]
        self.run, self.phase, self._phase_number = run, phase, number
        self._compiled, self._evaluation = compiled, evaluation
        self._watch = Watch(run, number, compiled)
        self._per_epoch = steps_per_epoch(run.info.num_train, phase)
        self._log_every = settings.log_every_steps
        self._eval_every = self._steps(settings.eval_every_epochs)
        self._save_every = self._steps(settings.save_every_epochs)

    def train(self, state: TrainState, start: int, seconds: float) -> tuple[TrainState, float]:
        """Take the steps from `start` to the end of the phase.

        Args:
          state: of the compiled phase; its buffers are donated.
          start: steps already done in this phase.
          seconds: of training so far, in earlier phases and before a resume.

        Returns:
          The last state, and the seconds that training took by now.

        Raises:
          Stopped: on Ctrl-C, SIGTERM or SIGHUP, after saving.
          NotFinite: if a loss, the state or an output is not.
          NotWritten: if the system refuses to store something.
        """
        run, phase, settings = self.run, self.phase, self.run.settings
        images_per_step = phase.num_experts * phase.batch_size
        speed = Speed(images_per_step)
        self._compiled.arrays()  # placed before the clock starts
        began, metrics, compiled = time.perf_counter(), None, set()
        every = [n for n in (self._log_every, self._eval_every, self._save_every) if n]
        calls = strides(start, phase.num_steps, every, most_steps(settings.compute))
        is_last_phase = self._phase_number + 1 == len(run.recipe)
        with (
            Signals(lambda text: say(run.console, text)) as signals,
            Display(run.console, phase.name, phase.num_steps, start, images_per_step) as display,
        ):
            for step, count in calls:
                requests = self._compiled.requests(step, count)
                # One call may run while the next is prepared. A longer queue would keep running
                # long after Ctrl-C.
                jax.block_until_ready(metrics)
                if count in compiled:
                    speed.begin(step)
                else:  # the first call of a program compiles it
                    speed.pause()
                    compiled.add(count)
                state, metrics = self._compiled.update(state, requests)

                done, last = step + count, step + count == phase.num_steps
                finished = last and is_last_phase
                stopping = signals.stop or run.checkpoints.stop_requested()
                display.advance(done)
                if done % self._log_every == 0 or last:
                    self._log(done, fetch(metrics), speed, display)
                pause = last or _is_due(done, self._eval_every)
                # the last state of a run has its own evaluation
                if pause and not finished and not phase.skip_evaluation:
                    state = self._evaluate_and_tell(state, done)
                asked = signals.take_save()
                if pause or asked or stopping or _is_due(done, self._save_every):
                    self.save(state, done, seconds + time.perf_counter() - began)
                    speed.pause()
                if asked:
                    say(run.console, f"Saving at {self.at(done)}, as a signal asked.")
                if stopping:
                    run.checkpoints.wait()
                    raise Stopped(signals.stop or signal.SIGTERM, self.at(done), run.folder)
        return state, seconds + time.perf_counter() - began

    def at(self, done: int) -> str:
        """A place in the run, in words."""
        several = f" of {self.phase.num_steps:,} of {self.phase.name}"
        return f"step {done:,}{several if len(self.run.recipe) > 1 else ''}"

    def save(self, state: TrainState, done: int, seconds: float, again: bool = False) -> None:
        """Save the state after `done` steps of this phase, if it is finite.

        again: the last state of the run, which is saved already.
        """
        self._watch.check(fetch(self._compiled.programs.is_finite(state)), "state", done)
        self.run.log.flush()
        aside = [list(one) for one in self.run.set_aside]
        place = self._phase_number, done, seconds, self.run.log.digest()
        position = Position(*place, aside, self.run.surroundings)
        self.run.checkpoints.save(self._number(done) + again, state, position)

    def final(self, state: TrainState, splits: Mapping[str, Images], seconds: float) -> dict:
        """Evaluate the last state on each split, {split: what the evaluator says}, 'outputs' too.

        Raises:
          NotFinite: if an output is not.
        """
        before, done = self.run.aside(), self.phase.num_steps
        results = self._evaluate(state, splits, done, keep=True)
        if self.run.aside() != before:  # the state that is kept says it, too
            self.save(state, done, seconds, again=True)
        return results

    def _evaluate(self, state, splits, done, keep=False):
        """Without the experts that are set aside, by now or by what is found here."""
        aside, evaluate = self.run.aside(), self._evaluation.evaluate
        results = {name: evaluate(state.variables, of, aside, keep) for name, of in splits.items()}
        for name, result in results.items():
            is_finite = np.ones(self.phase.num_experts, bool)
            for i, one in zip(result["expert_numbers"], result["experts"], strict=True):
                is_finite[i - 1] = np.isfinite(one["nll"])
            self._watch.check(is_finite, f"output on the {name} split", done, replay=False)
        if self.run.aside() != aside:
            return self._evaluate(state, splits, done, keep)
        return results

    def _log(self, done, metrics, speed, display):
        before = self.run.aside()
        for name, value in metrics.items():
            self._watch.check(np.isfinite(value), name, done)
        aside = self.run.aside()
        if aside != before:  # steps were taken again
            speed.pause()
        values = {
            f"train/{name}": [None if i in aside else x for i, x in enumerate(value.tolist(), 1)]
            for name, value in metrics.items()
        }
        rate = speed.lap(done)
        if rate is not None:
            values["images_per_second"] = rate
        self.run.log.write(self._number(done), **self._when(done), **values)
        display.numbers(done, values["train/loss"], rate)

    def _evaluate_and_tell(self, state, done):
        split, images, _ = self._evaluation
        result = self._evaluate(state, {split: images}, done)[split]
        if split == "validation":  # methods never learn from the test split
            state = self._compiled.after_eval(state, result)
        self.run.log.write(
            self._number(done), **self._when(done), **scalars(split, result, self.phase.num_experts)
        )
        phase = f"{self.phase.name}, " if len(self.run.recipe) > 1 else ""
        epoch = f"{phase}epoch {done / self._per_epoch:.4g}"
        say(self.run.console, f"{epoch}: {one_line(split, result)}")
        return state

    def _steps(self, epochs):
        return max(1, round(epochs * self._per_epoch)) if epochs else 0

    def _number(self, done):
        return number(self.run.recipe, self._phase_number, done)

    def _when(self, done):
        return {"phase": self.phase.name, "step": done, "epoch": done / self._per_epoch}


def _is_due(done, every):
    return every > 0 and done % every == 0


def number(recipe: tuple[Phase, ...], phase: int, step: int) -> int:
    """One number for a place in a run, growing by 1 a step and by 1 from phase to phase."""
    return sum(earlier.num_steps + 1 for earlier in recipe[:phase]) + step
