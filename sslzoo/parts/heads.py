"""Small networks on top of an encoder."""

from torch import nn

from sslzoo.parts.batchnorm import BatchNorm1d


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
