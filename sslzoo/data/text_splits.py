"""Splits of token ids: short texts, one per item, or one long text in blocks."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.data.base import CLS, SEP, Intervals, Split
from sslzoo.data.stored import digest
from sslzoo.data.token_store import RaggedIntervals, StringColumns, Strings, open_arrays, row_starts
from sslzoo.errors import UserError


class TextSplit(Split):
    """Items of token ids, each int64 [T] with [CLS] and [SEP].

    ids [M]: all items concatenated. starts [N + 1]: their offsets. The arrays may be memory-mapped files (see
    `token_store`), which are not copied and pickle as paths. cut_texts: number of truncated items. hashes [N]: of
    their texts (see `duplicates.text_hashes`), or None.
    """

    cut_texts = 0
    hashes: np.ndarray | None = None

    def __init__(
        self,
        ids: np.ndarray,
        starts: np.ndarray,
        names: Sequence[str],
        columns: Mapping[str, np.ndarray] | None = None,
        intervals: dict[str, Sequence[Intervals]] | None = None,
    ):
        self.ids, self.starts, self.names = ids, starts, names
        self.columns, self.intervals = columns or {}, intervals or {}

    @classmethod
    def open(cls, folder: Path) -> "TextSplit":
        """Open a folder written by `write`, memory-mapped."""
        arrays = open_arrays(folder)
        columns = {name: x for name, x in arrays.items() if name.startswith(("column.", "kinds.", "kind_starts."))}
        intervals = {}
        for name in arrays:
            kind, _, rest = name.partition(".")
            if kind == "interval_starts":
                parts = (arrays[f"{part}.{rest}"] for part in ("interval_starts", "interval_start", "interval_end"))
                intervals[rest] = RaggedIntervals(*[*parts, arrays[f"interval_label.{rest}"]])
        names = Strings(arrays["names"], arrays["name_starts"])
        split = cls(arrays["ids"], arrays["starts"], names, StringColumns(columns), intervals)
        split.cut_texts, split.hashes = int(arrays.get("cut_texts", 0)), arrays.get("hashes")
        return split

    @staticmethod
    def write(
        folder: Path,
        ids: Iterable[np.ndarray],
        dtype: type,
        names: Sequence[str],
        columns: dict[str, np.ndarray],
        intervals: dict[str, Sequence[Intervals]] | None = None,
    ) -> None:
        """Write items to a folder for `open`. ids: an array [T] for each item."""
        lengths, parts = [], []
        for item in ids:
            lengths.append(len(item))
            parts.append(item.astype(dtype))
        arrays = {"ids": np.concatenate([*parts, np.zeros(0, dtype)]), "starts": row_starts(lengths)}
        arrays["names"], arrays["name_starts"] = Strings.pack(names)
        arrays |= StringColumns.pack(columns)
        for name, stretches in (intervals or {}).items():
            arrays[f"interval_starts.{name}"] = row_starts([len(x.label) for x in stretches])
            for part in ("start", "end", "label"):
                arrays[f"interval_{part}.{name}"] = np.concatenate([getattr(x, part) for x in stretches])
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values, allow_pickle=False)

    @property
    def tokens(self) -> np.ndarray:
        """All ids [M], with [CLS] and [SEP]."""
        return self.ids

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        return torch.from_numpy(np.array(self.ids[self.starts[index] : self.starts[index + 1]], np.int64))

    def stamp(self) -> str | None:
        return digest(np.asarray(self.ids), np.asarray(self.starts))

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "lengths"}


class BlockNames(Sequence):
    """Names of `count` blocks of a text, made on access."""

    def __init__(self, text: str, count: int):
        self.text, self.count = text, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.count))]
        return f"{self.text}, block {range(self.count)[index]}"


class TextBlocks(Split):
    """One long text in blocks of `max_tokens`, each between [CLS] and [SEP] if `wrap`.

    stream: the ids [N] of the text, in memory or memory-mapped (not copied). moving: in training, shift each block by
    a random offset of less than a block, so that epochs cut the text differently. The remainder after the last whole
    block is dropped; a text shorter than a block is one block. Raises UserError for an empty text.
    """

    cut_texts = 0

    def __init__(self, stream: np.ndarray, max_tokens: int, wrap: bool, name: str, moving: bool = True):
        if not len(stream):
            raise UserError(f"{name} has no text")
        self.stream, self.wrap, self.moving = stream, wrap, moving
        self.room = min(max_tokens - 2 * wrap, len(stream))
        self.names = BlockNames(name, len(stream) // self.room)
        self.columns, self.intervals = {}, {}

    @property
    def tokens(self) -> np.ndarray:
        """All ids [M]."""
        return self.stream

    @property
    def lengths(self) -> np.ndarray:
        """[N], broadcast from a single number."""
        return np.broadcast_to(np.int64(self.room + 2 * self.wrap), len(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        start = index * self.room
        if seed is not None and self.moving:
            start = min(start + rng.derive_seed(seed, "cut") % self.room, len(self.stream) - self.room)
        ids = torch.from_numpy(np.array(self.stream[start : start + self.room], np.int64))
        return torch.cat([torch.tensor([CLS]), ids, torch.tensor([SEP])]) if self.wrap else ids
