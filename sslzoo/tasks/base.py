"""The base class of downstream tasks: an objective whose targets are labels, with an evaluator."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.objectives.base import Objective


class TaskObjective(Objective):
    """An objective that predicts `batch.targets["label"]`. Its data set has `task`, a `probe.tasks.Task`, and
    `classes`, the labels' names. It does not depend on whether the encoder is frozen.

    kinds: the kinds of task that it supports. metric: the score that validation maximises, higher is better.
    """

    kinds: tuple[str, ...]
    metric: str

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """The head's output for each row of a batch [B, …], without reading targets."""
        raise NotImplementedError

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        """Yield (name, value) of each score over a split's batches, `metric` first. split: the batches' split, which
        `batch.index` refers to. Called in eval mode without gradients."""
        raise NotImplementedError

    def predict(self, encoder: nn.Module, batch: Batch) -> list:
        """The prediction for each row of a batch: a class number, a value, or a list of class numbers (per token)."""
        raise NotImplementedError

    def chance(self, train: Any, test: Any) -> float:
        """The score on `test` of a constant prediction chosen from the labels of `train`."""
        raise NotImplementedError
