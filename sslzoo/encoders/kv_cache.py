"""The state that a trunk passes from block to block, and its cache of keys and values for the next tokens."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sslzoo.encoders.rotary import Angles


@dataclass(frozen=True)
class LayerKV:
    """Further keys and values [B, H, S, D / H] that a block's tokens attend to."""

    key: Tensor
    value: Tensor

    @property
    def size(self) -> int:
        return self.key.shape[2]

    def followed_by(self, key: Tensor, value: Tensor) -> "LayerKV":
        """These keys and values, followed by others."""
        return LayerKV(torch.cat([self.key, key], dim=2), torch.cat([self.value, value], dim=2))

    def select(self, rows: Tensor) -> "LayerKV":
        return LayerKV(self.key[rows], self.value[rows])


@dataclass(frozen=True)
class KVCache:
    """Keys and values of earlier tokens, for incremental decoding. Immutable: a trunk returns a new cache. All rows
    have the same length: a cache has no padding.

    layers: a `LayerKV` per block, () before the first token. position: the position of the next token.
    """

    layers: tuple[LayerKV, ...] = ()
    position: int = 0


@dataclass(frozen=True)
class TrunkState:
    """The state between blocks. x: [B, T, D]. lengths: [B], on the CPU. mask: bool [B or 1, 1, 1 or T, S + T], True
    where a query attends, None for full (or causal) attention. prefix, cache: keys and values before the tokens, a
    `LayerKV` per block. new_kv: keys and values of the blocks so far, if there is a cache. angles: of rotary positions,
    see `RotaryPosition`. local_mask, local_angles: those of blocks with windowed attention. branch_scales: what each
    block's two residual branches are multiplied with, float32 [B, depth, 2, 1 or T] (`nn.drop_path`), None for 1."""

    x: Tensor
    lengths: Tensor
    mask: Tensor | None = None
    prefix: tuple[LayerKV, ...] = ()
    cache: KVCache | None = None
    new_kv: tuple[LayerKV, ...] = ()
    angles: Angles | None = None
    local_mask: Tensor | None = None
    local_angles: Angles | None = None
    branch_scales: Tensor | None = None

    def select(self, rows: Tensor) -> "TrunkState":
        """The state of a subset of rows, int64 [n] on the CPU."""
        here = rows.to(self.x.device, non_blocking=True)

        def of_rows(part):
            """Index a tensor whose first dimension is the rows; one of size 1 is shared by all rows."""
            return part if part is None or len(part) == 1 else part[here]

        cache = self.cache and replace(self.cache, layers=tuple(kv.select(here) for kv in self.cache.layers))
        return replace(
            self,
            x=self.x[here],
            lengths=self.lengths[rows],
            mask=of_rows(self.mask),
            local_mask=of_rows(self.local_mask),
            angles=_changed(self.angles, of_rows),
            local_angles=_changed(self.local_angles, of_rows),
            branch_scales=of_rows(self.branch_scales),
            prefix=tuple(kv.select(here) for kv in self.prefix),
            cache=cache,
            new_kv=tuple(kv.select(here) for kv in self.new_kv),
        )

    def trimmed(self) -> "TrunkState":
        """The state without the padding that all rows have, as when the longest have left. Not with a cache."""
        size, longest = self.x.shape[1], int(self.lengths.max())
        if longest == size:
            return self

        def cut(mask: Tensor | None) -> Tensor | None:
            """[..., 1 or T, S + T] without the last queries and keys."""
            if mask is None:
                return None
            return mask[..., : mask.shape[-2] if mask.shape[-2] == 1 else longest, : mask.shape[-1] - size + longest]

        mask = cut(self.mask)
        if mask is not None and mask.shape[-2] == 1 and int(self.lengths.min()) == longest:
            mask = None  # attention without a mask is faster
        return replace(
            self,
            x=self.x[:, :longest],
            mask=mask,
            local_mask=cut(self.local_mask),
            angles=_changed(self.angles, lambda part: part[:, :, :longest]),
            local_angles=_changed(self.local_angles, lambda part: part[:, :, :longest]),
            branch_scales=None if self.branch_scales is None else self.branch_scales[..., :longest],
        )


def _changed(angles: Angles | None, change: Callable[[Tensor], Tensor]) -> Angles | None:
    """What `change` makes of cosines and of sines."""
    return None if angles is None else (change(angles[0]), change(angles[1]))
