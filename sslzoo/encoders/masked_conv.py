"""NPC's network: convolutions whose output at a frame does not depend on the frames around it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.errors import ConfigError
from sslzoo.nn.masked import padded, valid_mask


class MaskedConv(nn.Module):
    """tokens [B, T, D], lengths [B] -> hidden states, a list of depth + 1 tensors [B, T, D]: the tokens, what each
    layer has added up to, and the sum last (NPC, Liu et al. 2020, 2011.00406, section 2.2).

    A layer is a convolution over three tokens, a layer norm, ReLU and a residual connection; of each layer's output a
    masked convolution over `kernel` tokens, with zero weights in the middle, adds to the result. As layers see one more
    neighbour each, the middle widens, so that the result at t depends on none of the tokens t - blind .. t + blind.
    """

    causal = False
    kept: Tensor

    def __init__(self, dim: int = 512, depth: int = 4, kernel: int = 15, blind: int = 2, dropout: float = 0.0):
        super().__init__()
        if dim < 1 or depth < 1 or blind < 0 or kernel % 2 == 0 or kernel // 2 <= blind + depth:
            raise ConfigError(
                "masked convolutions need dim, depth >= 1, blind >= 0 and an odd kernel that is wider than its middle of "
                f"2 (blind + depth) + 1; got {dim}, {depth}, {blind}, {kernel}"
            )
        self.dim, self.depth, self.blind = dim, depth, blind
        self.blocks = nn.ModuleList(nn.Conv1d(dim, dim, 3, padding=1) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))
        self.masked = nn.ModuleList(nn.Conv1d(dim, dim, kernel, padding=kernel // 2) for _ in range(depth))
        self.drop = nn.Dropout(dropout)
        away = (torch.arange(kernel) - kernel // 2).abs()
        around = torch.arange(1, depth + 1)[:, None]  # neighbours that a layer's output has seen
        self.register_buffer("kept", (away > blind + around).float(), persistent=False)  # [depth, kernel]

    def forward(self, tokens: Tensor, lengths: Tensor) -> list[Tensor]:
        size = tokens.shape[1]
        valid = valid_mask(lengths, size, tokens.device)[:, None] if padded(lengths, size) else None
        x = tokens.transpose(1, 2)
        hidden, total = [tokens], torch.zeros_like(x)
        for number, (conv, norm, masked) in enumerate(zip(self.blocks, self.norms, self.masked, strict=True)):
            x = x if valid is None else x * valid
            x = x + self.drop(F.relu(norm(conv(x).transpose(1, 2)))).transpose(1, 2)
            x = x if valid is None else x * valid
            assert isinstance(masked, nn.Conv1d)
            weight = masked.weight * self.kept[number]
            total = total + torch.tanh(F.conv1d(x, weight, masked.bias, padding=weight.shape[2] // 2))
            hidden.append(total.transpose(1, 2))
        return hidden
