"""A run's heartbeat: how far it is, written every few seconds, by which `sslzoo runs` and `watch` tell a run from a
dead one, and by which a rank whose messages fail finds out which other rank is lost."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist

from sslzoo.run import Run, write_json
from sslzoo.train.callback import StepCallback
from sslzoo.train.throughput import Throughput


class Heartbeat(StepCallback):
    """Writes heartbeat.json every `EVERY` seconds: step, of (the last one), time (of the clock, in s), seconds and
    steps of this process, loss, throughput (see `train.throughput`), host and pid. Removed when training ends in order,
    so that a killed run leaves one that gets old. Of several ranks each writes .rank-<number> as often as `RANKS`
    seconds. lost: the ranks that were lost, in words."""

    EVERY, RANKS = 5.0, 1.0

    def __init__(self, run: Run, throughput: Throughput):
        self.run, self.throughput = run, throughput
        self.marked = -float("inf")
        self.lost = ""
        self.written = -float("inf")

    def on_train_start(self, trainer, module) -> None:
        self.begun, self.first, self.loss = time.monotonic(), trainer.global_step, None
        self.beat(trainer, module)
        self.mark(trainer)

    def after_step(self, trainer, module) -> None:
        self.loss = module.logged.get("loss", self.loss)
        if time.monotonic() - self.written >= self.EVERY:
            self.beat(trainer, module)
        if time.monotonic() - self.marked >= self.RANKS:
            self.mark(trainer)

    def path(self, rank: int) -> Path:
        return self.run.folder / f".rank-{rank}"

    def mark(self, trainer) -> None:
        self.marked = time.monotonic()
        if trainer.world_size > 1:
            said = [socket.gethostname(), os.getpid(), trainer.global_step, time.time()]
            with suppress(OSError):
                self.path(trainer.global_rank).write_text(json.dumps(said), encoding="utf-8")

    def beat(self, trainer, module) -> None:
        self.written = time.monotonic()
        if not trainer.is_global_zero:
            return
        said = {"step": trainer.global_step, "of": module.total_steps, "time": time.time(), "loss": self.loss}
        said |= {"seconds": self.written - self.begun, "steps": trainer.global_step - self.first}
        said |= self.throughput.said()
        write_json(self.run.heartbeat, {**said, "host": socket.gethostname(), "pid": os.getpid()})

    def stop(self, trainer) -> None:
        self.path(trainer.global_rank).unlink(missing_ok=True)
        if trainer.is_global_zero:
            self.run.heartbeat.unlink(missing_ok=True)

    def on_fit_end(self, trainer, module) -> None:
        self.stop(trainer)

    def on_exception(self, trainer, module, exception) -> None:
        # of messages alone: a rank that fails by itself makes the others wait, and they are not lost
        broken = isinstance(exception, dist.DistError) or any(word in str(exception) for word in BROKEN)
        if trainer.world_size > 1 and broken:
            end = time.monotonic() + 2  # a killed process closes its sockets before it has ended
            while not (found := self.missing(trainer)) and time.monotonic() < end:
                time.sleep(0.05)
            late = "timed out" in str(exception).lower() or "timeout" in str(exception).lower()
            unknown = (  # such as where the others have given up for the same reason
                "the other ranks gave no answer within trainer.rank_timeout: a host, or the network between them, is lost"
                if late
                else "the connection to another rank broke: it failed, and says why, or its host is lost"
            )
            self.lost = found or unknown
        self.stop(trainer)

    def missing(self, trainer) -> str:
        """The other ranks that have ended or stand still, in words; "" if all seem well."""
        found = []
        for rank in range(trainer.world_size):
            try:
                host, process, step, marked = json.loads(self.path(rank).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if rank == trainer.global_rank:
                continue
            if host == socket.gethostname() and has_ended(process):
                found.append(f"rank {rank} (pid {process}) has ended, at step {step} or later")
            elif (still := time.time() - marked) > STILL:
                found.append(f"rank {rank} (pid {process} on {host}) stands still at step {step}, for {still:.0f} s")
        return "; ".join(found)


STILL = 5 * Heartbeat.RANKS  # seconds without a mark
# in the messages of torch and gloo where another rank no longer answers
BROKEN = ("gloo", "NCCL", "Connection", "pair closure", "Timed out waiting", "Socket", "Broken pipe")


def has_ended(process: int) -> bool:
    """Whether a process of this machine is gone, or a zombie."""
    try:
        os.kill(process, 0)
        return (
            Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
            == "Z"
        )
    except ProcessLookupError:
        return True
    except (OSError, IndexError):
        return False
