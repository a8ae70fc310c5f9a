"""Losses of two branches without negatives: each pulls two views of an item together and prevents collapse in its own
way. Over the global batch, in float32; gradients flow between ranks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import distributed

EPS_NORM, EPS_STD = 1e-5, 1e-4  # added to variances: batch norm's (Barlow Twins) and VICReg's


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """-<p, z> / (|p| |z|) of rows [n, D] -> [n] (SimSiam, 2011.10566, eq. 1). Without stop-gradient."""
    return -F.cosine_similarity(prediction.float(), target.float(), dim=1)


def barlow_twins(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both terms of Barlow Twins (2103.03230, eq. 1 and 2), scalars, equal on all ranks:

    invariance = sum_i (1 - C_ii)^2        redundancy = sum_i sum_{j != i} C_ij^2

    a, b: [n, D], row i of each a view of item i. C: [D, D], the cross-correlation of their columns over the global
    batch, normalized to zero mean and unit (biased) variance.
    """
    both, count = torch.cat([a, b], 1).float(), len(a)
    both = both - distributed.all_reduce_mean(both.sum(0), count)
    both = both * torch.rsqrt(distributed.all_reduce_mean(both.square().sum(0), count) + EPS_NORM)
    a, b = both.chunk(2, 1)
    correlation = distributed.all_reduce_mean(a.T @ b, count)
    return (1 - correlation.diagonal()).square().sum(), off_diagonal(correlation).square().sum()


def vicreg(a: Tensor, b: Tensor, rows: list[int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of VICReg (2105.04906, eq. 1 to 5), scalars:

    invariance = mean |a - b|^2        variance = mean_j max(0, 1 - sqrt(Var(z_j) + eps))
    covariance = 1/D sum_i sum_{j != i} Cov(z)_ij^2

    a, b: [n, D], row i of each a view of item i. rows: number on each rank, see `distributed.gather`. The invariance
    is the mean over this rank's rows and D; the others are over the global batch (unbiased, N - 1) and equal on all
    ranks. As in the authors' code, the variance is the mean over both branches (eq. 6 has the sum, twice as much) and
    the covariance is the sum.
    """
    a, b = a.float(), b.float()
    branches, _ = distributed.all_gather(torch.stack([a, b], 1), rows)
    branches = branches - branches.mean(0)
    degrees, dim = max(len(branches) - 1, 1), a.shape[1]
    std = (branches.square().sum(0) / degrees + EPS_STD).sqrt()
    covariance = sum(off_diagonal(z.T @ z / degrees).square().sum() / dim for z in branches.unbind(1))
    return F.mse_loss(a, b), F.relu(1 - std).mean(), covariance


def off_diagonal(x: Tensor) -> Tensor:
    """A square matrix with zeros on its diagonal."""
    return x - torch.diag(x.diagonal())
