"""Attention of a sequence to itself, and what of it a token may look at."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.kv_cache import LayerKV
from sslzoo.encoders.rotary import Angles, rotate


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, eq. 1) of a sequence to itself, and to what
    stands before it."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, bias: bool = True):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, dim, bias)
        self.key = nn.Linear(dim, dim, bias)
        self.value = nn.Linear(dim, dim, bias)
        self.out = nn.Linear(dim, dim, bias)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        before: LayerKV | None = None,
        angles: Angles | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D]; mask: see `TrunkState`; before: keys and values in front of the tokens' own, turned already;
        angles: of the tokens' places, see `RotaryPosition`
        -> [B, T, D], and the tokens' own keys and values [B, H, T, D / H]."""
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self._project(x))
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        keys, values = (
            (k, v) if before is None else (torch.cat(pair, 2) for pair in ((before.key, k), (before.value, v)))
        )
        dropout = self.dropout if self.training else 0.0
        # without a mask there is nothing before these tokens, or only one of them, which may look everywhere
        causal = causal and mask is None and before is None
        mixed = F.scaled_dot_product_attention(q, keys, values, mask, dropout, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2)), k, v

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values [B, T, D] each: of plain layers in one product, which is quicker than three."""
        parts = (self.query, self.key, self.value)
        if any(type(f) is not nn.Linear or f._forward_hooks or f._forward_pre_hooks for f in parts):
            return tuple(f(x) for f in parts)  # replaced, or listened to
        weight = torch.cat([f.weight for f in parts])
        bias = None if self.query.bias is None else torch.cat([f.bias for f in parts])
        return F.linear(x, weight, bias).chunk(3, -1)


def window_mask(positions: Tensor, reach: int, causal: bool, prefix: int, cached: int) -> Tensor:
    """Which keys are at most `reach` places away, bool [1 or B, 1, T, P + S + T]; P keys of a prefix are near to all.
    positions: of the queries, int64 [T] or [B, T]; the keys' are 0 .. S - 1 and these. causal: none that comes after."""
    positions = positions.reshape(-1, positions.shape[-1])
    past = torch.arange(cached, device=positions.device).expand(len(positions), -1)
    keys = torch.cat([past, positions], dim=1)
    near = (positions[:, :, None] - keys[:, None]).abs() <= reach
    if causal:
        near = near & torch.ones_like(near[0]).tril(cached)
    return F.pad(near, (prefix, 0), value=True)[:, None]
