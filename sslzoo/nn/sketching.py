"""How far the rows of a batch are from an isotropic Gaussian, measured along random directions ("slices"). Over the
global batch, in float32; gradients flow between ranks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import distributed, rng

EPS_STD = 1e-6  # added to deviations (VISReg's code)


def slices(seed: Tensor, dim: int, count: int, device: torch.device) -> Tensor:
    """Random unit vectors [dim, count], a function of seed, int64 [1]: the same on all ranks if the seed is."""
    return F.normalize(rng.normal(seed, "slices", dim, count, device=device)[0], dim=0)


def epps_pulley(x: Tensor, knots: int = 17, t_max: float = 3.0) -> Tensor:
    """The Epps-Pulley statistic of samples x [..., n, S] against N(0, 1), [..., S] (LeJEPA, 2511.08544, section 4.2):

    N integral |phi(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt,  phi(t) = 1/N sum_n exp(i t x_n)

    by the trapezoidal rule, from -t_max to t_max; N samples are on all ranks, and phi is their mean. As the integrand
    is even, the `knots` lie from 0 to t_max, as in the authors' code (the paper's algorithm 1 has 17 from -5 to 5:
    knots=9, t_max=5).
    """
    x = x.float()
    t = torch.linspace(0, t_max, knots, device=x.device)
    normal = torch.exp(-t.square() / 2)
    weights = torch.full_like(t, 2 * t_max / (knots - 1))
    weights[0] = weights[-1] = t_max / (knots - 1)
    angle = x[..., None] * t
    sums = torch.stack([angle.cos().sum(-3), angle.sin().sum(-3)])
    count = distributed.all_reduce_sum(torch.tensor(float(x.shape[-2]), device=x.device))
    real, imaginary = distributed.all_reduce_sum(sums) / count.clamp(min=1)
    return ((real - normal).square() + imaginary.square()) @ (weights * normal) * count


def sigreg(z: Tensor, directions: Tensor, knots: int = 17, t_max: float = 3.0) -> Tensor:
    """SIGReg (2511.08544, algorithm 1): the mean of `epps_pulley` over directions [D, S] and views, a scalar that is
    equal on all ranks. z: this rank's rows [V, n, D]."""
    return epps_pulley(z.float() @ directions, knots, t_max).mean()


def visreg(z: Tensor, directions: Tensor, rows: list[int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The three regularisers of VISReg (2606.02572, eq. 1, 5 and 6), scalars, equal on all ranks. Over N rows of all
    ranks, D features and V views, with mean m_j and biased deviation s_j of a feature:

    scale = mean_j (1 - s_j)^2        centre = mean_j m_j^2        shape = mean_i,k (p_(i)k - q_i)^2

    p: the rows, standardised by m and by s without its gradient, along direction k, sorted over the rows; q_i: the
    quantile i / (N + 1) of N(0, 1). z: this rank's rows [V, n, D]; directions [D, S]; rows: as for
    `distributed.all_gather`.
    """
    everyone, _ = distributed.all_gather(z.float().transpose(0, 1), rows)
    z = everyone.transpose(0, 1)
    count, mean = z.shape[1], z.mean(1, keepdim=True)
    std = (z - mean).norm(dim=1, keepdim=True) / math.sqrt(max(count, 1)) + EPS_STD
    sketched = ((z - mean) / std.detach()) @ directions
    place = torch.arange(1, count + 1, device=z.device) / (count + 1)
    quantiles = math.sqrt(2) * torch.erfinv(2 * place - 1)
    shape = (sketched.sort(dim=1).values - quantiles[:, None]).square().mean()
    return (1 - std).square().mean(), shape, mean.square().mean()
