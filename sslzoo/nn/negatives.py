"""Wrong candidates for a contrast, drawn from the same item."""

import torch
from torch import Tensor

from sslzoo import rng


def sample_negatives(
    seeds: Tensor, counts: Tensor, size: int, number: int, name: str = "negatives", device=None
) -> Tensor:
    """For each of a row's `counts` [B] things the places of `number` others of that row, never its own,
    each as likely as any other and drawn anew, so that in a short row some come twice: int64 [B, size, number].

    The only thing of a row has no others and stands for itself; past `counts` there is nothing to ask. seeds and
    counts are the host's; device: where the places are wanted.
    """
    most = (counts[:, None, None] - 1).clamp(min=0).to(device, non_blocking=True)
    own = torch.arange(size, device=most.device)[:, None]
    place = (rng.uniform(seeds, name, size, number, device=device).double() * most).long()
    return torch.minimum(place + (place >= own), most)  # one of the others, counted with its own place left out
