"""What optimisers over lists of tensors have in common."""

import torch
from torch import Tensor


class ListOptimizer(torch.optim.Optimizer):
    """Updates the weights of a group that have gradients together, by `_update`."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if weights := [w for w in group["params"] if w.grad is not None]:
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict) -> None:
        raise NotImplementedError
