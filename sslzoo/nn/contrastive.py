"""Contrastive losses."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import distributed


def nt_xent(a: Tensor, b: Tensor, temperature: float, rows: list[int] | None = None) -> tuple[Tensor, Tensor]:
    """Normalized temperature-scaled cross-entropy (Chen et al. 2020, eq. 1) over the global batch.

    a, b: [n, D], row i of each a view of item i. rows: number on each rank, see `distributed.gather`. Returns the loss
    of each of this rank's 2n views [2n], and the rank of its positive among the 2N - 1 other views [2n], 0 for the most
    similar.
    """
    a, b = F.normalize(a.float(), dim=1), F.normalize(b.float(), dim=1)
    all_a, start = distributed.all_gather(a, rows)
    all_b, _ = distributed.all_gather(b, rows)
    everyone = torch.cat([all_a, all_b])
    logits = torch.cat([a, b]) @ everyone.T / temperature
    mine = torch.arange(start, start + len(a), device=a.device)
    itself = torch.cat([mine, mine + len(all_a)])
    positive = torch.cat([mine + len(all_a), mine])
    logits = logits.scatter(1, itself[:, None], float("-inf"))
    loss = F.cross_entropy(logits, positive, reduction="none")
    place = (logits >= logits.gather(1, positive[:, None])).sum(1) - 1  # a tie counts against the positive
    return loss, place
