"""Ranks of representations that go with what a linear probe would find, computed without labels."""

import torch
from torch import Tensor

_EPSILON = 1e-7  # added to each share, as both papers do
_WITHIN = 1e-4  # added to the diagonal of LiDAR's covariance within items (section 4: delta)


@torch.no_grad()
def rankme(z: Tensor) -> float:
    """RankMe of representations [N, D] (Garrido et al. 2023, 2210.02885, eq. 1 and 2): the exp of the entropy of the
    singular values' shares, p_k = s_k / |s|_1 + 1e-7. From 1 to min(N, D); it grows with N up to several times D."""
    return _effective(torch.linalg.svdvals(z.double().cpu()))


@torch.no_grad()
def lidar(z: Tensor) -> float:
    """LiDAR of representations [N, Q, D] of N items in Q views each (Thilak et al. 2024, 2312.04000, eq. 1 to 4): the
    exp of the entropy of the shares of the eigenvalues of

        S = W^-1/2 B W^-1/2,   B = mean_i (m_i - m)(m_i - m)^T,   W = mean_iq (z_iq - m_i)(z_iq - m_i)^T + 1e-4 I,

    where m_i is the mean of an item's views and m that of all. From 1 to min(N - 1, D)."""
    z = z.double().cpu()
    means = z.mean(1)
    apart, within = means - means.mean(0), (z - means[:, None]).flatten(0, 1)
    w = within.T @ within / len(within) + _WITHIN * torch.eye(z.shape[2], dtype=z.dtype)
    # with W = L L^T, the eigenvalues of S are those of L^-1 B L^-T: the squared singular values of L^-1 apart^T
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(w), apart.T, upper=False)
    return _effective(torch.linalg.svdvals(whitened).square())


def _effective(values: Tensor) -> float:
    shares = values / values.sum().clamp(min=1e-300) + _EPSILON
    return float(torch.exp(-(shares * shares.log()).sum()))
