"""A causal trunk of convolutions: wav2vec's aggregator."""

import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.errors import ConfigError


class CausalConv(nn.Module):
    """tokens [B, T, D], lengths [B] -> hidden states, a list of depth + 1 tensors [B, T, D]. Each layer is a
    convolution over the `kernel` latest tokens, a layer norm over channels and ReLU, with a skip connection (wav2vec,
    1904.05862, section 2.1; the paper's group norm is over time too, and would tell of the future)."""

    causal = True

    def __init__(self, dim: int = 512, depth: int = 9, kernel: int = 3, dropout: float = 0.0):
        super().__init__()
        if dim < 1 or depth < 1 or kernel < 1:
            raise ConfigError(f"causal convolutions need dim, depth, kernel >= 1, got {dim}, {depth}, {kernel}")
        self.dim, self.depth, self.kernel = dim, depth, kernel
        self.blocks = nn.ModuleList(nn.Conv1d(dim, dim, kernel) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> list[Tensor]:
        # padding is at the end, so a causal network's valid steps do not depend on it
        hidden = [tokens]
        for conv, norm in zip(self.blocks, self.norms, strict=True):
            x = conv(F.pad(hidden[-1].transpose(1, 2), (self.kernel - 1, 0))).transpose(1, 2)
            hidden.append(hidden[-1] + self.drop(F.relu(norm(x))))
        return hidden
