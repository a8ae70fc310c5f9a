"""The one transformer: post-norm (Vaswani et al. 2017, BERT, wav2vec 2.0 base) or pre-norm (ViT, GPT-2,
wav2vec 2.0 large), with or without a causal mask, for frames, patches and word pieces alike.

Post-norm normalises the trunk's input, pre-norm its output; that is the one norm outside the layers.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import valid
from sslzoo.errors import ConfigError
from sslzoo.parts.positions import sinusoids

ACTIVATIONS = {"gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "relu": F.relu}


@dataclass
class Past:
    """Keys and values [B, H, S, D / H] that a layer's tokens may look at beside their own."""

    key: Tensor | None = None
    value: Tensor | None = None

    @property
    def size(self) -> int:
        return 0 if self.key is None else self.key.shape[2]

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """What was there and then these, which are kept."""
        if self.key is not None:
            key, value = torch.cat([self.key, key], dim=2), torch.cat([self.value, value], dim=2)
        self.key, self.value = key, value
        return key, value


@dataclass
class Cache:
    """What a trunk keeps of the tokens before, so that the next one costs one token's work; or a learned prefix.

    layers: a `Past` each. place: the position of the next token: how many went in, 0 behind a prefix. Rows that
    are continued are of one length: what is kept has no padding.
    """

    layers: list[Past]
    place: int = 0

    @classmethod
    def empty(cls, depth: int) -> "Cache":
        return cls([Past() for _ in range(depth)])

    @property
    def size(self) -> int:
        return self.layers[0].size


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, eq. 1) of a sequence to itself, and to what
    `past` holds."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool, past: Past | None = None) -> Tensor:
        """x [B, T, D]; mask bool [B, 1, 1 or T, S + T], True where a query may look, or None for everywhere
        (for what came before, if `causal`)."""
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        if past is not None:
            k, v = past.extend(k, v)
        dropout = self.dropout if self.training else 0.0
        # without a mask there is nothing before these tokens, or only one of them, which may look everywhere
        causal = causal and mask is None and k.shape[2] == q.shape[2]
        mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and a two-layer perceptron, each with a residual connection and a norm."""

    def __init__(self, dim, heads, hidden, norm, activation, dropout, attention_dropout, activation_dropout, eps):
        super().__init__()
        self.pre = norm == "pre"
        self.activation = ACTIVATIONS[activation]
        self.attention = Attention(dim, heads, attention_dropout)
        self.attention_norm = nn.LayerNorm(dim, eps)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.mlp_norm = nn.LayerNorm(dim, eps)
        self.drop = nn.Dropout(dropout)
        self.drop_activation = nn.Dropout(activation_dropout)

    def mlp(self, x: Tensor) -> Tensor:
        return self.down(self.drop_activation(self.activation(self.up(x))))

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool, past: Past | None = None) -> Tensor:
        if self.pre:
            x = x + self.drop(self.attention(self.attention_norm(x), mask, causal, past))
            return x + self.drop(self.mlp(self.mlp_norm(x)))
        x = self.attention_norm(x + self.drop(self.attention(x, mask, causal, past)))
        return self.mlp_norm(x + self.drop(self.mlp(x)))


class Transformer(nn.Module):
    """tokens [B, T, D], lengths [B] -> hidden states, a list of depth + 1 tensors [B, T, D].

    position: a module that is added to the tokens after an objective has masked them, or None where the
    front end has placed them already. layer_drop: the chance that training skips a layer (Fan et al. 2020).
    scale_residuals: whether the weights that end a residual branch start 1 / sqrt(2 depth) as large, so that
    the sum of the branches does not grow with depth (GPT-2, section 2.3).
    """

    def __init__(
        self,
        dim: int = 256,
        depth: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        norm: Literal["pre", "post"] = "pre",
        activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        layer_drop: float = 0.0,
        causal: bool = False,
        eps: float = 1e-5,
        init_std: float = 0.02,
        scale_residuals: bool = False,
        position: nn.Module | None = None,
    ):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"a transformer of dim={dim} cannot be split over heads={heads}: choose a divisor")
        if causal and isinstance(position, ConvPosition):
            raise ConfigError("a causal transformer cannot have ConvPosition, which sees what comes: use SinePosition")
        self.dim, self.depth, self.causal, self.layer_drop, self.pre = dim, depth, causal, layer_drop, norm == "pre"
        self.position = position
        self.norm = nn.LayerNorm(dim, eps)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(dim, heads, hidden or 4 * dim, norm, activation, dropout, attention_dropout, activation_dropout, eps)
            for _ in range(depth)
        )
        for name, module in self.layers.named_modules():
            if isinstance(module, nn.Linear):
                ends = scale_residuals and name.endswith(("attention.out", "down"))
                nn.init.normal_(module.weight, std=init_std / (2 * depth) ** 0.5 if ends else init_std)
                nn.init.zeros_(module.bias)

    def attention_mask(self, lengths: Tensor, size: int, before: int = 0) -> Tensor | None:
        """bool [B, 1, 1 or T, S + T], or None where nothing is padded and the layers know what came before.
        before: S, what a cache holds, which every token may look at."""
        whole = bool((lengths >= size).all())
        if whole and not (self.causal and before and size > 1):
            return None
        mask = valid(lengths + before, before + size)[:, None, None]
        if self.causal:
            mask = mask & torch.ones(size, before + size, dtype=torch.bool, device=lengths.device).tril(before)
        return mask

    def forward(self, tokens: Tensor, lengths: Tensor, cache: Cache | None = None) -> list[Tensor]:
        """cache: what came before these tokens, which are added to it."""
        size, first = tokens.shape[1], 0 if cache is None else cache.place
        mask = self.attention_mask(lengths, size, 0 if cache is None else cache.size)
        x = tokens if mask is None else tokens * valid(lengths, size)[..., None]
        if self.position is not None:
            x = x + (self.position(x, first) if first else self.position(x))
        x = self.drop(x if self.pre else self.norm(x))
        hidden = [x]
        for number, layer in enumerate(self.layers):
            x = self._maybe(layer, x, mask, None if cache is None else cache.layers[number])
            hidden.append(x)
        if self.pre:
            hidden[-1] = self.norm(x)
        if cache is not None:
            cache.place += size
        return hidden

    def _maybe(self, layer: Layer, x: Tensor, mask: Tensor | None, past: Past | None) -> Tensor:
        if self.training and self.layer_drop and torch.rand(()) < self.layer_drop:
            # a zero that reaches every weight: each has a gradient on every rank, whoever drops what
            return x + 0.0 * sum(p.sum() for p in layer.parameters())
        return layer(x, mask, self.causal, past)


class ConvPosition(nn.Module):
    """wav2vec 2.0's relative position: a grouped convolution over time, weight-normalised, then GELU
    (Baevski et al. 2020, section 2, after Mohamed et al. 2019)."""

    def __init__(self, dim: int, kernel: int = 128, groups: int = 16):
        super().__init__()
        if dim % groups:
            raise ConfigError(f"ConvPosition: dim={dim} is not divisible by groups={groups}")
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(conv.weight, std=2 * (1 / (kernel * dim)) ** 0.5)
        nn.init.zeros_(conv.bias)
        self.conv = nn.utils.parametrizations.weight_norm(conv, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D], padding zeroed -> [B, T, D]."""
        return F.gelu(self.conv(x.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)


class SinePosition(nn.Module):
    """Sine and cosine positions, for any length."""

    def __init__(self, dim: int):
        super().__init__()
        if dim % 2:
            raise ConfigError(f"SinePosition needs an even dim, got {dim}")
        self.dim = dim

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """first: the place of the first token."""
        return sinusoids(first + x.shape[1], self.dim)[first:].to(x)
