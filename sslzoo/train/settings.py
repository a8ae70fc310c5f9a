"""How a run is carried out, as conf/trainer says it."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

import torch

from sslzoo.errors import ConfigError, nearest
from sslzoo.train.cadence import Cadence

PRECISIONS: dict[str | int, str] = {  # and Lightning's names of them
    "auto": "",
    **dict.fromkeys((32, "32", "32-true"), "32-true"),
    **dict.fromkeys(("bf16", "bf16-mixed"), "bf16-mixed"),
    **dict.fromkeys(("fp16", "16-mixed"), "16-mixed"),
}


@dataclass
class Settings:
    """max_steps: optimiser steps. devices, nodes: ranks a host and hosts. strategy: Lightning's name; "auto"
    is one process, "ddp" one a rank. precision: of encoder and heads; "auto" is bf16 where the accelerator computes
    in it and 32 bits elsewhere; Lightning's names do too (see `train.precision`). tf32: whether a GPU may round
    the factors of float32 products and convolutions to 10 bits. save_every, val_every: how often a checkpoint is
    written and the validation loss measured, in steps, seconds or epochs (see `train.cadence`); both also at the last
    step; val_every=None for no validation, "auto" for about ten times a run on a few batches (see `train.validate`). keep: checkpoints that are kept. accumulate: parts in which a step's batch
    is read, each forward and backward by itself; the gradient is that of the whole batch, except where rows of a
    batch are compared (negatives, batch norm), which see those of their part. activation_checkpointing: whether the
    blocks of a transformer compute again in the backward pass what they would have kept. compile: whether they are
    compiled; then a batch is padded to the longest item of its bucket. on_collapse: warn, or stop. workers:
    loader processes a rank.
    """

    max_steps: int = 1000
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: str | int = "auto"
    tf32: bool = False
    gradient_clip: float | None = None
    log_every: int = 10
    save_every: int | str = 500
    keep: int = 2
    val_every: int | str | None = "auto"
    accumulate: int = 1
    activation_checkpointing: bool = False
    compile: bool = False
    on_collapse: Literal["warn", "stop"] = "warn"
    workers: int = 0
    progress: bool = True

    def __post_init__(self):
        for name in ("max_steps", "accumulate", "devices", "nodes", "log_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"trainer.{name} must be at least 1, got {getattr(self, name)}")
        if self.gradient_clip is not None and self.gradient_clip < 0:
            raise ConfigError(
                f"trainer.gradient_clip is the largest norm of a gradient, above 0, or null for none; got {self.gradient_clip}"
            )
        if self.workers < 0:
            raise ConfigError(f"trainer.workers must be at least 0, got {self.workers}")
        Cadence.parse(self.save_every, "trainer.save_every")
        if self.val_every not in (None, "auto"):
            Cadence.parse(self.val_every, "trainer.val_every")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"trainer.precision must be auto, 32, bf16 or fp16, got {self.precision}")
        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise ConfigError("trainer.accelerator=gpu, but this machine has no usable GPU: `sslzoo doctor` says why")
        if self.ranks > 1 and self.strategy == "auto":
            raise ConfigError(f"{self.ranks} ranks need a strategy: trainer=ddp or trainer.strategy=ddp")
        if self.on_gpu and self.devices > max(1, torch.cuda.device_count()):
            raise ConfigError(
                f"trainer.devices={self.devices}, but this machine has {torch.cuda.device_count()} GPU(s): set fewer, or "
                "trainer.accelerator=cpu"
            )
        if self.strategy not in ("auto", "ddp"):
            self._check_strategy()

    def _check_strategy(self) -> None:
        from lightning.pytorch.strategies import StrategyRegistry

        known = [name for name in ("auto", *StrategyRegistry.available_strategies()) if "notebook" not in name]
        if self.strategy not in known:
            raise ConfigError(
                f"there is no trainer.strategy={self.strategy!r}{nearest(self.strategy, known)} — there are: "
                f"{', '.join(sorted(known))}"
            )
        for start, package in (("deepspeed", "deepspeed"), ("xla", "torch_xla")):
            if self.strategy.startswith(start) and importlib.util.find_spec(package) is None:
                raise ConfigError(f"trainer.strategy={self.strategy} needs a package: pip install {package}")
        if self.strategy.startswith(("fsdp", "deepspeed", "model_parallel")) and not self.on_gpu:
            raise ConfigError(f"trainer.strategy={self.strategy} needs a GPU, and none is used: choose trainer=ddp")
        if self.strategy.startswith("single") and self.ranks > 1:
            raise ConfigError(f"{self.ranks} ranks need another strategy than {self.strategy}: trainer=ddp")

    @property
    def ranks(self) -> int:
        return self.devices * self.nodes

    @property
    def on_gpu(self) -> bool:
        return self.accelerator != "cpu" and torch.cuda.is_available()

    @property
    def arithmetic(self) -> str:
        """Lightning's name of the precision."""
        if self.precision != "auto":
            return PRECISIONS[self.precision]
        # emulated, it is slower than float32
        return "bf16-mixed" if self.on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
