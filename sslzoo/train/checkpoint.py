"""Checkpoints that are whole, signed and read without running what is in them."""

from pathlib import Path

import torch
from lightning.fabric.plugins import CheckpointIO

from sslzoo.disk import to_disk
from sslzoo.errors import UserError
from sslzoo.run import Run, check_signed, write_signed
from sslzoo.train.additions import check_states
from sslzoo.train.cadence import Cadence, Timer
from sslzoo.train.callback import StepCallback


def load(path: Path, device: str | torch.device = "cpu") -> dict:
    """A checkpoint's contents. A damaged file or a pickle that asks to run code is refused."""
    check_signed(path)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is no checkpoint of sslzoo: it does not hold plain tensors and numbers") from error


class SignedIO(CheckpointIO):
    """How Lightning reads and writes a checkpoint here."""

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        check_states(checkpoint.get("callbacks", {}))
        write_signed(Path(path), lambda beside: torch.save(checkpoint, beside))

    def load_checkpoint(self, path, map_location=None, weights_only=None):
        return load(Path(path))

    def remove_checkpoint(self, path) -> None:
        for file in (Path(path), Path(f"{path}.sha256")):
            file.unlink(missing_ok=True)


def latest_checkpoint(run: Run) -> Path | None:
    """The last checkpoint of a run, or None."""
    return max(run.checkpoints.glob("step=*.ckpt"), default=None)


class Checkpoints(StepCallback):
    """A checkpoint every so often, the last `keep` of them, and one wherever training stops."""

    def __init__(self, run: Run, every: Cadence, keep: int):
        self.run, self.timer, self.keep = run, Timer(every), keep
        self.saved = -1

    def on_train_start(self, trainer, module) -> None:
        self.timer.start()

    def save(self, trainer) -> None:
        step = trainer.global_step
        if step == self.saved:
            return
        trainer.lightning_module.look()  # nothing is saved that is not finite
        for path in (self.run.metrics, self.run.events):  # a run that goes on from here lacks none of their lines
            if trainer.is_global_zero and path.exists():
                to_disk(path)
        trainer.save_checkpoint(self.run.checkpoints / f"step={step:08d}.ckpt")
        self.saved = step
        if trainer.is_global_zero:
            for old in sorted(self.run.checkpoints.glob("step=*.ckpt"))[: -self.keep]:
                trainer.strategy.remove_checkpoint(old)

    def after_step(self, trainer, module) -> None:
        if self.timer.due(trainer.global_step, module) or trainer.should_stop:
            self.save(trainer)

    def on_train_end(self, trainer, module) -> None:
        self.save(trainer)
