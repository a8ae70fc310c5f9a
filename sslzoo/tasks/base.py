"""The base class of downstream tasks: an objective whose targets are labels, with an evaluator."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.objectives.base import Objective


class TaskObjective(Objective):
    """An objective that predicts `batch.targets["label"]`. Its data set has `task`, a `probe.tasks.Task`, and
    `classes`, the labels' names. It does not depend on whether the encoder is frozen.

    kinds: the kinds of task that it supports. metric: the task's score (see `tasks.metrics.better`).
    calibrates: whether buffers are chosen after training, by `calibrate`.
    published_on_test: whether the protocol as published chooses the step on test. Test is then evaluated at each
    validation too, for the best score as `<metric>_as_published`; it chooses nothing.
    prompted: whether the items are prompts, for which it is constructed with a `prompt` and the run's `language_model`.
    demonstrated: whether a prompt is followed by an example of each class.
    pretrained: its parts that the run had already, by the first word of their parameters' names.
    """

    kinds: tuple[str, ...]
    metric: str
    calibrates: bool = False
    published_on_test: bool = False
    prompted: bool = False
    demonstrated: bool = False
    pretrained: tuple[str, ...] = ()

    @property
    def chosen_by(self) -> str:
        """The score of `evaluate` that validation maximises in training."""
        return self.metric

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """The head's output for each row of a batch [B, …], without reading targets."""
        raise NotImplementedError

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        """Yield (name, value) of each score over a split's batches, `metric` first. split: the batches' split, which
        `batch.index` refers to. Called in eval mode without gradients."""
        raise NotImplementedError

    def calibrate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> None:
        """Set the buffers that are chosen on validation after training, such as a threshold, with the weights that are
        kept. Called in eval mode without gradients."""

    def predict(self, encoder: nn.Module, batch: Batch) -> list:
        """The prediction for each row of a batch: a class number, a value, a text, or a list of class numbers (per
        token)."""
        raise NotImplementedError

    def chance(self, train: Any, test: Any) -> float:
        """The score on `test` of a constant prediction chosen from the labels of `train`."""
        raise NotImplementedError
