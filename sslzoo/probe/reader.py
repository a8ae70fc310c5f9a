"""Reading frozen features of items and frames from a source, each item once, and standardising them on train."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import Batch
from sslzoo.data.loader import ordered_loader
from sslzoo.errors import UserError
from sslzoo.features.frozen import Source, units
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Part
from sslzoo.progress import Progress


class Reader:
    """Features of one source over a pool. Items' features are kept, so that several tasks read an item once."""

    def __init__(self, source: Source, pool: Pool, kind: str):
        self.source, self.pool, self.kind = source, pool, kind
        self._items: Tensor | None = None  # [L, items read so far, D]
        self._slot = np.full(len(pool), -1)  # each item's index in _items, -1 before it is read

    def __call__(self, part: Part, max_gb: float, progress: Progress) -> Tensor:
        """[L, M, D]: a plane per layer, a row per row of the part. Raises UserError above `max_gb` GB."""
        read = self._read_items if part.centres is None else self._read_frames
        return read(part, max_gb, progress)

    def _batches(self, places: np.ndarray, progress: Progress) -> Iterator[tuple[Batch, np.ndarray]]:
        """Yield (batch, the place in the pool of each of its rows) until all `places` are read."""
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
                check_size(held + len(missing), features[:, 0].shape, max_gb)
                found = torch.empty(len(features), len(missing), features.shape[2])
            found[:, np.searchsorted(missing, at)] = features
        if found is not None:
            self._slot[missing] = held + np.arange(len(missing))
            self._items = found if self._items is None else torch.cat([self._items, found], 1)
        return self._items[:, self._slot[part.items]]

    def _read_frames(self, part: Part, max_gb: float, progress: Progress) -> Tensor:
        found = None
        for batch, at, placed in self._frames(part, progress):
            tokens, lengths = self.source.tokens(batch)
            self._finite(tokens, at)
            if found is None:
                check_size(len(part), tokens[0, 0].shape, max_gb)
                found = torch.empty(tokens.shape[2], len(part), tokens.shape[3])
            for row, rows in enumerate(placed):
                found[:, rows] = tokens[row, self._nearest(part.centres[rows], int(lengths[row]))].transpose(0, 1)
        return found

    def _frames(self, part: Part, progress: Progress) -> Iterator[tuple[Batch, np.ndarray, list[np.ndarray]]]:
        """Yield (batch, the place in the pool of each of its items, the part's rows that are frames of each)."""
        order = np.argsort(part.items, kind="stable")
        items, starts = np.unique(part.items[order], return_index=True)
        rows_of = dict(zip(items.tolist(), np.split(order, starts[1:]), strict=True))
        for batch, at in self._batches(items, progress):
            yield batch, at, [rows_of[place] for place in at.tolist()]

    def _nearest(self, centres: np.ndarray, length: int) -> np.ndarray:
        """The index of the token nearest to each centre, below `length`. centres: in samples or tokens."""
        nearest = np.rint((centres - self.source.first) / self.source.stride)
        return nearest.astype(np.int64).clip(0, max(length - 1, 0))

    def _finite(self, features: Tensor, at: np.ndarray) -> Tensor:
        """Return features [B, ...] unchanged. Raises UserError, naming the first item with non-finite features."""
        bad = ~features.isfinite().flatten(1).all(1)
        if bad.any():
            name = self.pool.names()[at[int(bad.nonzero()[0])]]
            raise UserError(f"the {self.kind} features of {name} are not finite: the run diverged, or the item is bad")
        return features


def check_size(rows: int, shape: Sequence[int], max_gb: float) -> None:
    """Raise UserError if `rows` rows of this shape [L, D] would take more than `max_gb`."""
    size = rows * math.prod(shape) * 4 / 2**30
    if size > max_gb:
        raise UserError(
            f"{rows} features of {' x '.join(map(str, shape))} would take {size:.3g} GB, more than "
            f"probe.max_gb={max_gb:g} — set a smaller task.max_items or task.max_frames, or a larger limit"
        )


@dataclass
class Scale:
    """Each plane's mean and scale over train: one scale per dimension, or one shared by all."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor, per_dimension_scale: bool) -> "Scale":
        """From train's features [L, N, D]."""
        mean = x.mean(1, keepdim=True)
        std = x.std(1, correction=0, keepdim=True)
        shared = std.square().mean(2, keepdim=True).sqrt()
        # a dimension that hardly varies in train must not dominate the others if it varies in test
        std = std.maximum(1e-3 * shared) if per_dimension_scale else shared.expand_as(mean)
        return cls(mean, torch.where(std > 0, std, 1.0))

    def __call__(self, x: Tensor) -> Tensor:
        return x.sub_(self.mean).div_(self.std)
