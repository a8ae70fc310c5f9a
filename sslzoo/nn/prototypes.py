"""Prototypes: directions that features are compared with, and balanced assignments to them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import distributed


class Prototypes(nn.Module):
    """Cosines of features with K learned prototypes, [..., D] -> [..., K]: features and prototypes both have length 1.

    This is the last layer of DINO's head (2104.14294, appendix C: a weight-normalised linear layer with gain 1 after an
    l2 norm), and SwAV's prototypes (2006.09882, section 3.1), which its code projects onto the sphere after each step.
    full_precision: cosines are divided by small temperatures; see `train.precision`.
    """

    full_precision = True

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(count, dim), dim=1))

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """frozen: whether the prototypes get a gradient of zero (not None, which DDP would wait for)."""
        weight: Tensor = self.weight
        if frozen:
            weight = weight.detach() + 0.0 * weight
        return F.linear(F.normalize(x.float(), dim=-1), F.normalize(weight, dim=1))


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int = 3) -> Tensor:
    """Assignments [n, K] of this rank's rows to prototypes that all get an equal share of the rows of all ranks: a few
    of Sinkhorn-Knopp's iterations on exp(scores / epsilon) (2006.09882, eq. 3 to 5). Each row sums to 1. n may be 0.

    In the log domain, so that no epsilon overflows; the authors' code divides by sums of exponentials.
    """
    log_q = scores.float() / epsilon
    ones = [1] * distributed.world_size()
    for _ in range(iterations):
        # the sum of each prototype's column over all ranks
        columns, _ = distributed.all_gather(log_q.logsumexp(0, keepdim=True), ones)
        log_q = log_q - columns.logsumexp(0, keepdim=True)
        log_q = log_q - log_q.logsumexp(1, keepdim=True)
    return log_q.exp()
