"""Helpers for padded batches: valid steps, means over them, and selection of masked ones.

Lengths and masks are in host memory, so that Python can read them without a device synchronization.
"""

import numpy as np
import torch
from torch import Tensor


def valid_mask(lengths: Tensor, size: int, device: torch.device | None = None) -> Tensor:
    """bool [B, size], True before each row's length; on `device`, None: the lengths' device."""
    if device is not None:
        lengths = lengths.to(device, non_blocking=True)
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def padded(lengths: Tensor, size: int) -> bool:
    """Whether any row is shorter than `size`; true while a model is exported, as lengths have no values then."""
    if torch.compiler.is_exporting():
        return True
    return bool((host(lengths).numpy() < size).any())


def host(lengths: Tensor) -> Tensor:
    """Lengths in host memory; a copy from a device synchronizes."""
    return lengths if lengths.device.type == "cpu" else lengths.cpu()


def standardize(x: Tensor, lengths: Tensor, eps: float = 1e-7) -> Tensor:
    """x [B, T, C] with zero mean and unit variance over each row's valid steps; padding becomes zero."""
    valid = valid_mask(lengths, x.shape[1], x.device)
    centred = x - masked_mean(x, valid)[:, None]
    var = masked_mean(centred.square(), valid)[:, None]
    return centred * torch.rsqrt(var + eps) * valid[..., None]


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean of x [B, T, D] over valid steps, bool [B, T]: [B, D]; zero for rows without any."""
    return (x * valid[..., None]).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


def indices(mask: Tensor) -> Tensor:
    """int64 [M], indices of True in the flattened mask [B, T]."""
    return torch.from_numpy(np.flatnonzero(host(mask).numpy()))


def take(x: Tensor, at: Tensor) -> Tensor:
    """Steps of x [B, T, ...] by their `indices` [M]: [M, ...]."""
    return x.flatten(0, 1).index_select(0, at.to(x.device, non_blocking=True))
