"""Dropout seeded per row: independent of ranks, workers and restarts."""

import torch
from torch import Tensor, nn

from sslzoo import rng


class SeededDropout(nn.Module):
    """`torch.nn.Dropout` (Srivastava et al. 2014) whose mask is a function of each row's seed: in training, elements
    are set to zero with probability p and the others divided by 1 - p.

    name: distinguishes its draws from those of other dropouts.
    """

    def __init__(self, p: float, name: str = "dropout"):
        super().__init__()
        self.p, self.name = p, name

    def forward(self, x: Tensor, seeds: Tensor) -> Tensor:
        """x [N, ...], seeds int64 [N] -> [N, ...]."""
        if not self.training or self.p == 0:
            return x
        keep = rng.uniform(seeds, self.name, *x.shape[1:], device=x.device) >= self.p
        return torch.where(keep, x / (1 - self.p), 0)

    def extra_repr(self) -> str:
        return f"p={self.p}"
