"""A data set with the labels of one task, for training a downstream objective."""

from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from sslzoo.adapt.several import several_classes
from sslzoo.adapt.transcripts import encoded_transcripts
from sslzoo.data.base import Data, Split, WrappedData
from sslzoo.data.loader import IGNORE
from sslzoo.data.mixture import Mixture
from sslzoo.data.question_windows import QuestionWindows
from sslzoo.errors import UserError
from sslzoo.features.intervals import labels_at
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Task, TaskData


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
    """The names of a `SupervisedSplit`'s items in their own splits."""

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
    """A data set with a task's labels, parts and classes; otherwise the wrapped data set, which is opened when a split
    or the classes are first needed. stride: of the encoder.

    classes: names by number, of a trained head; UserError if the data has others. None for the data's own.
    """

    def __init__(self, data: Data, task: Task, stride: int, classes: list[str] | None = None):
        super().__init__(data)
        self.task, self.stride = task, stride
        self._classes = classes
        self._windows: dict[str, QuestionWindows] = {}

    @property
    def classes(self) -> list[str] | None:
        """Names by number; None for a regression. For transcripts: the symbols. For several columns: "column=class". For
        questions: ["answer"], and "none" if some of train have none."""
        if self._classes is not None or self.task.kind == "regression":
            return self._classes
        if self.task.kind == "transcripts":
            return self.task.symbols.names
        if self.task.kind == "answers":
            return ["answer", "none"] if any(not one.answers for one in self.split("train").questions) else ["answer"]
        if self.task.kind == "classes":
            return self.several[2]
        return self.tags[2] if self.task.kind == "frames" else self.task_data.classes

    @property
    def unseen(self) -> list[str]:
        """The classes that occur in validation or test but not in train."""
        return self.tags[3] if self.task.kind == "frames" else []

    @cached_property
    def pool(self) -> Pool:
        return Pool(self.data)

    @cached_property
    def task_data(self) -> TaskData:
        """Labels and parts of a task about items."""
        task_data = self.task.prepare(self.pool, self.stride)
        self._check(task_data.classes)
        return task_data

    @cached_property
    def tags(self) -> tuple[str, dict[str, np.ndarray], list[str], list[str]]:
        """Labels and parts of a task about frames: see `Task.prepare_tags`."""
        tags = self.task.prepare_tags(self.pool)
        self._check(tags[2])
        return tags

    @cached_property
    def transcripts(self) -> tuple[dict[str, np.ndarray], dict[int, np.ndarray], dict[str, int]]:
        """Parts and symbols of a task about transcripts: see `encoded_transcripts`."""
        return encoded_transcripts(self.task, self.pool)

    @cached_property
    def several(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
        """Parts, labels and classes of a task about several label columns: see `several_classes`."""
        return several_classes(self.task, self.pool)

    def cut_texts(self, part: str) -> int:
        """How many texts of a part were truncated, being longer than the encoder's input."""
        if self.task.kind == "answers":
            return self.split(part).cut_questions
        return int(getattr(self.pool.splits[part], "cut_texts", 0))

    def left_out(self, part: str) -> int:
        """How many items of a part are left out: questions whose answer is not at its given position, utterances whose
        transcript has unknown symbols."""
        if self.task.kind == "transcripts":
            return self.transcripts[2][part]
        return self.split(part).left_out if self.task.kind == "answers" else 0

    def _check(self, classes: list[str] | None) -> None:
        if self._classes is not None and classes != self._classes:
            raise UserError(
                f"task {self.task.name}: the labels of this data are {_some(classes or ['numbers'])}, and those that were "
                f"learned {_some(self._classes)}"
            )

    def split(self, name: str) -> Split:
        if self.task.kind == "answers":
            if name not in self._windows:
                self._windows[name] = self.data.windows(name, partial(self.task.some_items, name))
            return self._windows[name]
        if self.task.kind == "transcripts":
            places, encoded, _ = self.transcripts
            return TranscribedItems(*self._located(places[name]), [encoded[i] for i in places[name].tolist()])
        if self.task.kind == "classes":
            places, numbers, _ = self.several
            return LabelledItems(*self._located(places[name]), numbers[name])
        if self.task.kind == "frames":
            label, parts, classes, _ = self.tags
            rate = None if self.data.modality == "text" else self.pool.rate
            return TaggedItems(*self._located(parts[name]), label, classes, self.stride, rate)
        part = self.task_data.parts[name]
        if not (self.task.balanced and name == "train"):
            return LabelledItems(*self._located(part.items), part.labels)
        order = np.argsort(part.labels, kind="stable")  # a mixture's sets are the classes, one after the other
        split = LabelledItems(*self._located(part.items[order]), part.labels[order])
        split.mixture = Mixture.of(np.bincount(part.labels), 0.0)
        return split

    def _located(self, items: np.ndarray) -> tuple[list[Split], np.ndarray, np.ndarray]:
        """(the data's splits, the split's index [M], the index in it [M]) of places [M] in the pool."""
        order = list(self.pool.splits)
        number = {split: i for i, split in enumerate(order)}
        source = np.array([number[split] for split in self.pool.part[items]], np.int64)
        places = items - np.array([self.pool.starts[split] for split in order])[source]
        return list(self.pool.splits.values()), source, places


def _some(classes: list[str]) -> str:
    return ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
