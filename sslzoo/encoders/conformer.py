"""The Conformer trunk (Gulati et al. 2020, 2005.08100): attention for the whole, convolutions for the near."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.attention import Attention
from sslzoo.encoders.rotary import Angles, RotaryPosition
from sslzoo.errors import ConfigError
from sslzoo.nn.batchnorm import BatchNorm1d
from sslzoo.nn.linear import Linear
from sslzoo.nn.masked import host, indices, padded, take, valid_mask


class FeedForward(nn.Module):
    """Layer norm, linear, Swish, linear (section 2.3)."""

    def __init__(self, dim: int, hidden: int, dropout: float, eps: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps)
        self.up, self.down, self.drop = Linear(dim, hidden), Linear(hidden, dim), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.down(self.drop(F.silu(self.up(self.norm(x))))))


class Convolution(nn.Module):
    """Layer norm, gated linear unit, depthwise convolution over time, batch norm, Swish, linear (section 2.2). Padding
    is zero for the convolution, and is no part of the batch norm's statistics, which are of all ranks."""

    def __init__(self, dim: int, kernel: int, dropout: float, eps: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps)
        self.gate, self.out = Linear(dim, 2 * dim), Linear(dim, dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.batch_norm = BatchNorm1d(dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, at: Tensor | None) -> Tensor:
        """at: the valid steps' `indices`, int64 [M] on the host; None if all are."""
        y = F.glu(self.gate(self.norm(x)), dim=-1)
        if at is not None:
            y = scattered(take(y, at), at, y)
        y = self.depthwise(y.transpose(1, 2)).transpose(1, 2)
        steps = y.flatten(0, 1) if at is None else take(y, at)
        steps = self.out(F.silu(self.batch_norm(steps)))
        return self.drop(steps.view_as(x) if at is None else scattered(steps, at, x))


def scattered(steps: Tensor, at: Tensor, like: Tensor) -> Tensor:
    """Steps [M, D] at their indices in zeros of the shape of `like` [B, T, D]."""
    zeros = steps.new_zeros(like.shape[0] * like.shape[1], steps.shape[1])
    return zeros.index_copy(0, at.to(steps.device, non_blocking=True), steps).view(*like.shape[:2], -1)


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each with a residual connection, and a layer
    norm (eq. 1)."""

    def __init__(self, dim: int, heads: int, hidden: int, kernel: int, dropout: float, eps: float):
        super().__init__()
        self.first, self.last = (FeedForward(dim, hidden, dropout, eps) for _ in range(2))
        self.attention_norm, self.attention = nn.LayerNorm(dim, eps), Attention(dim, heads, dropout)
        self.convolution = Convolution(dim, kernel, dropout, eps)
        self.drop, self.norm = nn.Dropout(dropout), nn.LayerNorm(dim, eps)

    def forward(self, x: Tensor, mask: Tensor | None, at: Tensor | None, angles: Angles | None) -> Tensor:
        x = x + 0.5 * self.first(x)
        x = x + self.drop(self.attention(self.attention_norm(x), mask, False, None, angles)[0])
        x = x + self.convolution(x, at)
        return self.norm(x + 0.5 * self.last(x))


class Conformer(nn.Module):
    """tokens [B, T, D], lengths [B] -> hidden states, a list of depth + 1 tensors [B, T, D]; the interface of
    `Transformer` without caches and documents.

    hidden: the width of the feed-forwards; None for 4 D. kernel: of the depthwise convolution, odd; 32 in the paper,
    which is even. position: as for `Transformer`; rotary positions stand for the paper's relative ones.
    """

    causal = False

    def __init__(
        self,
        dim: int = 144,
        depth: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        kernel: int = 31,
        dropout: float = 0.0,
        eps: float = 1e-5,
        position: nn.Module | None = None,
    ):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"a conformer of dim={dim} cannot be split over heads={heads}: choose a divisor")
        if kernel < 1 or kernel % 2 == 0:
            raise ConfigError(f"kernel must be odd, so that it has a middle, got {kernel}")
        self.dim, self.depth, self.head_dim, self.position = dim, depth, dim // heads, position
        if isinstance(position, RotaryPosition):
            position.turned(self.head_dim)  # raises ConfigError for unsuitable head sizes
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            ConformerBlock(dim, heads, hidden or 4 * dim, kernel, dropout, eps) for _ in range(depth)
        )

    def forward(self, tokens: Tensor, lengths: Tensor) -> list[Tensor]:
        size, lengths = tokens.shape[1], host(lengths)
        x, mask, at, angles = tokens, None, None, None
        if padded(lengths, size):
            valid = valid_mask(lengths, size)
            mask, at = valid.to(x.device, non_blocking=True)[:, None, None], indices(valid)
            x = x * mask[:, 0, 0, :, None]
        if isinstance(self.position, RotaryPosition):
            angles = self.position(torch.arange(size, device=x.device), self.head_dim)
        elif self.position is not None:
            x = x + self.position(x)
        hidden = [self.drop(x)]
        for block in self.blocks:
            hidden.append(block(hidden[-1], mask, at, angles))
        return hidden
