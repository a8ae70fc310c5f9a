"""ConvNeXt (Liu et al. 2022, 2201.03545): one vector per image, and one per stage."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.base import Encoded, Encoder
from sslzoo.errors import ConfigError
from sslzoo.nn.drop_path import branch_scales
from sslzoo.nn.images import to_float
from sslzoo.nn.linear import Linear


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [B, C, H, W]."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A 7x7 depthwise convolution, layer norm, and an MLP of four times the width with GELU, scaled per channel, plus a
    shortcut (figure 4). inputs: channels before; if they differ, the block first halves the size (section 2.6)."""

    def __init__(self, inputs: int, dim: int, layer_scale: float, eps: float):
        super().__init__()
        self.downsample = None
        if inputs != dim:
            self.downsample = nn.Sequential(ChannelNorm(inputs, eps), nn.Conv2d(inputs, dim, 2, 2))
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps)
        self.up, self.down = Linear(dim, 4 * dim), Linear(4 * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Tensor, branch_scale: Tensor | None = None) -> Tensor:
        """branch_scale: what the residual branch is multiplied with, [B, 1, 1, 1], None for 1."""
        if self.downsample is not None:
            x = self.downsample(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = (self.down(F.gelu(self.up(y))) * self.scale).permute(0, 3, 1, 2)
        return x + (y if branch_scale is None else (y * branch_scale).to(y.dtype))


class ConvNeXt(Encoder):
    """Images [B, C, S, S] in 0..1 or uint8 -> pooled [B, D], normalised. The hidden states are the means over places of
    the stem's and each stage's output, [B, 1, D], with zeros for the channels that an earlier stage lacks; the last one
    is `pooled`.

    depths, dims: blocks and channels of each stage. stem: kernel and stride of the first convolution, 4 for large
    images and 1 or 2 for those of 32 pixels. drop_path: the probability of dropping the last block's residual branch in
    training, each item's by itself; from 0 at the first block it grows linearly (stochastic depth; section A.1: 0.1 for
    ConvNeXt-T supervised on ImageNet).
    """

    modality = "image"
    offers = frozenset()
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        depths: list[int] = [3, 3, 9, 3],  # noqa: B006 (read, never written)
        dims: list[int] = [96, 192, 384, 768],  # noqa: B006
        stem: int = 4,
        layer_scale: float = 1e-6,
        drop_path: float = 0.0,
        eps: float = 1e-6,
        channels: int = 3,
        mean: list[float] = [0.5, 0.5, 0.5],  # noqa: B006
        std: list[float] = [0.25, 0.25, 0.25],  # noqa: B006
    ):
        super().__init__()
        if not depths or len(depths) != len(dims) or min(depths) < 1 or sorted(set(dims)) != dims or stem < 1:
            raise ConfigError(
                "ConvNeXt needs as many dims as depths, dims that grow, depths >= 1 and stem >= 1; "
                f"got {depths}, {dims}, {stem}"
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.reads, self.depth, self.drop_path = {"channels": channels}, len(depths), drop_path
        self.stem = nn.Sequential(nn.Conv2d(channels, dims[0], stem, stem), ChannelNorm(dims[0], eps))
        widths = [width for width, depth in zip(dims, depths, strict=True) for _ in range(depth)]
        before = [dims[0], *widths]
        self.blocks = nn.ModuleList(
            Block(inputs, width, layer_scale, eps) for inputs, width in zip(before, widths, strict=False)
        )
        self.ends = {sum(depths[: stage + 1]) - 1 for stage in range(len(depths))}  # the last block of each stage
        self.norm = nn.LayerNorm(dims[-1], eps)
        self.dim = self.feature_dim = dims[-1]
        self.stride = stem << (len(dims) - 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        x = ((to_float(inputs) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        if x.shape[-1] < self.stride:
            raise ConfigError(
                f"images of {x.shape[-1]} pixels are smaller than the stride {self.stride} of this ConvNeXt: "
                "set encoder.stem lower, or fewer stages"
            )
        x = self.stem(x)
        found = [x.mean((2, 3))]
        scales: Sequence[Tensor | None] = [None] * len(self.blocks)
        if self.training and self.drop_path:
            scales = branch_scales(x, self.drop_path, len(self.blocks)).unbind(1)
        for number, (block, scale) in enumerate(zip(self.blocks, scales, strict=True)):
            x = block(x, None if scale is None else scale[..., None])
            if number in self.ends:
                found.append(x.mean((2, 3)))
        found[-1] = self.norm(found[-1])
        hidden = [F.pad(y, (0, self.dim - y.shape[1]))[:, None] for y in found]
        return Encoded(hidden, torch.ones_like(lengths), found[-1])
