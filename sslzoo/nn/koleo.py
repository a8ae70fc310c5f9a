"""The Kozachenko-Leonenko regulariser."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import distributed

EPS = 1e-8


def koleo(x: Tensor, rows: list[int] | None = None) -> Tensor:
    """-log of the distance of each row [n, D] to its nearest other row of the global batch, all of length 1: [n]
    (Sablayrolles et al. 2019, 1806.03198, eq. 2; DINOv2, 2304.07193, section 4, whose code takes each rank's rows
    only).

    rows: number on each rank, see `distributed.all_gather`. Gradients flow to neighbours on other ranks. Zero if there
    is no other row.
    """
    x = F.normalize(x.float(), dim=1, eps=EPS)
    everyone, start = distributed.all_gather(x, rows)
    if len(everyone) < 2:
        return 0.0 * x.sum(1)
    with torch.no_grad():
        own = torch.arange(start, start + len(x), device=x.device)
        cosine = (x @ everyone.T).scatter(1, own[:, None], -2.0)
        nearest = cosine.argmax(1)
    return -(F.pairwise_distance(x, everyone[nearest], eps=EPS) + EPS).log()
