"""Adapters: small layers in a frozen block, that learn what to add to what passes them."""

from typing import Any, Literal

from torch import Tensor, nn

from sslzoo.adapt.methods import Method, frozen, transformer_of
from sslzoo.encoders.base import Encoder
from sslzoo.encoders.block import ACTIVATIONS
from sslzoo.nn.linear import Linear

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


class Adapter(nn.Module):
    """W_up f(W_down x + b) + c, from D to `bottleneck` and back, which is to be added to x. W_down begins as a normal
    distribution of deviation 0.01, cut off at two of them (1902.00751, section 3.6), and all else as zeros: at first
    nothing is added, to the bit, where the paper's W_up begins as W_down does, and adds a little."""

    def __init__(self, dim: int, bottleneck: int, activation: str):
        super().__init__()
        self.down, self.up = Linear(dim, bottleneck), Linear(bottleneck, dim)
        self.activation = ACTIVATIONS[activation]
        nn.init.trunc_normal_(self.down.weight, std=0.01, a=-0.02, b=0.02)
        for zeros in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zeros)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return self.up(self.activation(self.down(x)))


class AdaptedLinear(Linear):
    """A linear layer, and an adapter of what it gives: y + A(y), y = W x + b, with W and b of `base`."""

    def __init__(self, base: Linear, adapter: Adapter):
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias, self.adapter = base.weight, base.bias, adapter

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(input)
        return y + self.adapter(y)


class AdaptedNorm(nn.Module):
    """The norm that ends a post-norm block, and an adapter that reads what the norm gives and adds to what it is given:
    N(x + A(N(x)))."""

    def __init__(self, norm: nn.Module, adapter: Adapter):
        super().__init__()
        self.norm, self.adapter = norm, adapter

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.adapter(self.norm(x)))


class Houlsby(Method):
    """Two adapters a block, of what attention and what the perceptron give, before it is added to what they were given;
    and the block's norms learn (Houlsby et al. 2019, 1902.00751, figure 2). The rest of the encoder is frozen.

    bottleneck: the adapters' inner width. At 64, twelve blocks of 768 have 2,379,264 parameters in adapters, and their
    norms 36,864.
    """

    def __init__(self, bottleneck: int = 64, activation: Activation = "gelu"):
        self.bottleneck, self.activation = bottleneck, activation

    def __call__(self, encoder: Encoder) -> Encoder:
        trunk = transformer_of(encoder, "Houlsby")
        frozen(encoder)
        for block in trunk.blocks:
            for owner, name in ((block.attention, "out"), (block, "down")):
                adapter = Adapter(trunk.dim, self.bottleneck, self.activation)
                setattr(owner, name, AdaptedLinear(getattr(owner, name), adapter))
            block.attention_norm.requires_grad_()
            block.mlp_norm.requires_grad_()
        return encoder.train()


class Pfeiffer(Method):
    """One adapter a block, after the perceptron (Pfeiffer et al. 2021, 2005.00247), and the rest of the encoder is
    frozen, norms too. In a post-norm block it reads what the block's last norm gives, adds to what that norm is given,
    and the norm is taken again (Pfeiffer et al. 2020, 2005.00052, eq. 1, and the `adapters` library); in a pre-norm
    block, which ends in no norm, it reads what the perceptron gives, and adds to it.

    bottleneck: the adapter's inner width. At 48, twelve blocks of 768 have 894,528 parameters in adapters.
    """

    def __init__(self, bottleneck: int = 48, activation: Activation = "relu"):
        self.bottleneck, self.activation = bottleneck, activation

    def __call__(self, encoder: Encoder) -> Encoder:
        trunk = transformer_of(encoder, "Pfeiffer")
        frozen(encoder)
        block: Any
        for block in trunk.blocks:
            adapter = Adapter(trunk.dim, self.bottleneck, self.activation)
            if trunk.pre:
                block.down = AdaptedLinear(block.down, adapter)
            else:
                block.mlp_norm = AdaptedNorm(block.mlp_norm, adapter)
        return encoder.train()
