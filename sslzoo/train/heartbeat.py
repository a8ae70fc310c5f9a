"""A run's heartbeat: how far it is, written every few seconds, by which `sslzoo runs` and `watch` tell a run from a dead one."""

import os
import socket
import time

from sslzoo.run import Run, write_json
from sslzoo.train.callback import StepCallback


class Heartbeat(StepCallback):
    """Writes heartbeat.json every `EVERY` seconds: step, of (the last one), time (of the clock, in s), seconds and steps of
    this process, loss, host and pid. Removed when training ends in order, so that a killed run leaves one that gets old."""

    EVERY = 5.0

    def __init__(self, run: Run):
        self.run = run
        self.written = -float("inf")

    def on_train_start(self, trainer, module) -> None:
        self.begun, self.first, self.loss = time.monotonic(), trainer.global_step, None
        self.beat(trainer, module)

    def after_step(self, trainer, module) -> None:
        self.loss = module.logged.get("loss", self.loss)
        if time.monotonic() - self.written >= self.EVERY:
            self.beat(trainer, module)

    def beat(self, trainer, module) -> None:
        self.written = time.monotonic()
        if not trainer.is_global_zero:
            return
        said = {"step": trainer.global_step, "of": module.total_steps, "time": time.time(), "loss": self.loss}
        said |= {"seconds": self.written - self.begun, "steps": trainer.global_step - self.first}
        write_json(self.run.heartbeat, {**said, "host": socket.gethostname(), "pid": os.getpid()})

    def stop(self, trainer) -> None:
        if trainer.is_global_zero:
            self.run.heartbeat.unlink(missing_ok=True)

    def on_fit_end(self, trainer, module) -> None:
        self.stop(trainer)

    def on_exception(self, trainer, module, exception) -> None:
        self.stop(trainer)
