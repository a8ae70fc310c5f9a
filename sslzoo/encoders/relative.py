"""WavLM's trunk: attention with a gated bias of relative positions (Chen et al. 2022, 2110.13900, section III.A)."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sslzoo.encoders.attention import Attention
from sslzoo.encoders.kv_cache import LayerKV
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError


class RelativeBias(nn.Module):
    """A learned bias per head and bucket of distances: exact for short distances, logarithmic up to `max_distance`
    (T5, Raffel et al. 2020). buckets: of both directions together."""

    def __init__(self, heads: int, buckets: int = 320, max_distance: int = 800):
        super().__init__()
        if buckets < 4 or buckets % 4 or max_distance <= buckets // 4:
            raise ConfigError(
                f"relative positions need a multiple of 4 buckets, and a max_distance above buckets / 4, got {buckets} "
                f"and {max_distance}"
            )
        self.embedding = nn.Embedding(buckets, heads)
        self.buckets, self.max_distance = buckets, max_distance
        nn.init.normal_(self.embedding.weight, std=0.02)

    def bucket(self, distance: Tensor) -> Tensor:
        """int64, the bucket of each distance from query to key."""
        half, exact = self.buckets // 2, self.buckets // 4
        far = distance.abs().clamp(min=exact).float()
        far = exact + (torch.log(far / exact) / math.log(self.max_distance / exact) * (half - exact)).long()
        return (distance > 0).long() * half + torch.where(
            distance.abs() < exact, distance.abs(), far.clamp(max=half - 1)
        )

    def forward(self, positions: Tensor) -> Tensor:
        """positions int64 [T] or [B, T] -> the bias [1 or B, H, T, T]."""
        positions = positions.reshape(-1, positions.shape[-1])
        return self.embedding(self.bucket(positions[:, None] - positions[:, :, None])).permute(0, 3, 1, 2)


class GatedRelativeAttention(Attention):
    """Attention whose logits get the trunk's relative bias d, scaled by gates that depend on the query x (eqs. 3 to 6):
    r = d (g_u (g_r s - 1) + 2), with g_u, g_r = sigmoid(x u), sigmoid(x w). As in the authors' code, u and w are the
    sums of four vectors each, shared by the heads, and s is learned per head."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, bias: bool = True):
        super().__init__(dim, heads, dropout, bias)
        self.gate = nn.Linear(dim // heads, 8)
        self.gate_scale = nn.Parameter(torch.ones(1, heads, 1, 1))

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        before: LayerKV | None = None,
        angles: Any = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Attention`; angles: (the bias [1 or B, H, T, T],)."""
        [relative] = angles
        gates = self.gate(x.unflatten(-1, (self.heads, -1)).transpose(1, 2)).unflatten(-1, (2, 4)).sum(-1)
        first, second = gates.sigmoid().chunk(2, dim=-1)
        bias = (first * (second * self.gate_scale - 1.0) + 2.0) * relative
        if before is not None:  # keys of a prefix have no position
            bias = nn.functional.pad(bias, (before.size, 0))
        if mask is not None:
            bias = bias.masked_fill(~mask, float("-inf"))
        return super().forward(x, bias.to(x.dtype), False, before)


class RelativeTransformer(Transformer):
    """The transformer with WavLM's attention: settings as `Transformer`, without causal or windowed attention. buckets,
    max_distance: of `RelativeBias`, which all layers share. Positions that `position` adds are kept beside it."""

    def __init__(
        self,
        dim: int = 256,
        depth: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        norm: Literal["pre", "post"] = "post",
        activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        layer_drop: float = 0.0,
        drop_path: float = 0.0,
        eps: float = 1e-5,
        init_std: float = 0.02,
        position: nn.Module | None = None,
        buckets: int = 320,
        max_distance: int = 800,
    ):
        super().__init__(
            dim=dim,
            depth=depth,
            heads=heads,
            hidden=hidden,
            norm=norm,
            activation=activation,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation_dropout=activation_dropout,
            layer_drop=layer_drop,
            drop_path=drop_path,
            eps=eps,
            init_std=init_std,
            position=position,
        )
        for block in self.blocks:
            gated = GatedRelativeAttention(dim, heads, attention_dropout)
            gated.load_state_dict(block.get_submodule("attention").state_dict(), strict=False)
            block.attention = gated
        self.relative = RelativeBias(heads, buckets, max_distance)

    def angles(self, positions: Tensor) -> tuple[Any, Any]:
        """((the bias,), None)."""
        return (self.relative(positions),), None
