"""Low-rank adaptation (LoRA; Hu et al. 2021, 2106.09685): a frozen matrix learns a difference of low rank."""

import math

import torch
from torch import Tensor, nn

from sslzoo.adapt.methods import Method, frozen, transformer_of
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError
from sslzoo.nn.linear import Linear, linear

IN_ATTENTION, IN_BLOCK = ("query", "key", "value", "out"), ("gate", "up", "down")  # linear layers, by their names


class LoRALinear(Linear):
    """A linear layer with a difference that learns: y = W x + b + alpha / r B A x (section 4.1, eq. 3). W and b are
    those of `base`, under the names that they have there. A [r, K] begins as a linear layer's weights do, and B [N, r]
    as zeros: at first it is `base`. dropout: of x, before A."""

    def __init__(self, base: Linear, r: int, alpha: float, dropout: float):
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias, self.scale = base.weight, base.bias, alpha / r
        self.lora_a = nn.Parameter(base.weight.new_empty(r, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, r))
        nn.init.kaiming_uniform_(self.lora_a, math.sqrt(5))
        self.drop = nn.Dropout(dropout)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + self.scale * linear(linear(self.drop(input), self.lora_a), self.lora_b)

    def merged(self) -> Linear:
        """The plain layer that computes the same, W + alpha / r B A, without dropout."""
        found = Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        with torch.no_grad():
            weight = self.weight + self.scale * (self.lora_b @ self.lora_a)
        found.weight, found.bias = nn.Parameter(weight, self.weight.requires_grad), self.bias
        return found.train(self.training)


class LoRA(Method):
    """Linear layers of every block get a difference of rank r that learns, and the rest of the encoder is frozen.

    r: the rank. alpha: what the difference is scaled by, over r. dropout: of what the difference is computed from,
    drawn as a trunk's dropout is. targets: which layers, among query, key, value and out of attention (the paper adapts
    query and value, section 7.1), and gate, up and down of the perceptron.
    """

    def __init__(
        self,
        r: int = 8,
        alpha: float = 8.0,
        dropout: float = 0.0,
        targets: list[str] = ["query", "value"],  # noqa: B006 (read, never written)
    ):
        known = IN_ATTENTION + IN_BLOCK
        if not targets or len(set(targets)) < len(targets) or not set(targets) <= set(known):
            raise ConfigError(f"method.targets must be some of {', '.join(known)}, each once; got {targets}")
        if alpha <= 0:
            raise ConfigError(f"method.alpha must be above 0, got {alpha}")
        self.r, self.alpha, self.dropout, self.targets = r, alpha, dropout, list(targets)

    def __call__(self, encoder: Encoder) -> Encoder:
        trunk = transformer_of(encoder, "LoRA")
        frozen(encoder)
        for block in trunk.blocks:
            for name in self.targets:
                owner = block.attention if name in IN_ATTENTION else block
                base = getattr(owner, name)
                if base is None:
                    raise ConfigError(
                        f"method.targets: the blocks of this encoder have no layer '{name}': leave it out"
                    )
                setattr(owner, name, LoRALinear(base, self.r, self.alpha, self.dropout))
        return encoder.train()


def merge(encoder: nn.Module) -> nn.Module:
    """The same encoder with every `LoRALinear` in it replaced by the plain layer that computes the same: then it takes
    no more time or memory than before it was adapted (section 4.1)."""
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LoRALinear):
                setattr(module, name, child.merged())
    return encoder
