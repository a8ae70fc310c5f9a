"""What a run does when it is told to stop."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

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


INTERRUPTED = """
import signal, time, torch
from sslzoo.train.finish import GracefulStop

GracefulStop().on_train_start(None, None)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.001)
torch.set_num_threads(1)
a, b = torch.randn(2048, 256), torch.randn(2048, 256)  # as of the gradient of a linear layer's weight
end = time.monotonic() + 2
while time.monotonic() < end:
    torch.ops.mkldnn._linear_pointwise(a.t(), b.t(), None, "none", [], "")
signal.setitimer(signal.ITIMER_REAL, 0)
"""


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch was built without oneDNN")
def test_signals_during_onednns_products_do_not_corrupt_the_heap():
    """Without a stack for signals, this process aborts within a second on a processor with AVX-512."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_signals_have_a_stack_where_the_streams_are_replaced_or_closed():
    say = "import faulthandler; from sslzoo.signal_stack import use_signal_stack; use_signal_stack()"
    for before in ("import sys, io; sys.stderr = io.StringIO()", "import os; os.close(2)", "pass"):
        program = f"{before}; {say}; assert faulthandler.is_enabled()"
        assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
    closed = ["sh", "-c", f"exec '{sys.executable}' -c '{say}' 2>&-"]
    assert subprocess.run(closed, check=False, timeout=60).returncode == 0
