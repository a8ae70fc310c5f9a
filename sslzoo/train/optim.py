"""Optimisers as config nodes: their settings, and `build` for a module's parameters.

`groups.no_decay` decides on weight decay: matrices and kernels decay; biases, norms, tokens, gains do not.
"""

import copy
import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, Self

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from sslzoo.errors import ConfigError
from sslzoo.train.groups import WRAPPER, param_groups
from sslzoo.train.lars import LARSOptimizer
from sslzoo.train.muon import MuonOptimizer, is_hidden

FUSED = {"cpu", "cuda", "mps", "xpu"}  # devices with fused AdamW and SGD in torch


@dataclass
class Optim:
    """Settings of an optimiser.

    lr: the peak learning rate; schedule(step, total) scales it. weight_decay_end: the final weight decay, reached along
    half a cosine over the run (Caron et al. 2021, DINO, section 3.2), or None for a constant one. groups: factors of
    lr by prefix of the parameters' names, such as {encoder: 0.1}; the longest prefix counts. layer_decay: the ratio of
    a block's rate to that of the block above it (BEiT, MAE: 0.65 to 0.75 for fine-tuning), or None for one rate.
    scale_from: the global batch that lr was chosen for, in the units of data.batch (items, seconds or tokens over all
    ranks); `scaled` multiplies lr by batch / scale_from, or its square root (scale_rule); None, or scale_rule="none",
    to use lr as it is.
    """

    schedule: object
    lr: float = 1e-3
    weight_decay: float = 0.01
    _: KW_ONLY
    weight_decay_end: float | None = None
    groups: dict[str, float] | None = None
    layer_decay: float | None = None
    scale_from: float | None = None
    scale_rule: Literal["linear", "sqrt", "none"] = "linear"

    def __post_init__(self):
        if self.lr <= 0 or self.weight_decay < 0:
            raise ConfigError(f"optim needs lr > 0 and weight_decay >= 0, got {self.lr} and {self.weight_decay}")
        if self.weight_decay_end is not None and self.weight_decay_end < 0:
            raise ConfigError(f"optim.weight_decay_end must be at least 0 or null, got {self.weight_decay_end}")
        for prefix, factor in (self.groups or {}).items():
            if factor <= 0:
                raise ConfigError(
                    f"optim.groups.{prefix} is a factor of lr above 0, got {factor}: a part that shall not learn is "
                    "frozen (requires_grad_(False)), since at a rate of 0 its gradients and statistics still run"
                )
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ConfigError(f"optim.layer_decay must be above 0 and at most 1, or null; got {self.layer_decay}")
        if self.scale_from is not None and self.scale_from <= 0:
            raise ConfigError(f"optim.scale_from is the batch that optim.lr is for, above 0; got {self.scale_from}")

    def scaled(self, batch: float | None) -> Self:
        """These settings with lr scaled from `scale_from` to a global batch of `batch` units: linearly (Goyal et al.
        2017, section 2.1) or by the square root (Krizhevsky 2014, section 5), both in SimCLR (Chen et al. 2020,
        appendix B.1). batch: None if batches have no fixed size, a ConfigError with scale_from."""
        if self.scale_from is None or self.scale_rule == "none":
            return self
        if batch is None:
            raise ConfigError(
                "optim.scale_from needs a batch of a known size, which this data.batch has not: "
                "set optim.scale_from=null and optim.lr to the rate itself"
            )
        factor = batch / self.scale_from
        new = copy.copy(self)
        new.lr, new.scale_from = self.lr * (math.sqrt(factor) if self.scale_rule == "sqrt" else factor), None
        return new

    def param_groups(self, module: nn.Module) -> list[dict]:
        """The groups of `groups.param_groups` with these settings. Raises ConfigError if a prefix matches no
        parameter of the module, or layer_decay finds no blocks."""
        found = param_groups(module, self.weight_decay, self.groups, self.layer_decay)
        return [{**group, "lr": self.lr * group["lr_scale"]} for group in found]

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        raise NotImplementedError

    def decay(self, step: int, total: int) -> float:
        """The weight decay of a step."""
        if self.weight_decay_end is None:
            return self.weight_decay
        end = self.weight_decay_end
        return end + (self.weight_decay - end) * 0.5 * (1 + math.cos(math.pi * step / total))

    def set_rate(self, optimizer: torch.optim.Optimizer, step: int, total: int) -> float:
        """Set every group's learning rate and weight decay for `step`; return the rate for lr_scale 1."""
        lr, decay = self.lr * self.schedule(step, total), self.decay(step, total)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
            group["weight_decay"] = decay if group["decays"] else 0.0
        return lr


def fastest(kind: type[torch.optim.Optimizer], groups: list[dict], **settings) -> torch.optim.Optimizer:
    """A torch optimiser, fused if torch has fused kernels for the parameters, else foreach. (torch's own check comes
    at the first step, too late to choose.)"""
    parameters = [p for group in groups for p in group["params"]]
    # of a sharded parameter torch has fused AdamW only
    kinds = (nn.Parameter, DTensor) if kind is torch.optim.AdamW else (nn.Parameter,)
    if not all(type(p) in kinds and p.is_floating_point() and p.device.type in FUSED for p in parameters):
        return kind(groups, foreach=True, **settings)  # type: ignore[call-arg]
    optimizer = kind(groups, fused=True, **settings)  # type: ignore[call-arg]
    # a fused step would unscale fp16 gradients itself, after their norm and clipping; let the scaler unscale them
    # before, as for any other optimiser
    optimizer._step_supports_amp_scaling = False
    return optimizer


def check_momentum(momentum: float) -> None:
    if not 0 <= momentum < 1:
        raise ConfigError(f"optim.momentum must be from 0 to less than 1, got {momentum}")


@dataclass
class AdamW(Optim):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    eps: float = 1e-6

    def __post_init__(self):
        super().__post_init__()
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optim.betas must be two numbers from 0 to less than 1, got {self.betas}")

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        groups = self.param_groups(module)
        return fastest(torch.optim.AdamW, groups, lr=self.lr, betas=tuple(self.betas), eps=self.eps)


@dataclass
class Muon(AdamW):
    """Momentum, orthogonalised, for the matrices of blocks (Jordan et al. 2024), and AdamW for all else; see `muon`.
    steps: of the Newton-Schulz iteration."""

    weight_decay: float = 0.1
    momentum: float = 0.95
    steps: int = 5

    def __post_init__(self):
        super().__post_init__()
        check_momentum(self.momentum)
        if self.steps < 1:
            raise ConfigError(f"optim.steps must be 1 or more, got {self.steps}")

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        hidden = {id(p) for name, p in module.named_parameters() if is_hidden(WRAPPER.sub("", name), p)}
        groups = []
        for group in self.param_groups(module):
            for kind in (True, False):
                if members := [p for p in group["params"] if (id(p) in hidden) is kind]:
                    groups.append({**group, "params": members, "hidden": kind and group["decays"]})
        return MuonOptimizer(groups, self.lr, self.momentum, self.steps, tuple(self.betas), self.eps)


@dataclass
class SGD(Optim):
    """Stochastic gradient descent with momentum."""

    lr: float = 0.03
    weight_decay: float = 1e-4
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_momentum(self.momentum)
        if self.nesterov and self.momentum == 0:
            raise ConfigError("optim.nesterov=true needs optim.momentum above 0")

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        groups = self.param_groups(module)
        return fastest(torch.optim.SGD, groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)


@dataclass
class LARS(Optim):
    """Layer-wise adaptive rates (You et al. 2017, algorithm 1), which SimCLR and BYOL use with large batches.
    Parameters without weight decay are not adapted."""

    lr: float = 0.3
    weight_decay: float = 1e-6
    momentum: float = 0.9
    trust: float = 0.001

    def __post_init__(self):
        super().__post_init__()
        check_momentum(self.momentum)

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        return LARSOptimizer(self.param_groups(module), self.lr, self.momentum, self.trust)
