"""Signals as requests: stop after the current call and save (Ctrl-C, TERM, HUP), or save (USR1)."""

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

import jax

STOP = ("SIGINT", "SIGTERM", "SIGHUP")  # HUP: the terminal or the ssh connection is gone
SAVE = ("SIGUSR1",)  # what a cluster sends some time before it ends a job, if asked to


class Signals:
    """A context that notes signals; a second one to stop has its usual effect.

    With several processes no signal is caught: they must agree on the step at which they stop, as
    JAX's preemption service makes them (Checkpoints.stop_requested).
    """

    def __init__(self, tell: Callable[[str], None]):
        """tell: shows a line of text to the user."""
        self._tell = tell
        self.stop: int | None = None  # the signal that asked for it
        self._save = False
        self._before: dict[int, object] = {}

    def take_save(self) -> bool:
        """Whether a save was asked for since the last call."""
        asked, self._save = self._save, False
        return asked

    def __enter__(self) -> "Signals":
        alone = jax.process_count() == 1
        if alone and threading.current_thread() is threading.main_thread():
            for names, note in ((STOP, self._note_stop), (SAVE, self._note_save)):
                for name in names:
                    number = getattr(signal, name, None)  # Windows lacks some
                    # nohup and others ignore a signal on purpose
                    if number and signal.getsignal(number) != signal.SIG_IGN:
                        self._before[number] = signal.signal(number, note)
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop = number
        self._restore()
        with contextlib.suppress(Exception):  # whoever listened may be gone
            self._tell("Stopping after this call, and saving. A second signal stops at once.")

    def _note_save(self, number: int, frame: FrameType | None) -> None:
        self._save = True

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
