"""Quantization of continuous frames to codes."""

import torch
from torch import Tensor, nn

from sslzoo import distributed
from sslzoo.errors import ConfigError


class GumbelQuantizer(nn.Module):
    """Product quantisation with a straight-through Gumbel softmax (wav2vec 2.0, section 2, eq. 1).

    groups: number of codebooks, of `entries` codes each; codes are concatenated to vectors of `dim`. full_precision:
    computes in float32 in half-precision runs; see `train.precision`.
    """

    full_precision = True

    def __init__(self, inputs: int, dim: int, groups: int = 2, entries: int = 320):
        super().__init__()
        if dim % groups:
            raise ConfigError(f"code_dim={dim} is not divisible by groups={groups}")
        self.groups, self.entries = groups, entries
        self.logits = nn.Linear(inputs, groups * entries)
        nn.init.normal_(self.logits.weight, std=1.0)
        nn.init.zeros_(self.logits.bias)
        self.codes = nn.Parameter(torch.rand(groups, entries, dim // groups))

    def forward(self, x: Tensor, noise: Tensor | None, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """x [M, C], noise: uniform in (0, 1) [M, groups, entries] or None for the most likely code
        -> codes [M, dim], mean softmax over the global batch [groups, entries], chosen entries [M, groups]."""
        logits = self.logits(x).float().unflatten(-1, (self.groups, self.entries))
        probs = distributed.all_reduce_mean(logits.softmax(-1).sum(0), len(x))
        if noise is None:
            chosen = logits.argmax(-1)
            weight = _one_hot(chosen, logits)
        else:
            gumbel = -torch.log(-torch.log(noise))
            soft = ((logits + gumbel) / temperature).softmax(-1)
            chosen = soft.argmax(-1)
            weight = _one_hot(chosen, soft) - soft.detach() + soft
        return torch.einsum("mge,ged->mgd", weight, self.codes).flatten(1), probs, chosen


def _one_hot(chosen: Tensor, like: Tensor) -> Tensor:
    """[M, G] -> [M, G, entries]; F.one_hot would synchronize with the device to read the maximum."""
    return torch.zeros_like(like).scatter_(-1, chosen[..., None], 1.0)


def perplexity(probs: Tensor) -> Tensor:
    """exp of the entropy of each codebook's code probabilities [groups, entries], summed over codebooks."""
    return torch.exp(-(probs * torch.log(probs + 1e-7)).sum(-1)).sum()
