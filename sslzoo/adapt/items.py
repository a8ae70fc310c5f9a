"""Items with the labels of a task, as splits."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import Split
from sslzoo.data.loader import IGNORE
from sslzoo.features.intervals import labels_at


class SupervisedSplit(Split):
    """Items of one or several splits, each with a task's label as `targets["label"]`.

    splits: the splits with the items. source: [M], the index of each item's split. places: [M], its index in there.
    """

    def __init__(self, splits: list[Split], source: np.ndarray, places: np.ndarray):
        self.splits, self.source, self.places = splits, source, places
        self.columns, self.intervals, self.on_error = {}, {}, splits[0].on_error
        self.lengths, self._cut_lengths = self._gathered("lengths"), self._gathered("cut_lengths")
        self.names = Names(self)

    def _gathered(self, what: str) -> np.ndarray:
        """[M], a property of each item."""
        found = np.empty(len(self.places), np.int64)
        for number, split in enumerate(self.splits):
            mine = self.source == number
            found[mine] = getattr(split, what)[self.places[mine]]
        return found

    def located(self, index: int) -> tuple[Split, int]:
        return self.splits[self.source[index]], int(self.places[index])

    @property
    def cut_lengths(self) -> np.ndarray:
        return self._cut_lengths

    def align(self, grain: int) -> None:
        self.grain = grain
        for split in self.splits:
            split.align(grain)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        split, place = self.located(index)
        return split.read(place, seed)

    def window(self, index: int, seed: int | None) -> tuple[int, int]:
        split, place = self.located(index)
        return split.window(place, seed)


class LabelledItems(SupervisedSplit):
    """Items with one label each, or K: labels [M] or [M, K], int64 or float32."""

    def __init__(self, splits: list[Split], source: np.ndarray, places: np.ndarray, labels: np.ndarray):
        super().__init__(splits, source, places)
        self.labels = labels.astype(np.int64 if labels.dtype.kind in "iu" else np.float32)

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        return {"label": torch.tensor(self.labels[index])}


class TaggedItems(SupervisedSplit):
    """Items with one label per token, int64 [T]. Text: a word's label is at its first piece, its other pieces have
    IGNORE. Speech: each frame has the label at its middle.

    label: the name of the time-aligned labels. classes: the classes to learn, by number. stride: samples between
    frames. rate: samples per second, None for text.
    """

    def __init__(
        self, splits: list[Split], source: np.ndarray, places: np.ndarray, label: str, classes: list[str],
        stride: int, rate: int | None,
    ):  # fmt: skip
        super().__init__(splits, source, places)
        self.label, self.stride, self.rate = label, stride, rate
        self.number = {name: i for i, name in enumerate(classes)}

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        split, place = self.located(index)
        found, (start, stop) = split.intervals[self.label][place], split.window(place, seed)
        if self.rate is None:
            numbers = np.full(stop - start, IGNORE, np.int64)
            first = np.asarray(found.start).astype(np.int64) - start
            here = (first >= 0) & (first < stop - start)
            numbers[first[here]] = self._numbers(np.asarray(found.label)[here])
        else:
            middles = start + (np.arange(max(1, (stop - start) // self.stride)) + 0.5) * self.stride
            numbers = self._numbers(labels_at(middles / self.rate, found))
        return {"label": torch.from_numpy(numbers)}

    def _numbers(self, names: np.ndarray) -> np.ndarray:
        return np.array([self.number.get(str(name), IGNORE) for name in names], np.int64)

    @cached_property
    def label_numbers(self) -> np.ndarray:
        """The class numbers of all labelled words or frames of all items, concatenated."""
        numbers = np.concatenate([self.targets(i)["label"].numpy() for i in range(len(self))])
        return numbers[numbers != IGNORE]


class TranscribedItems(SupervisedSplit):
    """Items with a transcript each. encoded: the symbols of each, [M] of int64 [L]."""

    def __init__(self, splits: list[Split], source: np.ndarray, places: np.ndarray, encoded: list[np.ndarray]):
        super().__init__(splits, source, places)
        self.encoded = encoded

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        return {"label": torch.from_numpy(self.encoded[index])}


class Names(Sequence):
    """The names of a `SupervisedSplit`'s items in their own splits. parts: of a mixture, the names of its sets."""

    parts: Sequence[str] = ()

    def __init__(self, split: SupervisedSplit):
        self.split = split

    def __len__(self) -> int:
        return len(self.split.places)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        split, place = self.split.located(index)
        return split.names[place]
