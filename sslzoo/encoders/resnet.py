"""Residual networks (He et al. 2016): one vector per image, no tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.base import Encoded, Encoder
from sslzoo.errors import ConfigError
from sslzoo.nn.batchnorm import BatchNorm2d
from sslzoo.nn.images import to_float


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 with a bottleneck of a quarter of the width, plus a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            self.convs = nn.ModuleList(
                [_conv(inputs, width, 1), _conv(width, width, 3, stride), _conv(width, outputs, 1)]
            )
        else:
            self.convs = nn.ModuleList([_conv(inputs, width, 3, stride), _conv(width, outputs, 3)])
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _conv(inputs, outputs, 1)
        self.outputs, self.stride = outputs, stride

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.convs[:-1]:
            y = F.relu(conv(y))
        # a strided 1x1 convolution of few channels writes past its buffer on CPUs (uxlfoundation/oneDNN#6035)
        return F.relu(self.convs[-1](y) + self.shortcut(x[..., :: self.stride, :: self.stride]))


class ResNet(Encoder):
    """Images [B, C, S, S] in 0..1 or uint8 -> pooled [B, D].

    depths: blocks of each stage. width: channels of the first, doubled at each stage. stem: kernel and
    stride of the first convolution, [7, 2] for large images and [3, 1] for those of 32 pixels; pool: a max
    pooling after it, for large ones (SimCLR, appendix B.9).
    """

    modality = "image"
    depth = 0
    offers = frozenset()

    def __init__(
        self,
        depths: list[int] = [2, 2, 2, 2],  # noqa: B006 (read, never written)
        width: int = 64,
        bottleneck: bool = False,
        stem: list[int] = [3, 1],  # noqa: B006
        pool: bool = False,
        channels: int = 3,
        mean: list[float] = [0.5, 0.5, 0.5],  # noqa: B006
        std: list[float] = [0.25, 0.25, 0.25],  # noqa: B006
    ):
        super().__init__()
        if len(stem) != 2:
            raise ConfigError(f"ResNet's stem is a kernel and a stride, such as [3, 1], got {stem}")
        if not depths or min(depths) < 1 or width < 1:
            raise ConfigError(f"ResNet needs depths of at least 1 and a width of at least 1, got {depths} and {width}")
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.pool, self.reads = pool, {"channels": channels}  # images of any size
        self.stem = _conv(channels, width, *stem)
        blocks, inputs = [], width
        for stage, depth in enumerate(depths):
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(Block(inputs, width << stage, stride, bottleneck))
                inputs = blocks[-1].outputs
        self.blocks = nn.ModuleList(blocks)
        self.dim = self.feature_dim = inputs
        self.to(memory_format=torch.channels_last)  # faster for convolutions with few channels, on CPUs too
        self.stride = stem[1] * (2 if pool else 1) << (len(depths) - 1)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        x = ((to_float(inputs) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.stem(x))
        if self.pool:
            x = F.max_pool2d(x, 3, 2, 1)
        for block in self.blocks:
            x = block(x)
        pooled = x.mean((2, 3))
        return Encoded([pooled[:, None]], torch.ones_like(lengths), pooled)
