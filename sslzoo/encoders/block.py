"""A transformer block: attention, an MLP, their norms and residual connections."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.attention import Attention
from sslzoo.encoders.kv_cache import LayerKV
from sslzoo.encoders.rotary import Angles
from sslzoo.nn.linear import Linear

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}
GATED = {"geglu": "gelu", "swiglu": "silu"}  # -> the gate's activation


def norm_layer(dim: int, eps: float, norm_type: str = "layer", bias: bool = True) -> nn.Module:
    """Layer norm, or RMS norm, which does not subtract the mean (Zhang and Sennrich 2019, 1910.07467, eq. 4)."""
    return nn.RMSNorm(dim, eps) if norm_type == "rms" else nn.LayerNorm(dim, eps, bias=bias)


class Block(nn.Module):
    """Attention and an MLP of two linear layers, or of three: down(f(gate(x)) * up(x)) (GeGLU, SwiGLU; Shazeer 2020,
    2002.05202, eq. 6), each with a residual connection and a norm. norm_input: whether a pre-norm block normalises the
    input of attention. layer_scale: see `Transformer`."""

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        norm: str,
        activation: str,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
        eps: float,
        norm_type: str = "layer",
        bias: bool = True,
        norm_input: bool = True,
        layer_scale: float | None = None,
    ):
        super().__init__()
        self.pre = norm == "pre"
        self.activation = ACTIVATIONS[GATED.get(activation, activation)]
        self.attention = Attention(dim, heads, attention_dropout, bias)
        self.attention_norm = norm_layer(dim, eps, norm_type, bias) if norm_input else nn.Identity()
        self.gate = Linear(dim, hidden, bias) if activation in GATED else None
        self.up = Linear(dim, hidden, bias)
        self.down = Linear(hidden, dim, bias)
        self.mlp_norm = norm_layer(dim, eps, norm_type, bias)
        self.drop = nn.Dropout(dropout)
        self.drop_activation = nn.Dropout(activation_dropout)
        self.attention_scale = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))
        self.mlp_scale = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

    def without_effect(self, x: Tensor) -> Tensor:
        """x plus zero times the weights, so that each has a gradient: a layer that is dropped."""
        return x + 0.0 * sum(p.sum() for p in self.parameters())

    def mlp(self, x: Tensor) -> Tensor:
        inner = self.activation(self.up(x)) if self.gate is None else self.activation(self.gate(x)) * self.up(x)
        out = self.down(self.drop_activation(inner))
        return out if self.mlp_scale is None else out * self.mlp_scale

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        before: LayerKV | None = None,
        angles: Angles | None = None,
        branch_scale: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Attention`; branch_scale: of the residual branches of attention and MLP, [B, 2, 1 or T],
        see `TrunkState`."""
        mixed, k, v = self.attention(self.attention_norm(x) if self.pre else x, mask, causal, before, angles)
        mixed = mixed if self.attention_scale is None else mixed * self.attention_scale
        x = x + scaled(self.drop(mixed), branch_scale, 0)
        if self.pre:
            return x + scaled(self.drop(self.mlp(self.mlp_norm(x))), branch_scale, 1), k, v
        x = self.attention_norm(x)
        return self.mlp_norm(x + scaled(self.drop(self.mlp(x)), branch_scale, 1)), k, v


def scaled(branch: Tensor, scale: Tensor | None, number: int) -> Tensor:
    """A residual branch [B, T, D] times its scale, `number` of [B, 2, 1 or T], in the branch's precision."""
    return branch if scale is None else (branch * scale[:, number, :, None]).to(branch.dtype)
