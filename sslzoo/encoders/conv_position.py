"""Relative positions by convolutions over time, for the trunks of speech encoders."""

import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.errors import ConfigError
from sslzoo.nn.masked import padded, valid_mask


class ConvPosition(nn.Module):
    """wav2vec 2.0's relative position: a grouped convolution over time, weight-normalised, then GELU
    (Baevski et al. 2020, section 2, after Mohamed et al. 2019)."""

    def __init__(self, dim: int, kernel: int = 128, groups: int = 16):
        super().__init__()
        if dim % groups:
            raise ConfigError(f"ConvPosition: dim={dim} is not divisible by groups={groups}")
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, std=2 * (1 / (kernel * dim)) ** 0.5)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.conv = nn.utils.parametrizations.weight_norm(conv, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D], padding zeroed -> [B, T, D]."""
        return F.gelu(self.conv(x.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)


class StackedConvPosition(nn.Module):
    """data2vec's relative position for speech: `depth` grouped convolutions over time, each followed by a layer norm
    without weights and GELU (Baevski et al. 2022, 2202.03555, section 3.4). Padding is zeroed before each convolution,
    so that it changes no valid step."""

    def __init__(self, dim: int, depth: int = 5, kernel: int = 19, groups: int = 16):
        super().__init__()
        if dim % groups:
            raise ConfigError(f"StackedConvPosition: dim={dim} is not divisible by groups={groups}")
        self.layers = nn.ModuleList(
            nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups) for _ in range(depth)
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[B, T, D], padding zeroed, and lengths [B] -> [B, T, D]."""
        size, valid = x.shape[1], None
        if padded(lengths, size):
            valid = valid_mask(lengths, size, x.device)[..., None]
        for conv in self.layers:
            x = conv(x.transpose(1, 2))[..., :size].transpose(1, 2)
            x = F.gelu(F.layer_norm(x, x.shape[-1:]))
            x = x if valid is None else x * valid
        return x
