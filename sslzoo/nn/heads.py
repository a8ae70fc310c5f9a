"""Small networks on top of an encoder."""

import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.nn.batchnorm import BatchNorm1d


def projector(inputs: int, hidden: int, outputs: int, layers: int = 2) -> nn.Sequential:
    """Linear, batch norm, ReLU, ..., linear, batch norm: SimCLR's projection head g."""
    blocks = []
    for _ in range(layers - 1):
        blocks += [nn.Linear(inputs, hidden, bias=False), BatchNorm1d(hidden), nn.ReLU()]
        inputs = hidden
    return nn.Sequential(*blocks, nn.Linear(inputs, outputs, bias=False), BatchNorm1d(outputs))


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, batch norm, ReLU, linear: BYOL's projector and predictor."""
    return nn.Sequential(nn.Linear(inputs, hidden), BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class LanguageModelHead(nn.Module):
    """Hidden states [..., D] -> logits of a vocabulary [..., V], by an embedding [V, D] that belongs to the encoder
    (Press and Wolf 2017). No weight of its own: a module, so that it computes in half precision as every head does."""

    def forward(self, hidden: Tensor, embedding: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(hidden, embedding, bias)
