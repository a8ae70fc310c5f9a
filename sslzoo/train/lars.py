"""LARS as a torch optimiser, with foreach kernels."""

import torch
from torch import Tensor

from sslzoo.train.list_optimizer import ListOptimizer


class LARSOptimizer(ListOptimizer):
    """v <- m v + lr * local * (g + decay w); w <- w - v (You et al. 2017, algorithm 1, with the rate inside the
    momentum, as in SimCLR's code). local = trust |w| / |g + decay w| in groups with `decays`, else 1; also 1
    if either norm is 0. Nothing is copied to the CPU.

    A group's weights are updated together with seven kernels on a GPU, except for the product with `local`, whose
    operands differ in shape: one kernel per weight.
    """

    def __init__(self, groups, lr: float, momentum: float, trust: float):
        defaults = {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0, "decays": True}
        super().__init__(groups, defaults)

    def _update(self, weights: list[Tensor], group: dict) -> None:
        momenta = []
        for w in weights:
            state = self.state[w]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(w)
            momenta.append(state["momentum"])
        grads = [w.grad for w in weights]
        if group["decays"]:
            grads = torch._foreach_add(grads, weights, alpha=group["weight_decay"])
            w_norm, g_norm = (torch.stack(torch._foreach_norm(tensors)) for tensors in (weights, grads))
            local = torch.where((w_norm > 0) & (g_norm > 0), group["trust"] * w_norm / g_norm, 1.0)
            torch._foreach_mul_(grads, local.unbind())
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, grads, alpha=group["lr"])
        torch._foreach_sub_(weights, momenta)
