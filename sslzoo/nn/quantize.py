"""Quantization of continuous frames to codes."""

import torch
from torch import Tensor, nn

from sslzoo import distributed, rng
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

    def noise(self, seeds: Tensor, device: torch.device) -> Tensor | None:
        """Uniform draws [M, groups, entries] for `forward`, of a seed for each of M tokens [M]; None in eval mode."""
        return rng.uniform(seeds, "gumbel", self.groups, self.entries, device=device) if self.training else None

    def chosen(self, x: Tensor) -> Tensor:
        """x [M, C] -> the likeliest entry of each codebook, int64 [M, groups]."""
        return self.logits(x).float().unflatten(-1, (self.groups, self.entries)).argmax(-1)

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


class KMeansQuantizer(nn.Module):
    """Product quantisation by the nearest entry (vq-wav2vec, 1910.05453, section 3.2), after a linear layer and a norm
    of each group's part, straight through for the gradient.

    groups: number of codebooks, of `entries` codes each; codes are concatenated to vectors of `dim`.
    """

    full_precision = True

    def __init__(self, inputs: int, dim: int, groups: int = 2, entries: int = 320):
        super().__init__()
        if dim % groups:
            raise ConfigError(f"code_dim={dim} is not divisible by groups={groups}")
        self.groups, self.entries = groups, entries
        self.project, self.norm = nn.Linear(inputs, dim), nn.GroupNorm(groups, dim)
        self.codes = nn.Parameter(0.01 * torch.randn(groups, entries, dim // groups))

    def distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [M, C] -> its groups' parts after the norm [M, groups, D], and their distances to the entries [M, groups,
        entries]."""
        z = self.norm(self.project(x)).float().unflatten(-1, (self.groups, -1))
        return z, torch.cdist(z.transpose(0, 1), self.codes.float()).transpose(0, 1)

    def chosen(self, x: Tensor) -> Tensor:
        """x [M, C] -> the nearest entry of each codebook, int64 [M, groups]."""
        return self.distances(x)[1].argmin(-1)

    def forward(self, x: Tensor, commitment: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x [M, C] -> codes [M, dim], the share of each entry in the global batch [groups, entries], chosen entries
        [M, groups], and |sg(z) - q|^2 + commitment |z - sg(q)|^2 of each row, the mean over dim [M]."""
        z, distance = self.distances(x)
        chosen = distance.argmin(-1)
        picked = _one_hot(chosen, distance)
        found = torch.einsum("mge,ged->mgd", picked, self.codes)
        apart = (z.detach() - found).square() + commitment * (z - found.detach()).square()
        straight = z + (found - z).detach()
        probs = distributed.all_reduce_mean(picked.detach().sum(0), len(x))
        return straight.flatten(1), probs, chosen, apart.flatten(1).mean(1)


def _one_hot(chosen: Tensor, like: Tensor) -> Tensor:
    """[M, G] -> [M, G, entries]; F.one_hot would synchronize with the device to read the maximum."""
    return torch.zeros_like(like).scatter_(-1, chosen[..., None], 1.0)


def perplexity(probs: Tensor) -> Tensor:
    """exp of the entropy of each codebook's code probabilities [groups, entries], summed over codebooks."""
    return torch.exp(-(probs * torch.log(probs + 1e-7)).sum(-1)).sum()
