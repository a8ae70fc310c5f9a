"""The one transformer: post-norm (Vaswani et al. 2017, BERT, wav2vec 2.0 base) or pre-norm (ViT, GPT-2,
wav2vec 2.0 large), with or without a causal mask, for frames, patches and word pieces alike.

Post-norm normalises the trunk's input, pre-norm its output; that is the one norm outside the layers.
"""

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sslzoo import rng
from sslzoo.encoders.kv_cache import KVCache, LayerKV, TrunkState
from sslzoo.encoders.ragged import joined, rows_apart
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import host, padded, valid_mask
from sslzoo.nn.positions import sinusoids

ACTIVATIONS = {"gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "relu": F.relu}


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, eq. 1) of a sequence to itself, and to what
    stands before it."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, mask: Tensor | None, causal: bool, before: LayerKV | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D]; mask: see `TrunkState`; before: keys and values in front of the tokens' own
        -> [B, T, D], and the tokens' own keys and values [B, H, T, D / H]."""
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self._project(x))
        keys, values = (
            (k, v) if before is None else (torch.cat(pair, 2) for pair in ((before.key, k), (before.value, v)))
        )
        dropout = self.dropout if self.training else 0.0
        # without a mask there is nothing before these tokens, or only one of them, which may look everywhere
        causal = causal and mask is None and before is None
        mixed = F.scaled_dot_product_attention(q, keys, values, mask, dropout, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2)), k, v

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values [B, T, D] each: of plain layers in one product, which is quicker than three."""
        parts = (self.query, self.key, self.value)
        if any(type(f) is not nn.Linear or f._forward_hooks or f._forward_pre_hooks for f in parts):
            return tuple(f(x) for f in parts)  # replaced, or listened to
        weight, bias = torch.cat([f.weight for f in parts]), torch.cat([f.bias for f in parts])
        return F.linear(x, weight, bias).chunk(3, -1)


class Block(nn.Module):
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

    def forward(
        self, x: Tensor, mask: Tensor | None, causal: bool, before: LayerKV | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Attention`."""
        if self.pre:
            mixed, k, v = self.attention(self.attention_norm(x), mask, causal, before)
            x = x + self.drop(mixed)
            return x + self.drop(self.mlp(self.mlp_norm(x))), k, v
        mixed, k, v = self.attention(x, mask, causal, before)
        x = self.attention_norm(x + self.drop(mixed))
        return self.mlp_norm(x + self.drop(self.mlp(x))), k, v


class Transformer(nn.Module):
    """tokens [B, T, D], lengths [B] -> hidden states, a list of depth + 1 tensors [B, T, D].

    `forward` is a loop over `prepare`, `block` and `finish`, which whoever leaves early, enters late or stops
    rows on the way calls by itself.

    position: a module that is added to the tokens after an objective has masked them, or None where the
    front end has placed them already. layer_drop: the chance that training skips a layer (Fan et al. 2020).
    scale_residuals: whether the weights that end a residual branch start 1 / sqrt(2 depth) as large, so that
    the sum of the branches does not grow with depth (GPT-2, section 2.3). init: what linear layers start as,
    "normal" with deviation init_std (BERT, GPT-2, wav2vec 2.0) or "xavier", uniform by their sizes (MAE's reference).
    input_norm: whether a post-norm trunk normalises its input; not where the front end has done so. share_layers:
    whether all layers are one, with the same weights (ALBERT, Lan et al. 2020, section 3.1).
    recompute, compiled, always_mask: what `train.blocks` may set before the first step; they change no result.
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
        init: Literal["normal", "xavier"] = "normal",
        input_norm: bool = True,
        share_layers: bool = False,
    ):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"a transformer of dim={dim} cannot be split over heads={heads}: choose a divisor")
        if causal and isinstance(position, ConvPosition):
            raise ConfigError("a causal transformer cannot have ConvPosition, which sees what comes: use SinePosition")
        self.dim, self.depth, self.causal, self.layer_drop, self.pre = dim, depth, causal, layer_drop, norm == "pre"
        self.position = position
        self.layer_drop_seed = 0  # the trainer sets it anew each step, alike on all ranks
        self.recompute = self.compiled = self.always_mask = False
        self.norm = nn.LayerNorm(dim, eps) if self.pre or input_norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(dim, heads, hidden or 4 * dim, norm, activation, dropout, attention_dropout, activation_dropout, eps)
            for _ in range(1 if share_layers else depth)
        )
        for name, module in self.blocks.named_modules():
            if isinstance(module, nn.Linear):
                ends = scale_residuals and name.endswith(("attention.out", "down"))
                shrink = (2 * depth) ** 0.5 if ends else 1.0
                if init == "normal":
                    nn.init.normal_(module.weight, std=init_std / shrink)
                else:  # query, key and value as the one layer that they are there, of three times the outputs
                    fused = name.endswith(("query", "key", "value"))
                    nn.init.xavier_uniform_(module.weight, (0.5**0.5 if fused else 1.0) / shrink)
                nn.init.zeros_(module.bias)

    def attention_mask(self, lengths: Tensor, size: int, prefix: int, cached: int, device) -> Tensor | None:
        """bool [B or 1, 1, 1 or T, P + S + T], or None where nothing is padded or blocks know what came before.
        prefix, cached: P and S, of what stands before the tokens; each of them may look at all of it. A causal
        trunk's tokens never see padding, which comes after them all: what is made of padding is nobody's."""
        before = prefix + cached
        if self.causal:
            if not before or size == 1:
                return None
            return torch.ones(size, before + size, dtype=torch.bool, device=device).tril(before)[None, None]
        if not (self.always_mask or padded(lengths, size)):
            return None
        return valid_mask(lengths + before, before + size, device)[:, None, None]

    def prepare(
        self,
        tokens: Tensor,
        lengths: Tensor,
        cache: KVCache | None = None,
        prefix: tuple[LayerKV, ...] = (),
    ) -> TrunkState:
        """The state before the first block. cache: what came before these tokens. prefix: keys and values, a
        `LayerKV` a block, that every token may look at and that take no position (learned ones, 2101.00190)."""
        size, lengths, place = tokens.shape[1], host(lengths), 0 if cache is None else cache.position
        mask = self.attention_mask(lengths, size, prefix[0].size if prefix else 0, place, tokens.device)
        x = tokens
        if padded(lengths, size) and not self.causal:
            x = tokens * valid_mask(lengths, size, tokens.device)[..., None]
        if self.position is not None:
            x = x + (self.position(x, place) if place else self.position(x))
        return TrunkState(self.drop(x if self.pre else self.norm(x)), lengths, mask, tuple(prefix), cache)

    def block(self, number: int, state: TrunkState) -> TrunkState:
        """The state after block `number`."""
        layer = self.blocks[number % len(self.blocks)]  # of shared layers, the one
        if self.training and self.layer_drop and self._dropped(number):
            # a zero that reaches every weight, so that each has a gradient
            return replace(state, x=state.x + 0.0 * sum(p.sum() for p in layer.parameters()))
        before = state.prefix[number] if state.prefix else None
        layer_kv = state.cache.layers[number] if state.cache is not None and state.cache.layers else None
        if layer_kv is not None:
            before = layer_kv if before is None else before.followed_by(layer_kv.key, layer_kv.value)
        # in eval mode batches have any shape, and a compiled block would be compiled anew for each
        call = layer.forward if self.compiled and not self.training else layer
        if self.recompute and torch.is_grad_enabled() and state.cache is None:
            x, k, v = checkpoint(call, state.x, state.mask, self.causal, before, use_reentrant=False)
        else:
            x, k, v = call(state.x, state.mask, self.causal, before)
        if state.cache is None:
            return replace(state, x=x)
        kv = LayerKV(k, v) if layer_kv is None else layer_kv.followed_by(k, v)
        return replace(state, x=x, new_kv=(*state.new_kv, kv))

    def _dropped(self, number: int) -> bool:
        return rng.derive_seed(self.layer_drop_seed, "layer drop", number) / 2**63 < self.layer_drop

    def finish(self, state: TrunkState) -> Tensor:
        """The result [B, T, D] of the state after the last block, or after an earlier one."""
        return self.norm(state.x) if self.pre else state.x

    def cache(self, state: TrunkState) -> KVCache | None:
        """What the tokens so far leave for the next ones, after the last block; None if none was asked for."""
        return None if state.cache is None else KVCache(state.new_kv, state.cache.position + state.x.shape[1])

    def run(self, state: TrunkState) -> tuple[list[Tensor], TrunkState]:
        """All blocks: the hidden states, and the state after the last one."""
        hidden = [state.x]
        for number in range(self.depth):
            state = self.block(number, state)
            hidden.append(state.x)
        hidden[-1] = self.finish(state)
        return hidden, state

    def forward(self, tokens: Tensor, lengths: Tensor) -> list[Tensor]:
        size = tokens.shape[1]
        # not in training, where dropout draws for a batch at a time
        rows = None if self.causal or self.training else rows_apart(lengths, size, tokens.device)
        if rows is not None:
            apart = [self(tokens[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(rows)]
            return [joined(layer, size) for layer in zip(*apart, strict=True)]
        return self.run(self.prepare(tokens, lengths))[0]


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
        self.register_buffer("table", sinusoids(512, dim), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """start: the place of the first token."""
        size = start + x.shape[1]
        if size > len(self.table):  # once for a length, and not once a step
            self.table = sinusoids(2 * size, self.dim).to(self.table.device)
        return self.table[start:size].to(x.dtype)
