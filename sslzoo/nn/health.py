"""Metrics that detect representation collapse."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import distributed


@torch.no_grad()
def representation_health(z: Tensor) -> dict[str, Tensor]:
    """Metrics of representations [N, D]. `feature_std`: standard deviation of the coordinates of l2-normalized vectors,
    times sqrt(D); 1 if uniform on the sphere, 0 if all are equal (Chen and He 2021, section 4.1). `feature_rank`:
    effective rank, exp of the entropy of the singular values (Roy and Vetterli 2007)."""
    z = F.normalize(z.float(), dim=1)
    centred = z - z.mean(0)
    std = centred.square().mean(0).sqrt().mean() * z.shape[1] ** 0.5
    smaller = centred.T @ centred if len(z) > z.shape[1] else centred @ centred.T
    values = torch.linalg.eigvalsh(smaller).clamp(min=0).sqrt()
    probs = values / values.sum().clamp(min=1e-12)
    rank = torch.exp(-(probs * torch.log(probs.clamp(min=1e-12))).sum())
    return {"feature_std": std, "feature_rank": rank}


@torch.no_grad()
def token_std(x: Tensor) -> Tensor:
    """The standard deviation of each coordinate over the tokens [M, D] of all ranks, averaged over coordinates: near 0
    if a teacher's targets, or the predictions of them, are the same everywhere. All ranks must call it."""
    mean = distributed.all_reduce_mean(x.sum(0), len(x))
    return (distributed.all_reduce_mean((x - mean).square().sum(0), len(x)) + 1e-6).sqrt().mean()
