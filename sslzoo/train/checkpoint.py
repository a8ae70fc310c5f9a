"""Checkpoints: written atomically, signed with SHA-256, and loaded without running pickled code."""

from collections.abc import Callable
from pathlib import Path

import torch
from lightning.fabric.plugins import CheckpointIO

from sslzoo.disk import to_disk
from sslzoo.errors import UserError
from sslzoo.run import Run, check_signed, write_signed
from sslzoo.train import sharded_checkpoint
from sslzoo.train.additions import check_states
from sslzoo.train.cadence import Cadence, Timer
from sslzoo.train.callback import StepCallback
from sslzoo.train.sharding import FullyShardedStrategy


def load(path: Path, device: str | torch.device = "cpu") -> dict:
    """A checkpoint's contents. Raises UserError for a damaged file or a pickle with anything but plain values."""
    if path.is_dir():
        return sharded_checkpoint.load(path, sharded_checkpoint.whole)
    check_signed(path)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is no checkpoint of sslzoo: it does not hold plain tensors and numbers") from error


class SignedIO(CheckpointIO):
    """Lightning's reading and writing of checkpoints, with signatures."""

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        check_states(checkpoint.get("callbacks", {}))
        write_signed(Path(path), lambda beside: torch.save(checkpoint, beside))

    def load_checkpoint(self, path, map_location=None, weights_only=None):
        return load(Path(path))

    def remove_checkpoint(self, path) -> None:
        sharded_checkpoint.remove(Path(path))


def latest_checkpoint(run: Run) -> Path | None:
    """The last checkpoint of a run, or None."""
    return max(run.checkpoints.glob("step=*.ckpt"), default=None)


def sound_checkpoint(run: Run, say: Callable[[str], None]) -> Path | None:
    """The last checkpoint of a run that is as it was written, or None if it has none; those after it are named. Raises
    UserError if there are some and all are damaged."""
    first = None
    for path in sorted(run.checkpoints.glob("step=*.ckpt"), reverse=True):
        try:
            sharded_checkpoint.check(path) if path.is_dir() else load(path)
        except UserError as error:
            first = first or error
            say(f"passed over {path.name}: {str(error).removeprefix(f'{path} ').split(' — ')[0]}")
            continue
        return path
    if first is not None:
        raise first
    return None


class Checkpoints(StepCallback):
    """Saves a checkpoint at the given cadence and where training stops, and keeps the last `keep`. One of a sharded run
    is written while training goes on, until the next is due or training ends."""

    def __init__(self, run: Run, every: Cadence, keep: int):
        self.run, self.timer, self.keep = run, Timer(every), keep
        self.saved = -1

    def on_train_start(self, trainer, module) -> None:
        self.timer.start()

    def save(self, trainer) -> None:
        step = trainer.global_step
        if step == self.saved:
            return
        trainer.lightning_module.look()  # raises if not finite: never save NaN
        for path in (self.run.metrics, self.run.events):  # a run resumed from here has all lines
            if trainer.is_global_zero and path.exists():
                to_disk(path)
        trainer.save_checkpoint(self.run.checkpoints / f"step={step:08d}.ckpt")
        self.saved = step
        if isinstance(trainer.strategy, FullyShardedStrategy) and (trainer.should_stop or step == trainer.max_steps):
            trainer.strategy.settle()
        if trainer.is_global_zero:
            for old in sorted(self.run.checkpoints.glob("step=*.ckpt"))[: -self.keep]:
                trainer.strategy.remove_checkpoint(old)

    def after_step(self, trainer, module) -> None:
        if self.timer.due(trainer.global_step, module) or trainer.should_stop:
            self.save(trainer)

    def on_train_end(self, trainer, module) -> None:
        self.save(trainer)
