"""What a run does when it is told to stop."""

import os
import signal
from types import SimpleNamespace

import pytest

from sslzoo.train.finish import GracefulStop

TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


@pytest.fixture
def stop(monkeypatch):
    """A run that trains; it writes down how its process would have ended. SIGHUP is not ignored, as it would be where
    the tests themselves run under nohup."""
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before, stop = {number: signal.getsignal(number) for number in TOLD}, GracefulStop()
    stop.ended = []
    monkeypatch.setattr(os, "_exit", stop.ended.append)
    monkeypatch.setattr(os, "isatty", lambda number: False)
    stop.on_train_start(None, None)
    yield stop
    stop.on_train_end(None, None)
    for number in TOLD:
        assert signal.getsignal(number) == before[number]
    signal.signal(signal.SIGHUP, hangup)


def stops(stop) -> bool:
    trainer = SimpleNamespace(should_stop=False, world_size=1)
    stop.after_step(trainer, None)
    return trainer.should_stop


@pytest.mark.parametrize("number", TOLD)
def test_the_step_is_finished(number, stop):
    assert not stops(stop)
    signal.raise_signal(number)
    assert stops(stop) and stop.signal == number and not stop.ended


def test_a_terminal_that_closes_says_so_twice_and_a_job_ends_soon_after_its_warning(stop):
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
        signal.raise_signal(number)
    assert stops(stop) and not stop.ended
    signal.raise_signal(signal.SIGTERM)
    assert stop.ended == [128 + signal.SIGTERM]


def test_a_second_interrupt_ends_at_once(stop):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert stop.ended == [128 + signal.SIGINT]


def test_under_nohup_a_closed_terminal_is_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = GracefulStop()
        stop.on_train_start(None, None)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        stop.on_train_end(None, None)
    finally:
        signal.signal(signal.SIGHUP, before)
