"""Optimisers as a config names them: what they are made of, and `build` for a model's weights.

Weights of two or more dimensions decay; biases and norms do not.
"""

import torch
from torch import Tensor, nn

from sslzoo.errors import ConfigError


class Optim:
    """Settings of an optimiser. lr is the highest rate; schedule(step, total) scales it."""

    def __init__(self, lr: float, weight_decay: float, schedule: object):
        if lr <= 0 or weight_decay < 0:
            raise ConfigError(f"optim needs lr > 0 and weight_decay >= 0, got {lr} and {weight_decay}")
        self.lr, self.weight_decay, self.schedule = lr, weight_decay, schedule

    def groups(self, module: nn.Module) -> list[dict]:
        weights = [p for p in module.parameters() if p.requires_grad]
        return [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        raise NotImplementedError

    def set_rate(self, optimizer: torch.optim.Optimizer, step: int, total: int) -> float:
        """Give the optimiser the learning rate of `step`."""
        lr = self.lr * self.schedule(step, total)
        for group in optimizer.param_groups:
            group["lr"] = lr
        return lr


class AdamW(Optim):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        schedule: object,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        betas: list[float] = [0.9, 0.98],  # noqa: B006 (read, never written)
        eps: float = 1e-6,
    ):
        super().__init__(lr, weight_decay, schedule)
        self.betas, self.eps = tuple(betas), eps

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.groups(module), lr=self.lr, betas=self.betas, eps=self.eps)


class SGD(Optim):
    """Stochastic gradient descent with momentum."""

    def __init__(
        self,
        schedule: object,
        lr: float = 0.03,
        weight_decay: float = 1e-4,
        momentum: float = 0.9,
        nesterov: bool = False,
    ):
        super().__init__(lr, weight_decay, schedule)
        self.momentum, self.nesterov = momentum, nesterov

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.groups(module), lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)


class LARS(Optim):
    """Layer-wise adaptive rates (You et al. 2017, algorithm 1): what SimCLR and BYOL use on large batches.
    Biases and norms neither decay nor adapt."""

    def __init__(
        self,
        schedule: object,
        lr: float = 0.3,
        weight_decay: float = 1e-6,
        momentum: float = 0.9,
        trust: float = 0.001,
    ):
        super().__init__(lr, weight_decay, schedule)
        self.momentum, self.trust = momentum, trust

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        return LARSOptimizer(self.groups(module), self.lr, self.momentum, self.trust)


class LARSOptimizer(torch.optim.Optimizer):
    """v <- m v + lr * local * (g + decay w); w <- w - v, local = trust |w| / (|g + decay w|) for weights of two or
    more dimensions and 1 for the rest."""

    def __init__(self, groups, lr: float, momentum: float, trust: float):
        super().__init__(groups, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure=None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._update(w, group)
        return loss

    def _update(self, w: Tensor, group: dict) -> None:
        g = w.grad.add(w, alpha=group["weight_decay"])
        if w.ndim > 1:
            w_norm, g_norm = w.norm(), g.norm()
            local = torch.where((w_norm > 0) & (g_norm > 0), group["trust"] * w_norm / g_norm, 1.0)
            g = g * local
        state = self.state[w]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(w)
        v = state["momentum"].mul_(group["momentum"]).add_(g, alpha=group["lr"])
        w.sub_(v)
