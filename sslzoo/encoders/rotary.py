"""Rotary positions: queries and keys rotated by angles proportional to their positions (Su et al. 2021, RoFormer)."""

import torch
from torch import Tensor, nn

from sslzoo.errors import ConfigError

Angles = tuple[Tensor, Tensor]  # cosines and sines [B or 1, 1, T, R / 2], float32


class RotaryPosition(nn.Module):
    """Features i and i + R / 2 of each head are rotated by m / base^(2 i / R) at position m, so that the product of a
    query at m and a key at n depends on n - m only (2104.09864, eq. 34). (RoFormer's own code rotates 2 i and 2 i + 1:
    equal up to the order of a head's features.) It has no weights, and works for any length.

    base: larger for slower rotation (10,000 in the paper). local_base: the base of layers with windowed attention,
    `base` if None (ModernBERT, 2412.13663, section 2.1). fraction: the share of a head's features, R of them, that is
    rotated (GPT-NeoX, 2204.06745, section 2.1.1).
    """

    def __init__(self, base: float = 10000.0, local_base: float | None = None, fraction: float = 1.0):
        super().__init__()
        for name, value in (("base", base), ("local_base", local_base)):
            if value is not None and value <= 0:
                raise ConfigError(f"RotaryPosition {name} must be above 0, got {value}")
        if not 0 < fraction <= 1:
            raise ConfigError(f"RotaryPosition fraction must be above 0 and at most 1, got {fraction}")
        self.base, self.local_base, self.fraction = base, local_base or base, fraction

    def turned(self, head_dim: int) -> int:
        """R, the number of rotated features of a head."""
        size = int(head_dim * self.fraction)
        if size < 2 or size % 2:
            raise ConfigError(
                f"rotary positions turn features in pairs, but {size} of a head's {head_dim} were to be turned: "
                "choose encoder.trunk.heads and encoder.trunk.position.fraction so that it is an even number"
            )
        return size

    def forward(self, positions: Tensor, head_dim: int, local: bool = False) -> Angles:
        """Positions, int64 [T] or [B, T] -> cosines and sines [1 or B, 1, T, R / 2] of their angles."""
        size = self.turned(head_dim)
        power = torch.arange(0, size, 2, dtype=torch.float32, device=positions.device) / size
        frequency = 1.0 / (self.local_base if local else self.base) ** power
        angle = positions.reshape(-1, 1, positions.shape[-1], 1).float() * frequency
        return angle.cos(), angle.sin()


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Rotate the first R features of queries or keys [B, H, T, D / H], in float32; the dtype is kept."""
    cos, sin = angles
    half = cos.shape[-1]
    a, b, rest = x[..., :half].float(), x[..., half : 2 * half].float(), x[..., 2 * half :]
    return torch.cat([(a * cos - b * sin).to(x.dtype), (b * cos + a * sin).to(x.dtype), rest], dim=-1)
