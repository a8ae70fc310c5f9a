"""The settings of a run's trainer: conf/trainer."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

import torch

from sslzoo.errors import ConfigError, nearest
from sslzoo.train.cadence import Cadence

PRECISIONS: dict[str | int, str] = {  # -> Lightning's name
    "auto": "",
    **dict.fromkeys((32, "32", "32-true"), "32-true"),
    **dict.fromkeys(("bf16", "bf16-mixed"), "bf16-mixed"),
    **dict.fromkeys(("fp16", "16-mixed"), "16-mixed"),
}


@dataclass
class Settings:
    """max_steps: optimiser steps. devices, nodes: ranks per host and number of hosts. strategy: "auto" is one process,
    "ddp" one per rank, "fsdp" the same with parameters sharded (see `train.sharding`), or another name of Lightning's.
    precision: of encoder and heads; "auto" is bf16 if the accelerator supports it, else 32 bits; Lightning's names work
    too (see `train.precision`). tf32: whether a GPU may round the inputs of float32 matmuls and convolutions to 10
    bits. save_every, val_every: how often a checkpoint is written and the validation loss measured, in steps, seconds
    or epochs (see `train.cadence`); both also at the last step; val_every=None for no validation, "auto" for about ten
    times a run on a few batches (see `train.validate`). keep: number of checkpoints to keep. accumulate: number of
    micro-batches that a step's batch is split into; the gradient is that of the whole batch, except for terms that
    compare rows (negatives, batch norm), which see one micro-batch. activation_checkpointing: whether transformer
    blocks recompute their activations in the backward pass. compile: whether they are compiled; then a batch is padded
    to the longest item of its bucket. on_collapse: warn, or stop. workers: loader processes per rank. profile: trace a
    few steps, see `train.profile`. max_units_per_rank: what a rank computes at a time at most, in the units of
    data.batch (items, or seconds or tokens with padding): `accumulate` is derived from it and the number of ranks; None
    to set `accumulate` itself. rank_timeout: seconds that a rank waits for the others before the run ends.
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
    max_units_per_rank: float | None = None
    activation_checkpointing: bool = False
    compile: bool = False
    on_collapse: Literal["warn", "stop"] = "warn"
    workers: int = 0
    progress: bool = True
    rank_timeout: float = 1800.0
    profile: bool = False

    def __post_init__(self):
        for name in ("max_steps", "accumulate", "devices", "nodes", "log_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"trainer.{name} must be at least 1, got {getattr(self, name)}")
        if self.rank_timeout <= 0:
            raise ConfigError(f"trainer.rank_timeout is in seconds, above 0; got {self.rank_timeout:g}")
        if self.gradient_clip is not None and self.gradient_clip < 0:
            raise ConfigError(
                f"trainer.gradient_clip is the largest norm of a gradient, above 0, or null for none; got {self.gradient_clip}"
            )
        if self.max_units_per_rank is not None:
            if self.max_units_per_rank <= 0:
                raise ConfigError(
                    "trainer.max_units_per_rank is what fits on a rank at a time, in the units of data.batch, above 0; "
                    f"got {self.max_units_per_rank}"
                )
            if self.accumulate > 1:
                raise ConfigError(
                    f"trainer.max_units_per_rank={self.max_units_per_rank:g} determines the parts of a batch: leave out "
                    f"trainer.accumulate={self.accumulate}"
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
        if self.strategy == "fsdp":
            if self.precision in ("fp16", "16-mixed"):
                raise ConfigError("trainer=fsdp computes in bf16 or 32 bits: set trainer.precision=bf16")
            return
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
