"""Muon as a torch optimiser, with AdamW for the parameters that are no hidden matrices."""

import math
import re
from collections import defaultdict

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from sslzoo import distributed
from sslzoo.train.list_optimizer import ListOptimizer

BLOCK = re.compile(r"(^|\.)(blocks|layers|stages)\.")  # hidden layers: not front ends, stems, heads
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
RMS = 0.2  # of an entry of an update, about AdamW's


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a hidden matrix: a matrix, or a kernel that mixes channels, inside a block. Embeddings,
    stems, heads and depthwise kernels are none."""
    return parameter.ndim >= 2 and parameter.shape[1] > 1 and bool(BLOCK.search(name))


def orthogonalized(x: Tensor, steps: int = 5) -> Tensor:
    """U f(S) V^T of matrices U S V^T [..., M, N], float32, with singular values f(S) of about 0.7 to 1.2, by a quintic
    Newton-Schulz iteration (Jordan et al. 2024, "Muon", whose coefficients converge fast rather than to 1). In bfloat16
    on accelerators, in float32 on CPUs."""
    a, b, c = COEFFICIENTS
    wide = x.mT if x.shape[-2] > x.shape[-1] else x
    wide = wide.float() if x.device.type == "cpu" else wide.bfloat16()
    wide = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return (wide.mT if x.shape[-2] > x.shape[-1] else wide).float()


class MuonOptimizer(ListOptimizer):
    """In groups with `hidden`: v <- m v + (1 - m) g; w <- (1 - lr decay) w - lr 0.2 sqrt(max(M, N)) O((1 - m) g + m v),
    with O `orthogonalized` and w seen as [M, N], kernels as one row an output channel. The factor gives updates the
    size of AdamW's, so that both have one rate (Liu et al. 2025, 2502.16982, section 2.2). Other groups: AdamW.

    Each rank computes every update, of sharded matrices (trainer=fsdp) too.
    Matrices of one shape are orthogonalised together.
    """

    def __init__(self, groups, lr: float, momentum: float, steps: int, betas: tuple[float, float], eps: float):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "steps": steps,
            "betas": betas,
            "eps": eps,
            "weight_decay": 0.0,
            "hidden": False,
        }
        super().__init__(groups, defaults)

    def _update(self, weights: list[Tensor], group: dict) -> None:
        (self._orthogonal if group["hidden"] else self._adamw)(weights, group)

    def _orthogonal(self, weights: list[Tensor], group: dict) -> None:
        momentum, alike = group["momentum"], defaultdict(list)
        for w in weights:
            state, gradient = self.state[w], w.grad
            assert gradient is not None
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(w)
            state["momentum"].lerp_(gradient, 1 - momentum)
            alike[w.shape, w.dtype].append((w, gradient.lerp(state["momentum"], momentum)))
        for (shape, _), pairs in alike.items():
            # the iteration needs whole matrices: of sharded ones,
            # the ranks gather each and keep their rows of its update
            updates = orthogonalized(torch.stack([distributed.whole(g).flatten(1) for _, g in pairs]), group["steps"])
            rate = group["lr"] * RMS * math.sqrt(max(shape[0], math.prod(shape[1:])))
            for (w, _), update in zip(pairs, updates, strict=True):
                w.mul_(1 - group["lr"] * group["weight_decay"])
                w.add_(distributed.shard_like(update.view(shape).to(w.dtype), w), alpha=-rate)

    def _adamw(self, weights: list[Tensor], group: dict) -> None:
        for w in weights:
            state = self.state[w]
            if not state:
                state["step"] = torch.tensor(0.0)  # on the CPU, as torch has it
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(w), torch.zeros_like(w)
        first, second, counts = ([self.state[w][k] for w in weights] for k in ("exp_avg", "exp_avg_sq", "step"))
        beta1, beta2 = group["betas"]
        adamw(
            weights, [w.grad for w in weights if w.grad is not None], first, second, [], counts, foreach=True, amsgrad=False, beta1=beta1,
            beta2=beta2, lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip
