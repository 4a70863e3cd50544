"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from ltjax.terminal import console, say


class Display:
    """The progress of one phase; a context manager. Only process 0 shows anything."""

    def __init__(
        self, console: Console, name: str, num_steps: int, done: int, images_per_step: int
    ):
        """Show steps `done` to `num_steps` of the phase `name`."""
        self._console, self._name = console, name
        self._num_steps, self._images_per_step = num_steps, images_per_step
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal or console.quiet,
        )
        self._task = self._bar.add_task(name, total=num_steps, completed=done, numbers="compiling")

    def __enter__(self) -> "Display":
        self._bar.start()
        if not self._console.is_terminal:
            say(self._console, f"{self._name}: compiling")
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, done: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done)

    def numbers(
        self, done: int, losses: Sequence[float | None], images_per_second: float | None
    ) -> None:
        """Show the losses of the experts and the speed, images of all experts per second.

        Where all losses are 0 nothing is learned by gradients, and they are left out; None is one
        of an expert that is set aside.
        """
        losses = [loss for loss in losses if loss is not None]
        shown = losses if len(losses) <= 4 else [min(losses), max(losses)]
        between = " " if len(losses) <= 4 else " to "
        parts = [f"loss {between.join(f'{x:.2f}' for x in shown)}"] if any(losses) else []
        if images_per_second is not None:
            parts.append(f"{images_per_second:,.0f} img/s")
        text = "  ".join(parts)
        self._bar.update(self._task, completed=done, numbers=text)
        if not self._console.is_terminal:
            line = f"{self._name} {done:>{len(str(self._num_steps))}}/{self._num_steps}  {text}"
            if images_per_second is not None:
                left = round((self._num_steps - done) * self._images_per_step / images_per_second)
                line += f"  {left // 60}:{left % 60:02d} left"
            say(self._console, line)


class Speed:
    """Images per second between two steps, what is not training left out."""

    def __init__(self, images_per_step: int):
        self._images_per_step = images_per_step
        self._from: tuple[int, float] | None = None

    def begin(self, done: int) -> None:
        """Start the clock at a moment when `done` steps are done, unless it runs."""
        self._from = self._from or (done, time.perf_counter())

    def lap(self, done: int) -> float | None:
        """The rate since the clock started, or None if it does not run; start it anew."""
        before, now = self._from, time.perf_counter()
        self._from = (done, now)
        if before is None or done == before[0]:
            return None
        return self._images_per_step * (done - before[0]) / (now - before[1])

    def pause(self) -> None:
        """Stop the clock."""
        self._from = None


def own_console() -> Console:
    """The console of this process, on standard output; silent but for process 0."""
    return console(quiet=jax.process_index() != 0)
