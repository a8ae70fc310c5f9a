"""Small networks on top of an encoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.nn.batchnorm import BatchNorm1d
from sslzoo.nn.linear import Linear
from sslzoo.nn.prototypes import Prototypes


def expander(inputs: int, hidden: int, outputs: int, layers: int = 3, bias: bool = False) -> nn.Sequential:
    """Linear, batch norm, ReLU, ..., linear, without a final norm or bias: VICReg's expander and Barlow Twins'
    projector. bias: whether the last layer has one (LeJEPA's has)."""
    blocks = []
    for _ in range(layers - 1):
        blocks += [nn.Linear(inputs, hidden, bias=False), BatchNorm1d(hidden), nn.ReLU()]
        inputs = hidden
    return nn.Sequential(*blocks, nn.Linear(inputs, outputs, bias=bias))


def projector(inputs: int, hidden: int, outputs: int, layers: int = 2, affine: bool = True) -> nn.Sequential:
    """Linear, batch norm, ReLU, ..., linear, batch norm: SimCLR's projection head g. affine: whether the last norm
    has a learned scale and shift (SimSiam's has not)."""
    return expander(inputs, hidden, outputs, layers).append(BatchNorm1d(outputs, affine=affine))


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, batch norm, ReLU, linear: BYOL's projector and predictor."""
    return nn.Sequential(nn.Linear(inputs, hidden), BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class PrototypeHead(nn.Module):
    """DINO's head: linear, GELU, linear, GELU, linear to a bottleneck, then cosines with K prototypes (2104.14294,
    appendix C). A container, without `forward`: in half precision, the perceptron computes in it and the cosines do
    not."""

    def __init__(self, inputs: int, hidden: int, bottleneck: int, prototypes: int):
        super().__init__()
        layers = [Linear(inputs, hidden), Linear(hidden, hidden), Linear(hidden, bottleneck)]
        for layer in layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        self.prototypes = Prototypes(bottleneck, prototypes)

    def cosines(self, x: Tensor, frozen: bool = False) -> Tensor:
        """[..., D] -> [..., K]. frozen: whether the prototypes do not learn."""
        return self.prototypes(self.mlp(x), frozen)


class LanguageModelHead(nn.Module):
    """Hidden states [..., D] -> logits [..., V], with the encoder's token embedding [V, D] as weight (Press and Wolf
    2017). Has no parameters; it is a module so that it runs in half precision like other heads."""

    def forward(self, hidden: Tensor, embedding: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(hidden, embedding, bias)


class SentencePairHead(nn.Module):
    """Logits [B, 2] for sentence pairs: BERT's next sentence, ALBERT's sentence order.

    Its input is the output of the encoder's pooler (`pool: pooler`); if the encoder has none, its own pooler,
    tanh(W h + b), of the first token."""

    def __init__(self, encoder):
        super().__init__()
        dim = encoder.dim
        self.pooler = nn.Linear(dim, dim) if getattr(encoder, "pooler", None) is None else None
        self.out = nn.Linear(dim, 2)
        for layer in (self.pooler, self.out):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, last: Tensor, pooled: Tensor) -> Tensor:
        """Hidden states [B, T, D] and the encoder's pooled output [B, D] -> [B, 2]."""
        return self.out(pooled if self.pooler is None else torch.tanh(self.pooler(last[:, 0])))
