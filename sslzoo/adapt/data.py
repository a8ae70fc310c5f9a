"""A data set with the labels of one task, for training a downstream objective."""

from collections.abc import Callable
from functools import cached_property

from sslzoo.adapt.diarized import diarized
from sslzoo.adapt.items import LabelledItems
from sslzoo.adapt.labelled import labelled
from sslzoo.adapt.prepared import PooledItems, Prepared
from sslzoo.adapt.questions import Questions
from sslzoo.adapt.several import several_classes
from sslzoo.adapt.tagged import tagged
from sslzoo.adapt.transcripts import encoded_transcripts
from sslzoo.adapt.trials import verification
from sslzoo.data.base import Data, Split, WrappedData
from sslzoo.errors import UserError
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Task

PREPARE: dict[str, Callable[[Task, Data, int], Prepared]] = {  # by kind of task
    "classification": labelled,
    "regression": labelled,
    "frames": tagged,
    "answers": Questions,
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

    @property
    def classes(self) -> list[str] | None:
        """Names by number; None for a regression. For transcripts: the symbols. For several columns: "column=class".
        For questions: ["answer"], and "none" if some of train have none."""
        return self.prepared.classes if self._classes is None else self._classes

    @cached_property
    def prepared(self) -> Prepared:
        """The task's parts and labels."""
        prepared = PREPARE[self.task.kind](self.task, self.data, self.stride)
        if self._classes is not None and isinstance(prepared, PooledItems):  # a head for answers fits any questions
            check_learned(self.task.name, prepared.classes, self._classes)
        return prepared

    @property
    def unseen(self) -> list[str]:
        """The classes that occur in validation or test but not in train."""
        return self.prepared.unseen

    def left_out(self, part: str) -> int:
        """How many items of a part are left out: questions whose answer is not at its given position, utterances whose
        transcript has unknown symbols."""
        return self.prepared.left_out(part)

    def cut_texts(self, part: str) -> int:
        """How many texts of a part were truncated, being longer than the encoder's input."""
        return self.prepared.cut_texts(part)

    def split(self, name: str) -> Split:
        return self.prepared.split(name)

    @property
    def pooled(self) -> PooledItems:
        """`prepared`, of a task about items."""
        assert isinstance(self.prepared, PooledItems)
        return self.prepared

    @property
    def pool(self) -> Pool:
        """All splits of the data, of a task about items."""
        return self.pooled.pool

    def labelled_items(self, part: str) -> LabelledItems:
        """A part of a task about items: its `split`."""
        split = self.split(part)
        assert isinstance(split, LabelledItems)
        return split


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
