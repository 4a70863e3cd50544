"""Signals are requests while a phase trains, and nothing else changes."""

import os
import signal
import threading

import pytest
import toy
from test_checkpoint import CONFIG

from ltjax import train
from ltjax.run import loop
from ltjax.run.checkpoint import read_position, read_state
from ltjax.run.saving import Checkpoints
from ltjax.run.signals import Signals


def sent(number):
    os.kill(os.getpid(), number)


@pytest.fixture
def heeded():
    """SIGHUP is not ignored, as it is where nohup started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted_and_the_second_has_its_usual_effect(number):
    usual = []
    before = signal.signal(number, lambda *_: usual.append(number))
    try:
        told = []
        with Signals(told.append) as signals:
            sent(number)
            assert signals.stop == number and len(told) == 1 and not usual
            sent(number)
            assert usual == [number]
        assert signal.getsignal(number) != signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_request_to_save_is_taken_once_and_stops_nothing():
    with Signals(print) as signals:
        assert not signals.take_save()
        sent(signal.SIGUSR1)
        assert signals.take_save() and not signals.take_save() and signals.stop is None


def test_a_signal_that_is_ignored_stays_so():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals(print) as signals:
            sent(signal.SIGHUP)
            assert signals.stop is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_is_noted_though_nobody_can_be_told():
    def gone(text):
        raise BrokenPipeError

    with Signals(gone) as signals:
        sent(signal.SIGTERM)
        assert signals.stop == signal.SIGTERM


def test_other_threads_leave_signals_alone():
    def other():
        with Signals(print):
            found.append(signal.getsignal(signal.SIGTERM))

    found = []
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


@pytest.mark.parametrize(
    ("number", "at", "saved"),
    [
        (signal.SIGHUP, 3, 3),
        (signal.SIGINT, 10, 10),
        (signal.SIGTERM, 4, 4),
    ],
)
@pytest.mark.slow
@pytest.mark.usefixtures("heeded")
def test_a_stopped_run_has_saved_and_ends_as_if_untouched(tmp_path, monkeypatch, number, at, saved):
    """Also at the last step, where only the evaluation is left."""
    train.run(CONFIG, str(tmp_path / "whole"), splits=toy.splits())
    advance = loop.Display.advance

    def striking(self, done):
        advance(self, done)
        if done == at - 1:  # while the next call runs
            sent(number)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Display, "advance", striking)
        with pytest.raises(loop.Stopped, match=f"saved at step {saved}") as stopped:
            train.run(CONFIG, str(tmp_path / "own"), splits=toy.splits())
    assert stopped.value.exit_code == 128 + number
    assert read_position(tmp_path / "own").step == saved
    assert not (tmp_path / "own" / "report.json").exists()
    train.run(CONFIG, str(tmp_path / "own"), splits=toy.splits())
    toy.assert_trees_equal(*(read_state(tmp_path / name) for name in ("own", "whole")))


def test_a_run_that_is_asked_to_save_goes_on(tmp_path, monkeypatch, capsys):
    advance, save, saved = loop.Display.advance, Checkpoints.save, []

    def asking(self, done):
        advance(self, done)
        if done == 1:
            sent(signal.SIGUSR1)

    def saving(self, number, state, position):
        saved.append(number)
        save(self, number, state, position)

    monkeypatch.setattr(loop.Display, "advance", asking)
    monkeypatch.setattr(Checkpoints, "save", saving)
    train.run(CONFIG, str(tmp_path), splits=toy.splits())
    assert saved == [1, 4, 8, 10]  # the others are due
    assert "Saving at step 1, as a signal asked." in capsys.readouterr().out
