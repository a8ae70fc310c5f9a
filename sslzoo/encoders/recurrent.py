"""Recurrent trunks, which are causal."""

from typing import Literal

from torch import Tensor, nn

from sslzoo.errors import ConfigError


class Recurrent(nn.Module):
    """tokens [B, T, D], lengths [B] -> hidden states, a list of depth + 1 tensors [B, T, D]. Each layer is a
    GRU or an LSTM over time, with a residual connection if `residual` (APC, section 3.2)."""

    causal = True

    def __init__(
        self,
        dim: int = 256,
        depth: int = 3,
        cell: Literal["gru", "lstm"] = "gru",
        dropout: float = 0.0,
        residual: bool = True,
    ):
        super().__init__()
        if dim < 1 or depth < 1:
            raise ConfigError(f"a recurrent trunk needs dim >= 1 and depth >= 1, got {dim} and {depth}")
        self.dim, self.depth, self.residual = dim, depth, residual
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.blocks = nn.ModuleList(kind(dim, dim, batch_first=True) for _ in range(depth))
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> list[Tensor]:
        # padding is at the end, so a causal network's valid steps do not depend on it
        hidden = [tokens]
        for layer in self.blocks:
            x = self.drop(layer(hidden[-1])[0])
            hidden.append(hidden[-1] + x if self.residual else x)
        return hidden
