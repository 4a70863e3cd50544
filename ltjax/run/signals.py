"""Ctrl-C and SIGTERM as a request to stop after the current call and save the state."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

import jax


class Stop:
    """A context that only notes the first signal; the second one has its usual effect.

    With several processes no signal is caught: they must agree on the step at which they stop, as
    JAX's preemption service makes them (Checkpoints.stop_requested).
    """

    def __init__(self, tell: Callable[[str], None]):
        """tell: shows a line of text to the user."""
        self._tell = tell
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Stop":
        alone = jax.process_count() == 1
        if alone and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._tell("Stopping after this call, and saving. A second signal stops at once.")
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
