"""Packs several documents into one row to reduce padding (Krell et al. 2021, 2107.02027). Unlike in RoBERTa and GPT,
attention does not cross documents."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import Split
from sslzoo.data.text_splits import TextSplit
from sslzoo.data.token_store import open_arrays, row_starts, stored

_VERSION = 1  # of the cached format: increasing it invalidates old caches


class PackedSplit(Split):
    """Rows that concatenate several items of a text split. Each item begins with [CLS], by which an encoder separates
    them (`encoders.text.WordPieces.packed`). Labels of items are dropped.

    order int64 [N]: the items, row by row. starts int64 [R + 1]: offset of each row in it.
    """

    def __init__(self, split: TextSplit, order: np.ndarray, starts: np.ndarray, room: int):
        self.split, self.order, self.starts, self.room = split, order, starts, room
        self.names = PackedNames(split.names, order, starts)
        self.columns, self.intervals = {}, {}
        ends = np.concatenate([[0], np.cumsum(np.asarray(split.lengths)[order])])
        self.lengths = np.diff(ends[starts])

    @classmethod
    def open(cls, split: TextSplit, room: int, name: str) -> "PackedSplit":
        """The rows of a split, read from the cache or written to it. name: a hash of the split's content."""
        found = open_arrays(stored(f"packed-{_VERSION}-{room}-{name}", partial(_write, split, room)))
        return cls(split, found["order"], found["starts"], room)

    @property
    def documents(self) -> int:
        return len(self.order)

    @property
    def full(self) -> float:
        """The share of `room` that is tokens, over all rows."""
        return float(self.lengths.sum()) / (len(self) * self.room)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        return torch.cat([self.split.read(int(i)) for i in self.order[self.starts[index] : self.starts[index + 1]]])


class PackedNames(Sequence):
    """Names of rows of several items, made on access."""

    def __init__(self, names: Sequence[str], order: np.ndarray, starts: np.ndarray):
        self.names, self.order, self.starts = names, order, starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        first, more = int(self.starts[index]), int(self.starts[index + 1] - self.starts[index] - 1)
        return self.names[int(self.order[first])] + (f" and {more} more" if more else "")


def fitted(lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack items into rows of at most `room` tokens: order int64 [N], and row offsets in it, int64 [R + 1].

    Best-fit decreasing: longest items first, each into the open row with the least room left that fits. A function of
    the lengths alone. The room left in open rows is a bit set in one integer, so no search is needed.
    """
    open_rows: list[list[int]] = [[] for _ in range(room + 1)]  # by the room left
    rooms = 0
    row_of = np.empty(len(lengths), np.int64)
    count, longest_first = 0, np.argsort(-lengths, kind="stable")
    for item, length in zip(longest_first.tolist(), lengths[longest_first].tolist(), strict=True):
        fits = rooms >> length
        if fits:
            left = length + (fits & -fits).bit_length() - 1
            row = open_rows[left].pop()
            if not open_rows[left]:
                rooms &= ~(1 << left)
        else:
            left, row, count = room, count, count + 1
        row_of[item] = row
        if left > length:
            open_rows[left - length].append(row)
            rooms |= 1 << (left - length)
    order = np.argsort(row_of, kind="stable")
    return order, row_starts(np.bincount(row_of, minlength=count))


def _write(split: TextSplit, room: int, folder: Path) -> None:
    order, starts = fitted(np.asarray(split.lengths), room)
    np.save(folder / "order.npy", order, allow_pickle=False)
    np.save(folder / "starts.npy", starts, allow_pickle=False)
