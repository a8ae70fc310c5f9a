"""What a downstream task is: an objective whose targets are labels, and an evaluator."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.objectives.base import Objective


class TaskObjective(Objective):
    """An objective that learns `batch.targets["label"]` of a data set that says what its labels are: `data.task`, a
    `probe.tasks.Task`, and `data.classes`, their names. It trains like any other; that the encoder may be frozen is
    nothing that it knows of.

    kinds: the kinds of task that it is for. metric: the name of the score that validation chooses by; higher is better.
    """

    kinds: tuple[str, ...]
    metric: str

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """What its head says of each row of a batch, [B, …]; it reads no target."""
        raise NotImplementedError

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        """(name, value) of all that is measured over a split's batches, `metric` first. split: where they are from;
        `batch.index` are places in it. Encoder and task are in eval mode, and nothing takes a gradient."""
        raise NotImplementedError

    def predict(self, encoder: nn.Module, batch: Batch) -> list:
        """What it says of each row of a batch: the number of a class, a value, or one of these a token."""
        raise NotImplementedError

    def chance(self, train: Any, test: Any) -> float:
        """The score on `test` of one who knows of each label how frequent it is in `train`, and nothing of the items."""
        raise NotImplementedError
