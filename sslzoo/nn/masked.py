"""Padded batches: which steps are there, means over them, and the masked ones among them.

Lengths and masks are in host memory: what Python must know of them, it reads there, so that no step waits for an
accelerator.
"""

import numpy as np
import torch
from torch import Tensor


def valid_mask(lengths: Tensor, size: int, device: torch.device | None = None) -> Tensor:
    """bool [B, size], True before each row's length; on `device`, None for where the lengths are."""
    if device is not None:
        lengths = lengths.to(device, non_blocking=True)
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def padded(lengths: Tensor, size: int) -> bool:
    """Whether any row is shorter than `size`, by lengths that the host has."""
    return bool((host(lengths).numpy() < size).any())


def host(lengths: Tensor) -> Tensor:
    """Lengths in host memory: as they are, or copied there, for which the host waits."""
    return lengths if lengths.device.type == "cpu" else lengths.cpu()


def standardize(x: Tensor, lengths: Tensor, eps: float = 1e-7) -> Tensor:
    """x [B, T, C] with zero mean and unit variance over each row's valid steps; padding becomes zero."""
    valid = valid_mask(lengths, x.shape[1], x.device)
    centred = x - masked_mean(x, valid)[:, None]
    var = masked_mean(centred.square(), valid)[:, None]
    return centred * torch.rsqrt(var + eps) * valid[..., None]


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """The mean of x [B, T, D] over the steps that are inside, bool [B, T]: [B, D]; zero where none is."""
    return (x * valid[..., None]).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


def indices(mask: Tensor) -> Tensor:
    """int64 [M], the places of True in a mask [B, T] that the host has, counted through all rows."""
    return torch.from_numpy(np.flatnonzero(host(mask).numpy()))


def take(x: Tensor, at: Tensor) -> Tensor:
    """Steps of x [B, T, ...] by their `indices` [M]: [M, ...]."""
    return x.flatten(0, 1).index_select(0, at.to(x.device, non_blocking=True))
