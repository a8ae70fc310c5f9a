"""Reading an encoder's features through the cache, so that tasks, commands and restarts share one pass."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import Split
from sslzoo.data.content import digest_of
from sslzoo.data.loader import batch_loader, ordered_batches
from sslzoo.features.frozen import Frozen, units
from sslzoo.features.identity import code_hash, encoder_hash
from sslzoo.features.store import FeatureCache, Rows
from sslzoo.probe.reader import Reader, check_size
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Part
from sslzoo.progress import Progress

Batches = list[list[int]]  # of items of a split


class StoredReader(Reader):
    """As `Reader`, of an encoder, with its features in a cache, where other tasks and commands find them.

    A quarter of a split's items or more are read as part of one pass over the split, which other tasks share; fewer, as
    an entry of their own. Which it is, and the batches, depend on the task's items alone: features are the same to the
    bit whether they were kept, computed at once, or computed by a pass that was killed and went on.
    """

    source: Frozen

    def __init__(self, source: Frozen, pool: Pool, kind: str, cache: FeatureCache):
        super().__init__(source, pool, kind)
        self.cache = cache
        self._depends: dict | None = None  # what every entry depends on; hashed at the first read
        self._opened: dict[str, Rows] = {}

    def _read_items(self, part: Part, max_gb: float, progress: Progress) -> Tensor:
        found = None
        places, inverse = np.unique(part.items, return_inverse=True)
        for split, indices, start in self.pool.located(places):
            whole = 4 * len(indices) >= len(split)
            chosen = np.arange(len(split)) if whole else indices
            rows = self._rows("items", len(chosen), self.pool.content(split, None if whole else indices, progress))
            self._fill_items(rows, split, chosen, start, len(part), max_gb, progress)
            assert rows.layers is not None and rows.shape is not None
            self.source.has_layers(rows.layers)
            if found is None:
                found = torch.empty(rows.shape[0], len(places), rows.shape[1])
            at = np.searchsorted(places, indices + start)
            found[:, at] = torch.from_numpy(rows.get(np.searchsorted(chosen, indices))).transpose(0, 1)
        assert found is not None  # a part has items
        return found[:, inverse]

    def _fill_items(
        self, rows: Rows, split: Split, chosen: np.ndarray, start: int, size: int, max_gb: float, progress: Progress
    ) -> None:
        """Compute the rows of `chosen` items of a split that are not kept. start: the split's first place in the pool.
        size: of the part that is read."""
        if rows.shape is not None:
            check_size(size, rows.shape, max_gb)
        with self.cache.lock(rows):
            missing = np.zeros(len(split), bool)
            missing[chosen[rows.missing(np.arange(len(chosen)))]] = True
            for batch in self._planned(split, chosen, missing, progress):
                at = batch.index.numpy()
                features = self._finite(self.source.items(batch), at + start)
                check_size(size, features[0].shape, max_gb)
                order = np.argsort(at)
                rows.put(np.searchsorted(chosen, at[order]), features[torch.from_numpy(order)], self.source.layers)

    def _planned(self, split: Split, items: np.ndarray, missing: np.ndarray, progress: Progress) -> Iterator:
        """The batches of a pass over `items` that have one that is missing."""
        plan = ordered_batches(split.lengths, items, units(self.pool.data))
        left: Batches = [batch for batch in plan if missing[batch].any()]
        total, done = len(items), len(items) - sum(map(len, left))
        for batch in batch_loader(split, left):
            yield batch
            done += len(batch)
            progress(f"{self.kind} features", done, total)

    def _read_frames(self, part: Part, max_gb: float, progress: Progress) -> Tensor:
        centres = part.centres
        assert centres is not None
        order = np.argsort(part.items, kind="stable")
        items, starts = np.unique(part.items[order], return_index=True)
        rows_of = dict(zip(items.tolist(), np.split(order, starts[1:]), strict=True))
        content = [self.pool.content(split, at, progress) for split, at, _ in self.pool.located(items)]
        rows = self._rows("frames", len(part), *content, part.items - part.items.min(), centres)
        if rows.shape is not None:
            check_size(len(part), rows.shape, max_gb)
        self.source.has_layers([name for name in self.source.layers if name != "pooled"])
        with self.cache.lock(rows):
            lacking = np.zeros(len(self.pool), bool)
            lacking[part.items[rows.missing(np.arange(len(part)))]] = True
            for split, at, start in self.pool.located(items):
                for batch in self._planned(split, at, lacking[start : start + len(split)], progress):
                    tokens, lengths = self.source.tokens(batch)
                    places = batch.index.numpy() + start
                    self._finite(tokens, places)
                    check_size(len(part), tokens[0, 0].shape, max_gb)
                    for row, place in enumerate(places.tolist()):
                        mine = rows_of[place]
                        nearest = self._nearest(centres[mine], int(lengths[row]))
                        rows.put(mine, tokens[row, nearest], self.source.layers)
        return torch.from_numpy(rows.get(np.arange(len(part)))).transpose(0, 1)

    def _rows(self, what: str, count: int, *content: np.ndarray) -> Rows:
        if self._depends is None:
            self._depends = {
                "encoder": encoder_hash(self.source.encoder),
                "class": type(self.source.encoder).__name__,
                "code": code_hash(self.source.encoder),
                "device": self.source.device.type,
                "precision": "float32",
            }
        data = digest_of(np.concatenate([_numbers(x) for x in content]))
        about = {**self._depends, "what": what, "data": data, "batch": units(self.pool.data)}
        if data not in self._opened:
            self._opened[data] = self.cache.opened(about, count)
        return self._opened[data]


def _numbers(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, np.float64).view(np.uint64) if x.dtype.kind == "f" else x.astype(np.uint64)
