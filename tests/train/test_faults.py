"""Faults that are really caused: a killed run goes on and ends as if nothing had been; a lost rank is named."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import TINY
from test_checkpoint import start

from sslzoo.run import Run
from sslzoo.train import heartbeat

WORDS = [
    "objective=rotation",
    "data=tiny_image",
    "encoder=tiny_resnet",
    "trainer.progress=false",
    "trainer.val_every=null",
]


def command(folder, *more, **how):
    words = [
        sys.executable,
        "-m",
        "sslzoo",
        "pretrain",
        "--config-dir",
        str(TINY),
        *WORDS,
        f"root={folder}",
        "name=run",
        *more,
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True, **how)


def until(there, process, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not there() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.005)


class Dying:
    """os.replace, which kills this process the `moment`-th time."""

    def __init__(self, moment: int):
        self.left, self.replace = moment, os.replace

    def __call__(self, *paths):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.replace(*paths)


def test_a_process_that_dies_within_a_save_leaves_a_run_that_goes_on(tmp_path):
    """A fork of this process ends, without a word, at the first, the second, … file that is put in its place."""
    whole = start(Run(tmp_path / "whole"))
    run = Run(tmp_path / "run")
    for moment in range(1, 30, 4):
        child = os.fork()
        if child == 0:
            os.replace = Dying(moment)
            try:
                start(run)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        if run.done:
            break
    else:
        assert start(run).done
    assert run.weights.read_bytes() == whole.weights.read_bytes()
    assert run.metrics.read_text() == whole.metrics.read_text()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_killed_at_random_moments(tmp_path):
    """Fifty times: at any moment of training, in the middle of a checkpoint, and of whatever else is written."""
    more = ["trainer.max_steps=1500", "trainer.save_every=5"]
    whole = command(tmp_path / "whole", *more)
    assert whole.wait(600) == 0, whole.stderr.read()
    run, draw = Run(tmp_path / "runs" / "run"), random.Random(0)
    within_a_checkpoint = 0
    for number in range(50):
        left, before = set(run.folder.rglob("*.unfinished")), len(list(run.checkpoints.glob("*.ckpt")))
        process = command(tmp_path / "runs", *more)

        def training(pid=process.pid):
            return run.heartbeat.exists() and json.loads(run.heartbeat.read_text())["pid"] == pid

        def writing(left=left, start=".step=" if number % 4 == 1 else "."):
            return set(run.folder.rglob(f"{start}*.unfinished")) - left

        if number % 2:
            until(writing, process)
        else:
            until(training, process)
            time.sleep(draw.uniform(0, 0.6))
        assert process.poll() is None, f"it ended before it was killed the {number + 1}. time: {process.stderr.read()}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        within_a_checkpoint += bool(set(run.checkpoints.glob(".step=*.unfinished")) - left)
        assert len(list(run.checkpoints.glob("*.ckpt"))) >= min(before, 2), "what was written as done is lost"
    assert within_a_checkpoint >= 5
    process = command(tmp_path / "runs", *more)
    assert process.wait(600) == 0, process.stderr.read()
    assert run.weights.read_bytes() == (tmp_path / "whole" / "run" / "encoder.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number, message", [(signal.SIGKILL, "has ended"), (signal.SIGSTOP, "stands still")])
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_the_others_end_and_name_the_rank_that_is_lost(tmp_path, number, message, trainer):
    more = [f"trainer={trainer}", "trainer.accelerator=cpu", "trainer.save_every=5", "trainer.rank_timeout=40"]
    process = command(tmp_path / "runs", *more, "trainer.max_steps=100000")
    run = Run(tmp_path / "runs" / "run")
    until(lambda: list(run.checkpoints.glob("*.ckpt")) and (run.folder / ".rank-1").exists(), process)
    other = json.loads((run.folder / ".rank-1").read_text())[1]
    os.kill(other, number)
    begun = time.monotonic()
    assert process.wait(200) == 1
    assert time.monotonic() - begun < 90
    said = process.stderr.read().strip().splitlines()[-1]
    assert f"rank 1 (pid {other}" in said and message in said and "the same command goes on" in said
    end = time.monotonic() + 30
    while not heartbeat.has_ended(other):
        assert time.monotonic() < end


def test_a_rank_that_has_ended_is_told_from_one_that_has_not():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert not heartbeat.has_ended(child.pid) and not heartbeat.has_ended(os.getpid())
    child.kill()
    end = time.monotonic() + 30
    while not heartbeat.has_ended(child.pid):  # a zombie, until it is waited for
        assert time.monotonic() < end
    child.wait()
    assert heartbeat.has_ended(child.pid)


@pytest.mark.parametrize("error, said", [
    ("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 15000ms for recv", "within trainer.rank_timeout"),
    ("Application timeout caused pair closure", "within trainer.rank_timeout"),
    ("NCCL Watchdog caught collective operation timeout", "within trainer.rank_timeout"),
    ("[gloo/transport/tcp/pair.cc:534] Connection closed by peer", "connection to another rank broke"),
    ("shape mismatch", ""),
])  # fmt: skip
def test_a_broken_connection_is_said_where_no_rank_is_found_lost(tmp_path, monkeypatch, error, said):
    """The other rank has given up for the same reason, and has taken its mark away."""
    now = iter(range(1000))
    clock = SimpleNamespace(monotonic=lambda: next(now), sleep=lambda _: None, time=time.time)
    monkeypatch.setattr(heartbeat, "time", clock)
    beat = heartbeat.Heartbeat(Run(tmp_path), None)
    trainer = SimpleNamespace(world_size=2, global_rank=1, is_global_zero=False)
    trainer.strategy = SimpleNamespace(launcher=None)
    beat.on_exception(trainer, None, RuntimeError(error))
    assert said in beat.lost if said else beat.lost == ""
