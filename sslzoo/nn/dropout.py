"""Dropout that draws by row: neither ranks nor workers nor a stop change it."""

import torch
from torch import Tensor, nn

from sslzoo import rng


class SeededDropout(nn.Module):
    """Each element is zero with chance p, and the others are divided by 1 - p, in training (Srivastava et al. 2014),
    as `torch.nn.Dropout`; but what a row loses is a function of its seed, where torch draws for a batch of one rank.

    name: tells draws for one row from another dropout's.
    """

    def __init__(self, p: float, name: str = "dropout"):
        super().__init__()
        self.p, self.name = p, name

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """x [N, ...], seeds int64 [N] -> like x."""
        if not self.training or self.p == 0:
            return x
        keep = rng.uniform(seeds, self.name, *x.shape[1:], device=x.device) >= self.p
        return torch.where(keep, x / (1 - self.p), 0)

    def extra_repr(self) -> str:
        return f"p={self.p}"
