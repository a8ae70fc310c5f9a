"""Frozen features: what a source says of items and frames, read once each and standardised on train."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import Batch, Data
from sslzoo.data.loader import ordered_loader
from sslzoo.encoders.base import Encoder
from sslzoo.errors import UserError
from sslzoo.parts.masked import masked_mean, valid
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Part
from sslzoo.progress import Progress

IMAGES, SECONDS, TOKENS = 256, 60, 16384  # of one batch


class Source(Protocol):
    """Where features come from.

    layers: the names of its L planes, known once it has seen a batch.
    main: the plane that stands for it where there can be one only (neighbours, a picture).
    apart: whether its dimensions have scales of their own, or share one (pixels, counts).
    first, stride: the centre of token 0 and the distance of neighbours, in samples or tokens.
    """

    layers: list[str]
    main: int
    apart: bool
    first: float
    stride: float

    def items(self, batch: Batch) -> Tensor:
        """[B, L, D], on the CPU."""
        ...

    def tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, T, L, D] and the valid tokens of each row [B], on the CPU."""
        ...


class Frozen:
    """An encoder's layers, in eval mode and without gradients.

    An item is each layer's mean over its valid tokens, without prefix tokens, and the encoder's own
    pooled vector where that is another one; of an encoder without tokens, the pooled vector alone.
    """

    apart = True

    def __init__(self, encoder: Encoder, device: str | torch.device = "cpu"):
        self.encoder, self.device = encoder.to(device).eval(), torch.device(device)
        self.first, self.stride = encoder.stride / 2, encoder.stride
        self.in_tokens = "tokens" in encoder.offers
        self.layers = [str(i) for i in range(encoder.depth + 1)] if self.in_tokens else ["pooled"]
        self.main = len(self.layers) - 1
        self._own_pooling: bool | None = None

    @torch.inference_mode()
    def items(self, batch: Batch) -> Tensor:
        encoded = self.encoder(batch.inputs.to(self.device), batch.lengths)
        if not self.in_tokens:
            return encoded.pooled[:, None].float().cpu()
        inside = valid(encoded.lengths, encoded.last.shape[1], self.device)
        inside[:, : self.encoder.prefix] = False
        means = torch.stack([masked_mean(h.float(), inside) for h in encoded.hidden], 1)
        pooled = encoded.pooled.float()
        if self._own_pooling is None:
            self._own_pooling = not torch.allclose(pooled, means[:, -1], rtol=1e-3, atol=1e-4)
            self.layers = self.layers + ["pooled"] * self._own_pooling
        return (torch.cat([means, pooled[:, None]], 1) if self._own_pooling else means).cpu()

    @torch.inference_mode()
    def tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        encoded = self.encoder(batch.inputs.to(self.device), batch.lengths)
        prefix = self.encoder.prefix
        hidden = torch.stack([h[:, prefix:].float() for h in encoded.hidden], 2)
        return hidden.cpu(), (encoded.lengths - prefix).cpu()


def units(data: Data) -> float:
    """What a batch of features may hold, in the units of `ordered_loader`."""
    if data.modality == "speech":
        return SECONDS * data.sample_rate
    return IMAGES if data.modality == "image" else TOKENS


class Reader:
    """Features of one source over a pool. An item is read once, however many tasks ask for it."""

    def __init__(self, source: Source, pool: Pool, kind: str):
        self.source, self.pool, self.kind = source, pool, kind
        self._items: Tensor | None = None  # [L, items read so far, D]
        self._slot = np.full(len(pool), -1)  # where among them an item is

    def __call__(self, part: Part, max_gb: float, progress: Progress) -> Tensor:
        """[L, M, D], a plane a layer and a row for each of the part's. Raises UserError above `max_gb`."""
        read = self._read_items if part.centres is None else self._read_frames
        return read(part, max_gb, progress)

    def _batches(self, places: np.ndarray, progress: Progress) -> Iterator[tuple[Batch, np.ndarray]]:
        """(batch, the place of each of its rows) until all `places` are read."""
        done = 0
        for split, indices, start in self.pool.located(places):
            for batch in ordered_loader(split, units(self.pool.data), indices=indices):
                yield batch, batch.index.numpy() + start
                done += len(batch)
                progress(f"{self.kind} features", done, len(places))

    def _read_items(self, part: Part, max_gb: float, progress: Progress) -> Tensor:
        missing = np.unique(part.items[self._slot[part.items] < 0])
        found, held = None, 0 if self._items is None else self._items.shape[1]
        for batch, at in self._batches(missing, progress):
            features = self._finite(self.source.items(batch), at).transpose(0, 1)
            if found is None:
                _check(held + len(missing), features[:, 0], max_gb)
                found = torch.empty(len(features), len(missing), features.shape[2])
            found[:, np.searchsorted(missing, at)] = features
        if found is not None:
            self._slot[missing] = held + np.arange(len(missing))
            self._items = found if self._items is None else torch.cat([self._items, found], 1)
        return self._items[:, self._slot[part.items]]

    def _read_frames(self, part: Part, max_gb: float, progress: Progress) -> Tensor:
        order = np.argsort(part.items, kind="stable")
        items, starts = np.unique(part.items[order], return_index=True)
        rows_of = dict(zip(items.tolist(), np.split(order, starts[1:]), strict=True))
        found = None
        for batch, at in self._batches(items, progress):
            tokens, lengths = self.source.tokens(batch)
            self._finite(tokens, at)
            if found is None:
                _check(len(part), tokens[0, 0], max_gb)
                found = torch.empty(tokens.shape[2], len(part), tokens.shape[3])
            for row, place in enumerate(at.tolist()):
                rows = rows_of[place]
                nearest = np.rint((part.centres[rows] - self.source.first) / self.source.stride)
                nearest = nearest.astype(np.int64).clip(0, max(int(lengths[row]) - 1, 0))
                found[:, rows] = tokens[row, nearest].transpose(0, 1)
        return found

    def _finite(self, features: Tensor, at: np.ndarray) -> Tensor:
        """[B, ...] as they are. Raises UserError, naming the first item whose features are not numbers."""
        bad = ~features.isfinite().flatten(1).all(1)
        if bad.any():
            name = self.pool.names()[at[int(bad.nonzero()[0])]]
            raise UserError(f"the {self.kind} features of {name} are not finite: the run diverged, or the item is bad")
        return features


def _check(rows: int, one: Tensor, max_gb: float) -> None:
    """Refuse what would not fit in memory; `one` row [L, D] says how large they are."""
    size = rows * one.numel() * 4 / 2**30
    if size > max_gb:
        raise UserError(
            f"{rows} features of {' x '.join(map(str, one.shape))} would take {size:.3g} GB, more than "
            f"probe.max_gb={max_gb:g} — set a smaller task.max_items or task.max_frames, or a larger limit"
        )


@dataclass
class Scale:
    """Each plane's mean and scale over train: one scale a dimension, or one for all of them."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor, apart: bool) -> "Scale":
        """From train's features [L, N, D]."""
        mean = x.mean(1, keepdim=True)
        std = x.std(1, correction=0, keepdim=True)
        shared = std.square().mean(2, keepdim=True).sqrt()
        # a dimension that hardly varies in train must not drown the others where it does in test
        std = std.maximum(1e-3 * shared) if apart else shared.expand_as(mean)
        return cls(mean, torch.where(std > 0, std, 1.0))

    def __call__(self, x: Tensor) -> Tensor:
        return x.sub_(self.mean).div_(self.std)
