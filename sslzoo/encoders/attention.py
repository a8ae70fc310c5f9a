"""Multi-head self-attention, and the mask of windowed attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.kv_cache import LayerKV
from sslzoo.encoders.rotary import Angles, rotate
from sslzoo.nn.linear import Linear


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, eq. 1) of a sequence to itself and to preceding
    keys and values."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, bias: bool = True):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = Linear(dim, dim, bias)
        self.key = Linear(dim, dim, bias)
        self.value = Linear(dim, dim, bias)
        self.out = Linear(dim, dim, bias)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        before: LayerKV | None = None,
        angles: Angles | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D]; mask: see `TrunkState`; before: keys and values of a prefix or cache, already rotated;
        angles: of the tokens' positions, see `RotaryPosition`
        -> [B, T, D], and the tokens' own keys and values [B, H, T, D / H]."""
        parts = (self.query, self.key, self.value)
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        keys, values = (
            (k, v) if before is None else (torch.cat(pair, 2) for pair in ((before.key, k), (before.value, v)))
        )
        dropout = self.dropout if self.training else 0.0
        # causal with `before` but no mask: there is only one query, which attends to all keys
        causal = causal and mask is None and before is None
        mixed = F.scaled_dot_product_attention(q, keys, values, mask, dropout, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2)), k, v


def window_mask(positions: Tensor, reach: int, causal: bool, prefix: int, cached: int) -> Tensor:
    """True for keys at most `reach` positions from the query, bool [1 or B, 1, T, P + S + T]; the P prefix keys are
    always True. positions: of the queries, int64 [T] or [B, T]; the S cached keys have 0 .. S - 1. causal: False for
    later keys."""
    positions = positions.reshape(-1, positions.shape[-1])
    past = torch.arange(cached, device=positions.device).expand(len(positions), -1)
    keys = torch.cat([past, positions], dim=1)
    near = (positions[:, :, None] - keys[:, None]).abs() <= reach
    if causal:
        near = near & torch.ones_like(near[0]).tril(cached)
    return F.pad(near, (prefix, 0), value=True)[:, None]
