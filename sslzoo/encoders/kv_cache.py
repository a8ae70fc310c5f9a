"""What a trunk hands from block to block, and keeps from one token to the next."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sslzoo.encoders.rotary import Angles


@dataclass(frozen=True)
class LayerKV:
    """Keys and values [B, H, S, D / H] that a block's tokens may look at beside their own."""

    key: Tensor
    value: Tensor

    @property
    def size(self) -> int:
        return self.key.shape[2]

    def followed_by(self, key: Tensor, value: Tensor) -> "LayerKV":
        """These and then those."""
        return LayerKV(torch.cat([self.key, key], dim=2), torch.cat([self.value, value], dim=2))

    def select(self, rows: Tensor) -> "LayerKV":
        return LayerKV(self.key[rows], self.value[rows])


@dataclass(frozen=True)
class KVCache:
    """What a trunk knows of the tokens before, so that the next one costs one token's work. A trunk that goes on
    from a cache returns another; none is ever changed. Rows are of one length: a cache has no padding.

    layers: a `LayerKV` each, none before the first token. position: the position of the next token.
    """

    layers: tuple[LayerKV, ...] = ()
    position: int = 0


@dataclass(frozen=True)
class TrunkState:
    """What goes from block to block. x: [B, T, D]. lengths: [B], on the host. mask: bool [B or 1, 1, 1 or T, S + T],
    True where a query may look, None for everywhere (or for what came before, if causal). prefix, cache: what
    stands before the tokens, a `LayerKV` a block. new_kv: keys and values of the blocks so far, if they are kept.
    angles: of rotary positions, see `RotaryPosition`. local_mask, local_angles: those of blocks that look at a window
    alone."""

    x: Tensor
    lengths: Tensor
    mask: Tensor | None = None
    prefix: tuple[LayerKV, ...] = ()
    cache: KVCache | None = None
    new_kv: tuple[LayerKV, ...] = ()
    angles: Angles | None = None
    local_mask: Tensor | None = None
    local_angles: Angles | None = None

    def select(self, rows: Tensor) -> "TrunkState":
        """The state of some rows, int64 [n] on the host: the others have left."""
        here = rows.to(self.x.device, non_blocking=True)

        def of_rows(part):
            """A tensor whose first dimension is the rows, or is 1 for all of them."""
            return part if part is None or len(part) == 1 else part[here]

        cache = self.cache and replace(self.cache, layers=tuple(kv.select(here) for kv in self.cache.layers))
        return replace(
            self,
            x=self.x[here],
            lengths=self.lengths[rows],
            mask=of_rows(self.mask),
            local_mask=of_rows(self.local_mask),
            angles=self.angles and tuple(map(of_rows, self.angles)),
            local_angles=self.local_angles and tuple(map(of_rows, self.local_angles)),
            prefix=tuple(kv.select(here) for kv in self.prefix),
            cache=cache,
            new_kv=tuple(kv.select(here) for kv in self.new_kv),
        )
