"""Negatives for a contrastive loss, drawn from the same item."""

import torch
from torch import Tensor

from sslzoo import rng


def sample_negatives(
    seeds: Tensor, counts: Tensor, size: int, number: int, name: str = "negatives", device=None
) -> Tensor:
    """Indices of `number` other positions for each of a row's `counts` [B] positions, uniform with replacement (so a
    short row has duplicates): int64 [B, size, number].

    In a row of one position, its own index is returned; beyond `counts`, values are meaningless. seeds and counts are
    on the host; device: of the result.
    """
    most = (counts[:, None, None] - 1).clamp(min=0).to(device, non_blocking=True)
    own = torch.arange(size, device=most.device)[:, None]
    place = (rng.uniform(seeds, name, size, number, device=device).double() * most).long()
    return torch.minimum(place + (place >= own), most)  # skip the own position
