"""Texts of three lengths, as a batch."""

import torch

from sslzoo import rng
from sslzoo.data.base import CLS, SEP, SPECIALS, Batch


def batch() -> Batch:
    g = torch.Generator().manual_seed(0)
    lengths = torch.tensor([20, 3, 13])
    ids = torch.randint(SPECIALS, 60, (3, 20), generator=g)
    ids[:, 0] = CLS
    ids[torch.arange(3), lengths - 1] = SEP
    ids = ids * (torch.arange(20) < lengths[:, None])
    return Batch(ids, lengths, torch.tensor([rng.derive_seed(0, i) for i in range(3)]), torch.arange(3))
