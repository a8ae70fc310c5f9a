"""A data set with the labels of one task: what a downstream objective is trained on."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import Data, Split, WrappedData
from sslzoo.errors import UserError
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Task, TaskData


class SupervisedSplit(Split):
    """Items of one or several splits, with a label each: `targets["label"]`, an int64 or a float32 a row.

    splits: where the items lie. source: [M], which of the splits an item is of. places: [M], its place in there.
    labels: [M].
    """

    def __init__(self, splits: list[Split], source: np.ndarray, places: np.ndarray, labels: np.ndarray):
        self.splits, self.source, self.places = splits, source, places
        self.labels = labels.astype(np.int64 if labels.dtype.kind in "iu" else np.float32)
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

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        return {"label": torch.tensor(self.labels[index])}


class Names(Sequence):
    """What a `SupervisedSplit`'s items are called where they lie."""

    def __init__(self, split: SupervisedSplit):
        self.split = split

    def __len__(self) -> int:
        return len(self.split.places)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        split, place = self.split.located(index)
        return split.names[place]


class Supervised(WrappedData):
    """A data set with a task's labels, parts and classes: in all else the data set itself, which is opened when the
    first split, or the classes, are asked for. stride: of the encoder.

    classes: names by number, of a head that was trained; data with others are then refused. None for the data's own.
    """

    def __init__(self, data: Data, task: Task, stride: int, classes: list[str] | None = None):
        super().__init__(data)
        self.task, self.stride = task, stride
        self._classes = classes

    @property
    def classes(self) -> list[str]:
        return self.task_data.classes if self._classes is None else self._classes

    @cached_property
    def pool(self) -> Pool:
        return Pool(self.data)

    @cached_property
    def task_data(self) -> TaskData:
        task_data = self.task.prepare(self.pool, self.stride)
        if self._classes is not None and task_data.classes != self._classes:
            raise UserError(
                f"task {self.task.name}: the labels of this data are {_some(task_data.classes)}, and those that were "
                f"learned {_some(self._classes)}"
            )
        return task_data

    def split(self, name: str) -> SupervisedSplit:
        part, order = self.task_data.parts[name], list(self.pool.splits)
        number = {split: i for i, split in enumerate(order)}
        source = np.array([number[split] for split in self.pool.part[part.items]], np.int64)
        places = part.items - np.array([self.pool.starts[split] for split in order])[source]
        return SupervisedSplit(list(self.pool.splits.values()), source, places, part.labels)


def _some(classes: list[str]) -> str:
    return ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
