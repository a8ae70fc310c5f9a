"""Patch embedding: the front end of vision transformers."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.base import Frontend
from sslzoo.errors import ConfigError
from sslzoo.nn.images import to_float
from sslzoo.nn.linear import Linear
from sslzoo.nn.positions import sinusoids_2d


def patchify(images: Tensor, patch: int) -> Tensor:
    """[B, C, H, W] -> [B, T, patch * patch * C], patches in row-major order, each by rows, columns and
    channels, as in MAE's reference."""
    b, c, h, w = images.shape
    grid = images.view(b, c, h // patch, patch, w // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // patch) * (w // patch), patch * patch * c)  # b may be 0


class Patches(Frontend):
    """Images [B, C, S, S] in 0..1 or uint8 -> standardised patches [B, T, P * P * C] -> tokens
    [B, 1 + T, D] with a class token first (Dosovitskiy et al. 2021, eq. 1). The positions of a square image of another
    size, such as a crop, are interpolated (bicubic; DINO's code); its side must be divisible by `patch`.

    trained_size: the image size that learned positions are stored for, if not `size`: they are interpolated, too
    (DINOv2, 2304.07193, and ViT, section 3.2). None: `size`.

    registers: learned tokens without positions after the class token, which take what is of no patch (Darcet et al.
    2024, 2309.16588, section 2.2); like the class token, they are no part of `pool: mean`. The class token pools an
    image with `pool: first`."""

    modality = "image"
    offers = frozenset({"patches"})

    def __init__(
        self,
        dim: int,
        size: int,
        patch: int = 4,
        channels: int = 3,
        mean: list[float] = [0.5, 0.5, 0.5],  # noqa: B006 (read, never written)
        std: list[float] = [0.25, 0.25, 0.25],  # noqa: B006
        position: Literal["learned", "sine"] = "sine",
        trained_size: int | None = None,
        registers: int = 0,
    ):
        super().__init__()
        if size % patch:
            fits = [p for p in range(1, size + 1) if size % p == 0]
            near = min(fits, key=lambda p: abs(p - patch))
            raise ConfigError(f"patch={patch} does not divide the image size {size}; the nearest that does is {near}")
        if position == "sine" and dim % 4:
            raise ConfigError(f"sine positions need a dim divisible by 4, got {dim}")
        if trained_size is not None and (position == "sine" or trained_size % patch):
            raise ConfigError(f"trained_size={trained_size} is for learned positions, and a multiple of patch={patch}")
        self.size, self.patch, self.dim = size, patch, dim
        self.reads = {"size": size, "channels": channels}
        self.feature_dim, self.stride, self.prefix = patch * patch * channels, patch, 1 + registers
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.linear = Linear(self.feature_dim, dim)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.cls_token = nn.Parameter(torch.randn(dim) * 0.02)
        self.register_tokens = nn.Parameter(torch.randn(registers, dim) * 0.02) if registers else None
        grid = size // patch
        if position == "sine":
            placed = torch.cat([torch.zeros(1, dim), sinusoids_2d(grid, dim)])
            self.register_buffer("position_embedding", placed)
        else:
            stored = (trained_size or size) // patch
            self.position_embedding = nn.Parameter(torch.randn(1 + stored * stored, dim) * 0.02)

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        patches = patchify((to_float(inputs) - self.mean) / self.std, self.patch)
        return patches, torch.full((patches.shape[0],), patches.shape[1])

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.linear(features)
        cls_token = self.cls_token.expand(tokens.shape[0], 1, -1)
        tokens = torch.cat([cls_token, tokens], dim=1) + self.positions(tokens.shape[1])
        if self.register_tokens is not None:
            registers = self.register_tokens.to(tokens.dtype).expand(len(tokens), -1, -1)
            tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
        return tokens, lengths + self.prefix

    def positions(self, patches: int) -> Tensor:
        """The positions of the class token and of a square of so many patches."""
        side, table = math.isqrt(patches), self.position_embedding
        stored = math.isqrt(len(table) - 1)
        if side == stored:
            return table
        first = table[1:].view(stored, stored, -1).permute(2, 0, 1)[None].float()
        # DINOv2's code resizes with antialiasing where it has registers
        placed = F.interpolate(first, (side, side), mode="bicubic", antialias=self.register_tokens is not None)
        placed = placed[0].permute(1, 2, 0).to(table.dtype)
        return torch.cat([table[:1], placed.flatten(0, 1)])

    def placed(self, token: Tensor, size: int) -> Tensor:
        return token + self.positions(size)[1:]

    def columns(self, size: int) -> int:
        return math.isqrt(size)

    def images(self, features: Tensor) -> Tensor:
        """The inverse of `features`: standardised patches [B, T, P * P * C] -> images [B, C, S, S] in 0..1."""
        side, patch = self.size // self.patch, self.patch
        grid = features.view(len(features), side, side, patch, patch, -1).permute(0, 5, 1, 3, 2, 4)
        return (grid.reshape(len(features), -1, self.size, self.size) * self.std + self.mean).clamp(0, 1)
