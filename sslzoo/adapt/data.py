"""A data set with the labels of one task, for training a downstream objective."""

from functools import cached_property, partial

import numpy as np

from sslzoo.adapt.diarized import diarized
from sslzoo.adapt.items import LabelledItems, TaggedItems
from sslzoo.adapt.prepared import Prepared
from sslzoo.adapt.several import several_classes
from sslzoo.adapt.transcripts import encoded_transcripts
from sslzoo.adapt.trials import verification
from sslzoo.data.base import Data, Split, WrappedData
from sslzoo.data.mixture import Mixture
from sslzoo.data.question_windows import QuestionWindows
from sslzoo.errors import UserError
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Task, TaskData

PREPARE = {  # by kind of task
    "transcripts": encoded_transcripts,
    "classes": several_classes,
    "verification": verification,
    "diarization": diarized,
}


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
        if self.task.kind in PREPARE:
            return self.prepared.classes
        if self.task.kind == "answers":
            return ["answer", "none"] if any(not one.answers for one in self.split("train").questions) else ["answer"]
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
    def prepared(self) -> Prepared:
        """Parts, labels and classes of a task of a kind in `PREPARE`."""
        prepared = PREPARE[self.task.kind](self.task, self.pool, self.stride)
        self._check(prepared.classes)
        return prepared

    def cut_texts(self, part: str) -> int:
        """How many texts of a part were truncated, being longer than the encoder's input."""
        if self.task.kind == "answers":
            return self.split(part).cut_questions
        return int(getattr(self.pool.splits[part], "cut_texts", 0))

    def left_out(self, part: str) -> int:
        """How many items of a part are left out: questions whose answer is not at its given position, utterances whose
        transcript has unknown symbols."""
        if self.task.kind in PREPARE:
            return self.prepared.left_out.get(part, 0)
        return self.split(part).left_out if self.task.kind == "answers" else 0

    def _check(self, classes: list[str] | None) -> None:
        if self._classes is not None:
            check_learned(self.task.name, classes, self._classes)

    def split(self, name: str) -> Split:
        if self.task.kind == "answers":
            if name not in self._windows:
                self._windows[name] = self.data.windows(name, partial(self.task.some_items, name))
            return self._windows[name]
        if self.task.kind in PREPARE:
            return self.prepared.split(name, *self._located(self.prepared.parts[name]))
        if self.task.kind == "frames":
            label, parts, classes, _ = self.tags
            rate = None if self.data.modality == "text" else self.pool.rate
            return TaggedItems(*self._located(parts[name]), label, classes, self.stride, rate)
        part = self.task_data.parts[name]
        if not (self.task.balanced and name == "train"):
            return LabelledItems(*self._located(part.items), part.labels)
        order = np.argsort(part.labels, kind="stable")  # a mixture's sets are the classes, one after the other
        split = LabelledItems(*self._located(part.items[order]), part.labels[order])
        split.names.parts = self.classes
        split.mixture = Mixture.of(np.bincount(part.labels), 0.0)
        return split

    def labelled_items(self, part: str) -> LabelledItems:
        """A part of a task about items: its `split`."""
        split = self.split(part)
        assert isinstance(split, LabelledItems)
        return split

    def _located(self, items: np.ndarray) -> tuple[list[Split], np.ndarray, np.ndarray]:
        """(the data's splits, the split's index [M], the index in it [M]) of places [M] in the pool."""
        order = list(self.pool.splits)
        number = {split: i for i, split in enumerate(order)}
        source = np.array([number[split] for split in self.pool.part[items]], np.int64)
        places = items - np.array([self.pool.starts[split] for split in order])[source]
        return list(self.pool.splits.values()), source, places


def check_learned(task: str, classes: list[str] | None, learned: list[str] | None) -> None:
    """Raise UserError if the classes of the data, names by number, are not those that a head has learned."""
    if classes != learned:
        raise UserError(
            f"task {task}: the labels of this data are {_some(classes)}, and those that were learned {_some(learned)}: "
            "name the data that it learned from, or train another head with another name=…"
        )


def _some(classes: list[str] | None) -> str:
    classes = classes or ["numbers"]
    return ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
