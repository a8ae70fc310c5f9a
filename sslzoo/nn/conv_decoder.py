"""A decoder of convolutions over tokens, on a sequence or a grid."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.errors import ConfigError
from sslzoo.nn.masked import padded, valid_mask


class ConvDecoder(nn.Module):
    """`depth` grouped convolutions, each followed by a layer norm without weights and GELU, with a residual connection
    but around the first; then a linear layer back to the input's width (data2vec 2.0, 2212.07525, section 3.1).

    dim: width of the convolutions. kernel: odd, tokens (or, on a grid, tokens a side) that one sees. grid: whether
    tokens form a grid, row by row. Padding is zeroed before each convolution, so that it changes no valid token.
    """

    def __init__(self, inputs: int, dim: int, depth: int, kernel: int, groups: int, grid: bool = False):
        super().__init__()
        if kernel % 2 == 0 or depth < 1 or dim % groups or inputs % groups:
            raise ConfigError(
                f"a convolutional decoder needs an odd kernel, depth >= 1, and groups that divide the encoder's {inputs} "
                f"and its own dim={dim}; got {kernel}, {depth}, {groups}"
            )
        conv = nn.Conv2d if grid else nn.Conv1d
        widths = [inputs, *[dim] * depth]
        self.grid = grid
        self.layers = nn.ModuleList(conv(a, b, kernel, padding=kernel // 2, groups=groups) for a, b in pairwise(widths))
        self.out = nn.Linear(dim, inputs)

    def forward(self, x: Tensor, lengths: Tensor, columns: int = 1) -> Tensor:
        """x [B, T, D], lengths [B] on the host, columns: the grid's width -> [B, T, D]."""
        size = x.shape[1]
        valid = valid_mask(lengths, size, x.device)[..., None] if padded(lengths, size) else None
        for number, layer in enumerate(self.layers):
            x = x if valid is None else x * valid
            y = x.transpose(1, 2)
            y = layer(y.unflatten(2, (-1, columns))).flatten(2) if self.grid else layer(y)
            y = F.gelu(F.layer_norm(y.transpose(1, 2), y.shape[1:2]))
            x = x + y if number else y
        return self.out(x)
