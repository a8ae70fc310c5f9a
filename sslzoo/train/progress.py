"""Progress of a run: a bar on a terminal, otherwise a line every few seconds."""

import sys
import time

from rich.progress import Progress

from sslzoo.progress import progress_bar
from sslzoo.train.callback import StepCallback
from sslzoo.train.throughput import Throughput


class ProgressReport(StepCallback):
    """Loss, speed (images, seconds of audio or tokens per second), seconds waited for data, floating-point operations a
    second, time left. rate: samples per second of speech."""

    EVERY = 15.0  # seconds between lines without a terminal

    def __init__(self, name: str, modality: str, rate: float | None, throughput: Throughput):
        self.name, self.rate, self.throughput = name, rate, throughput
        self.unit = {"image": "images/s", "speech": "s of audio/s", "text": "tokens/s"}[modality]
        self.modality = modality
        self.bar: Progress | None = None

    def on_train_start(self, trainer, module) -> None:
        self.begun = self.marked = time.monotonic()
        self.first = trainer.global_step
        self.amount = self.speed = self.loss = 0.0
        self.first_rank = trainer.is_global_zero
        if self.first_rank and sys.stderr.isatty():
            self.bar = progress_bar(transient=False, info=True)
            self.bar.start()
            self.task = self.bar.add_task(self.name, total=module.total_steps, completed=self.first, info="")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        units = len(batch) if self.modality == "image" else float(batch.lengths.numpy().sum()) / (self.rate or 1)
        self.amount += units * trainer.world_size
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def after_step(self, trainer, module) -> None:
        now, step = time.monotonic(), trainer.global_step
        self.speed = self.amount / max(now - self.begun, 1e-6)
        self.loss = module.logged.get("loss", self.loss)
        if not self.first_rank:
            return
        info = f"loss {self.loss:.4f}  {self.speed:,.0f} {self.unit}{self.throughput.text()}"
        if self.bar is not None:
            self.bar.update(self.task, completed=step, info=info)
        elif now - self.marked > self.EVERY or step == module.total_steps:
            self.marked = now
            left = (now - self.begun) / max(step - self.first, 1) * (module.total_steps - step)
            print(
                f"{self.name}: step {step}/{module.total_steps}  {info}  {left:.0f} s left", file=sys.stderr, flush=True
            )

    def reading(self, what: str, done: int, total: int) -> None:
        """Report the progress of work between two steps, such as a refresh, on this rank."""
        if self.bar is not None:
            self.bar.update(self.task, info=f"{what} {done:,}/{total:,}")
        elif self.first_rank and time.monotonic() - self.marked > self.EVERY:
            self.marked = time.monotonic()
            print(f"{self.name}: {what} {done:,}/{total:,}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_train_end(self, trainer, module) -> None:
        self.stop()

    def on_exception(self, trainer, module, exception) -> None:
        self.stop()
