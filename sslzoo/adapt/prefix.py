"""Prefix tuning (Li and Liang 2021, 2101.00190): keys and values that learn stand before those of the tokens."""

import torch
from torch import Tensor, nn

from sslzoo.adapt.methods import Method, frozen, transformer_of
from sslzoo.encoders.base import Encoder
from sslzoo.encoders.kv_cache import LayerKV
from sslzoo.nn.linear import Linear


class Prefix(nn.Module):
    """Learned keys and values of `length` places before each of `depth` layers: `states` [length, 2 * depth * D], for
    each layer its keys and then its values, of all heads."""

    def __init__(self, states: Tensor, depth: int, heads: int):
        super().__init__()
        self.states, self.depth, self.heads = nn.Parameter(states), depth, heads

    def computed(self) -> Tensor:
        """All keys and values, [length, 2 * depth * D]."""
        return self.states

    def forward(self, rows: int) -> tuple[LayerKV, ...]:
        """For each layer, the same keys and values [B, H, length, D / H] for so many rows."""
        parts = self.computed().unflatten(1, (self.depth, 2, self.heads, -1)).permute(1, 2, 3, 0, 4)
        return tuple(LayerKV(*(x.expand(rows, -1, -1, -1) for x in layer)) for layer in parts)


class ReparametrizedPrefix(Prefix):
    """Each place's keys and values as a perceptron of two layers computes them from a vector of its own, P[i] =
    MLP(P'[i]) (section 4.3): learning the perceptron and `states`, here P' [length, D], is more stable than learning P.
    hidden: the perceptron's inner width."""

    def __init__(self, length: int, dim: int, depth: int, heads: int, hidden: int):
        super().__init__(torch.randn(length, dim), depth, heads)
        self.inner, self.outer = Linear(dim, hidden), Linear(hidden, 2 * depth * dim)

    def computed(self) -> Tensor:
        return self.outer(torch.tanh(self.inner(self.states)))

    def flattened(self) -> Prefix:
        """What is left after training: P itself."""
        with torch.no_grad():
            found = Prefix(self.computed(), self.depth, self.heads)
        return found.requires_grad_(self.states.requires_grad).train(self.training)


class PrefixTuning(Method):
    """Every layer's tokens may look at keys and values that learn, and the encoder is frozen. Such a prefix is no
    token: it takes no place, and what is pooled is of the item's own tokens.

    length: places of the prefix. hidden: the inner width of the perceptron that computes it in training (section 4.3;
    512 in the paper's code); it is not stored. At 30, twelve blocks of 768 have 552,960 parameters stored.
    """

    def __init__(self, length: int = 30, hidden: int = 512):
        self.length, self.hidden = length, hidden

    def __call__(self, encoder: Encoder) -> Encoder:
        trunk = transformer_of(encoder, "Prefix tuning")
        frozen(encoder)
        heads = trunk.dim // trunk.head_dim
        trunk.prefix = ReparametrizedPrefix(self.length, trunk.dim, trunk.depth, heads, self.hidden)
        return encoder.train()

    def finished(self, encoder: Encoder) -> Encoder:
        return flatten(encoder)


def flatten(encoder: Encoder) -> Encoder:
    """The same encoder, with the keys and values of its prefix instead of what computes them."""
    trunk = transformer_of(encoder, "Prefix tuning")
    if isinstance(trunk.prefix, ReparametrizedPrefix):
        trunk.prefix = trunk.prefix.flattened()
    return encoder
