"""The transformer for frames, patches and word pieces: post-norm (Vaswani et al. 2017, BERT, wav2vec 2.0 base) or
pre-norm (ViT, GPT-2, wav2vec 2.0 large), with or without a causal mask.

Post-norm normalises the trunk's input, pre-norm its output; this is the only norm outside the layers.
"""

from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sslzoo import rng
from sslzoo.encoders.attention import window_mask
from sslzoo.encoders.block import GATED, Block, norm_layer
from sslzoo.encoders.conv_position import ConvPosition, StackedConvPosition
from sslzoo.encoders.kv_cache import KVCache, LayerKV, TrunkState
from sslzoo.encoders.ragged import joined, rows_apart
from sslzoo.encoders.rotary import RotaryPosition
from sslzoo.errors import ConfigError
from sslzoo.nn.drop_path import branch_scales
from sslzoo.nn.masked import host, padded, valid_mask
from sslzoo.nn.places import gather_tokens, with_gaps
from sslzoo.nn.positions import sinusoids


class Transformer(nn.Module):
    """tokens [B, T, D], lengths [B] -> hidden states, a list of depth + 1 tensors [B, T, D].

    `forward` calls `prepare`, then `block` for each block, then `finish`; call them directly to exit early, start at a
    later block or drop rows between blocks.

    position: a module whose output is added to the tokens, after an objective's masking, or that rotates queries and
    keys (`RotaryPosition`); None if the front end adds positions. layer_drop: the probability of skipping a layer in
    training (Fan et al. 2020). drop_path: the probability of dropping a residual branch of the last block in training,
    each item's by itself; from 0 at the first block it grows linearly (stochastic depth, 1603.09382; `nn.drop_path`).
    scale_residuals: whether the last weights of residual branches are initialised
    1 / sqrt(2 depth) as large, so that the sum of the branches does not grow with depth (GPT-2, section 2.3). init:
    initialisation of linear layers, "normal" with standard deviation init_std (BERT, GPT-2, wav2vec 2.0) or "xavier",
    uniform (MAE's reference). input_norm: whether the input is normalised, by the trunk's norm if post-norm, by the
    first block before its attention if pre-norm; false if the front end does so. share_layers: whether all layers
    share their weights (ALBERT, Lan et al. 2020, section 3.1).
    hidden: the width of the MLPs; None for 4 D, and for 8 / 3 D of gated ones, which then have as many weights
    (2002.05202, section 3). norm_type: "layer", or "rms" (1910.07467). bias: whether linear layers and norms have one.
    window: the number of tokens that layers attend to, half of them on either side, or None for all. global_every:
    with a window, every so many layers, from the first on, attend to all tokens; 0 for none (ModernBERT, 2412.13663,
    section 2.1.2). layer_scale: the initial value of learned scales of the residual branches' channels, or None for no
    scales (CaiT, 2103.17239, eq. 4; DINOv2).
    prefix: a module that returns, for a number of rows, keys and values that every token attends to (see `prepare`);
    set by `adapt.prefix`, else None.
    recompute, compiled, always_mask: set by `train.blocks` before the first step; they do not change results.
    """

    def __init__(
        self,
        dim: int = 256,
        depth: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        norm: Literal["pre", "post"] = "pre",
        activation: Literal["gelu", "gelu_tanh", "relu", "silu", "geglu", "swiglu"] = "gelu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        layer_drop: float = 0.0,
        drop_path: float = 0.0,
        causal: bool = False,
        eps: float = 1e-5,
        init_std: float = 0.02,
        scale_residuals: bool = False,
        position: nn.Module | None = None,
        init: Literal["normal", "xavier"] = "normal",
        input_norm: bool = True,
        share_layers: bool = False,
        norm_type: Literal["layer", "rms"] = "layer",
        bias: bool = True,
        window: int | None = None,
        global_every: int = 3,
        layer_scale: float | None = None,
    ):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"a transformer of dim={dim} cannot be split over heads={heads}: choose a divisor")
        if causal and isinstance(position, ConvPosition | StackedConvPosition):
            raise ConfigError("a causal transformer cannot have ConvPosition, which sees what comes: use SinePosition")
        if share_layers and norm == "pre" and not input_norm:
            raise ConfigError("input_norm=false is of the first block alone, and share_layers=true has no first one")
        if window is not None and (window < 2 or window % 2):
            raise ConfigError(f"window must be an even number of tokens, half of them on either side, got {window}")
        if global_every < 0:
            raise ConfigError(f"global_every must be at least 0, for no layer that looks at all, got {global_every}")
        if drop_path and depth < 2:
            raise ConfigError("drop_path is 0 at the first block, and depth=1 has no other: set drop_path=0")
        self.dim, self.depth, self.causal, self.layer_drop, self.pre = dim, depth, causal, layer_drop, norm == "pre"
        self.position, self.window, self.global_every, self.head_dim = position, window, global_every, dim // heads
        self.drop_path = drop_path
        if isinstance(position, RotaryPosition):
            position.turned(self.head_dim)  # raises ConfigError for unsuitable head sizes
        self.prefix: nn.Module | None = None
        self.layer_drop_seed = 0  # set by the trainer at each step, equal on all ranks
        self.recompute = self.compiled = self.always_mask = False
        self.norm = norm_layer(dim, eps, norm_type, bias) if self.pre or input_norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        hidden = hidden or (8 * round(dim / 3) if activation in GATED else 4 * dim)
        dropouts = (dropout, attention_dropout, activation_dropout)
        self.blocks = nn.ModuleList(
            Block(
                *(dim, heads, hidden, norm, activation, *dropouts, eps, norm_type, bias),
                norm_input=bool(number) or not self.pre or input_norm,
                layer_scale=layer_scale,
            )
            for number in range(1 if share_layers else depth)
        )
        for name, module in self.blocks.named_modules():
            if isinstance(module, nn.Linear):
                ends = scale_residuals and name.endswith(("attention.out", "down"))
                shrink = (2 * depth) ** 0.5 if ends else 1.0
                if init == "normal":
                    nn.init.normal_(module.weight, std=init_std / shrink)
                else:  # there query, key and value are one layer with three times the outputs
                    fused = name.endswith(("query", "key", "value"))
                    nn.init.xavier_uniform_(module.weight, (0.5**0.5 if fused else 1.0) / shrink)
                if bias:
                    nn.init.zeros_(module.bias)

    @property
    def keeps_apart(self) -> bool:
        """Whether packed `documents` give the same result as alone: not if positions count from the row's start."""
        return self.position is None or isinstance(self.position, RotaryPosition)

    def looks_at_all(self, number: int) -> bool:
        """Whether block `number` attends to all tokens, not to a window."""
        return self.window is None or bool(self.global_every) and number % self.global_every == 0

    def attention_mask(
        self, lengths: Tensor, size: int, prefix: int, cached: int, device, documents: Tensor | None = None
    ) -> Tensor | None:
        """bool [B or 1, 1, 1 or T, P + S + T], or None if nothing is padded or `is_causal` is enough.
        prefix, cached: P and S, the numbers of prefix and cached keys, which every token attends to. A causal trunk's
        valid tokens never attend to padding, which comes after them; outputs at padding are unused."""
        before = prefix + cached
        if documents is not None:  # [B, 1, T, P + T]: within a document
            mask = (documents[:, :, None] == documents[:, None]) & valid_mask(lengths, size, device)[:, None]
            return F.pad(mask.tril() if self.causal else mask, (before, 0), value=True)[:, None]
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
        positions: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> TrunkState:
        """The state before the first block. cache: of the tokens before these. prefix: keys and values, a `LayerKV` per
        layer, that every token attends to and that have no position; (): those of `self.prefix`, if any. positions: of
        the tokens, int64 [B, T], for windows and positions (of convolutions: on the host); None if consecutive.
        documents: int64 [B, T], each token's item within its row, to which its attention is restricted."""
        size, lengths, place = tokens.shape[1], host(lengths), 0 if cache is None else cache.position
        if not prefix and self.prefix is not None:
            prefix = self.prefix(len(tokens))
        ahead = prefix[0].size if prefix else 0
        mask = self.attention_mask(lengths, size, ahead, place, tokens.device, documents)
        local_mask = None
        given = positions
        if positions is None:
            positions = torch.arange(place, place + size, device=tokens.device)
        positions = positions.to(tokens.device, non_blocking=True)
        if self.window is not None:
            local_mask = window_mask(positions, self.window // 2, self.causal, ahead, place)
            if mask is not None:
                local_mask = local_mask & mask
            if padded(lengths, size):
                # padding attends to itself: a softmax over no keys would be NaN
                own = torch.eye(size, dtype=torch.bool, device=tokens.device)
                local_mask = local_mask | F.pad(own, (ahead + place, 0))
        x = tokens
        if padded(lengths, size) and not self.causal:
            x = tokens * valid_mask(lengths, size, tokens.device)[..., None]
        angles, local_angles = self.angles(positions)
        if self.position is not None and not isinstance(self.position, RotaryPosition):
            x = x + self.added(x, lengths, place, given)
        x = self.drop(x if self.pre else self.norm(x))
        scales = (
            branch_scales(x, self.drop_path, self.depth, 2, documents) if self.training and self.drop_path else None
        )
        return TrunkState(x, lengths, mask, tuple(prefix), cache, (), angles, local_mask, local_angles, scales)

    def added(self, x: Tensor, lengths: Tensor, start: int, positions: Tensor | None) -> Tensor:
        """What `position` adds to tokens [B, T, D], padding zeroed. Where some were dropped it sees zeros instead."""
        if positions is not None:
            whole, lengths = with_gaps(x, lengths, positions)
            return gather_tokens(self.added(whole, lengths, start, None), positions.to(x.device, non_blocking=True))
        if isinstance(self.position, StackedConvPosition):
            return self.position(x, lengths)
        return self.position(x, start) if start else self.position(x)

    def angles(self, positions: Tensor) -> tuple[Any, Any]:
        """What attention is given of the tokens' positions, int64 [T] or [B, T]: (in blocks that look at all tokens, in
        those of a window). None without rotary positions."""
        if not isinstance(self.position, RotaryPosition):
            return None, None
        return self.position(positions, self.head_dim), self.position(positions, self.head_dim, local=True)

    def block(self, number: int, state: TrunkState) -> TrunkState:
        """The state after block `number`."""
        layer = self.blocks[number * len(self.blocks) // self.depth]  # neighbours may share one
        if self.training and self.layer_drop and self._dropped(number):
            return replace(state, x=layer.without_effect(state.x))
        before = state.prefix[number] if state.prefix else None
        layer_kv = state.cache.layers[number] if state.cache is not None and state.cache.layers else None
        if layer_kv is not None:
            before = layer_kv if before is None else before.followed_by(layer_kv.key, layer_kv.value)
        # not compiled in eval mode, where each new batch shape would be compiled
        call = layer.forward if self.compiled and not self.training else layer
        whole = self.looks_at_all(number)
        mask, angles = (state.mask, state.angles) if whole else (state.local_mask, state.local_angles)
        scale = None if state.branch_scales is None else state.branch_scales[:, number]
        if self.recompute and torch.is_grad_enabled() and state.cache is None:
            x, k, v = checkpoint(call, state.x, mask, self.causal, before, angles, scale, use_reentrant=False)
        else:
            x, k, v = call(state.x, mask, self.causal, before, angles, scale)
        if state.cache is None:
            return replace(state, x=x)
        kv = LayerKV(k, v) if layer_kv is None else layer_kv.followed_by(k, v)
        return replace(state, x=x, new_kv=(*state.new_kv, kv))

    def _dropped(self, number: int) -> bool:
        return rng.derive_seed(self.layer_drop_seed, "layer drop", number) / 2**63 < self.layer_drop

    def finish(self, x: Tensor) -> Tensor:
        """The result [B, T, D] of the hidden state after the last block, or after an earlier one."""
        return self.norm(x) if self.pre else x

    def cache(self, state: TrunkState) -> KVCache | None:
        """The cache for the next tokens, from the state after the last block; None if there was no cache."""
        return None if state.cache is None else KVCache(state.new_kv, state.cache.position + state.x.shape[1])

    def run(self, state: TrunkState) -> tuple[list[Tensor], TrunkState]:
        """Run all blocks: (hidden states, the state after the last block)."""
        hidden = [state.x]
        for number in range(self.depth):
            state = self.block(number, state)
            hidden.append(state.x)
        hidden[-1] = self.finish(state.x)
        return hidden, state

    def forward(
        self, tokens: Tensor, lengths: Tensor, positions: Tensor | None = None, documents: Tensor | None = None
    ) -> list[Tensor]:
        """positions, documents: as for `prepare`."""
        size = tokens.shape[1]
        # not in training, where dropout masks are drawn per batch
        rows = None if self.causal or self.training else rows_apart(lengths, size, tokens.device)
        if rows is not None:
            given = [
                [None if x is None else x[i : i + 1, :n] for x in (positions, documents)] for i, n in enumerate(rows)
            ]
            apart = [self(tokens[i : i + 1, :n], lengths[i : i + 1], *given[i]) for i, n in enumerate(rows)]
            return [joined(layer, size) for layer in zip(*apart, strict=True)]
        return self.run(self.prepare(tokens, lengths, positions=positions, documents=documents))[0]


class SinePosition(nn.Module):
    """Sine and cosine positions, for any length."""

    def __init__(self, dim: int):
        super().__init__()
        if dim % 2:
            raise ConfigError(f"SinePosition needs an even dim, got {dim}")
        self.dim = dim
        self.register_buffer("table", sinusoids(512, dim), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """start: the position of the first token."""
        size = start + x.shape[1]
        if size > len(self.table):  # doubles, so that it grows rarely
            self.table = sinusoids(2 * size, self.dim).to(self.table.device)
        return self.table[start:size].to(x.dtype)
