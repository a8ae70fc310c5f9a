"""What a downstream task is: an objective whose targets are labels, and an evaluator."""

from collections.abc import Iterable, Iterator

from torch import nn

from sslzoo.data.base import Batch
from sslzoo.objectives.base import Objective


class TaskObjective(Objective):
    """An objective that learns `batch.targets["label"]` of a data set that says what its labels are: `data.task`, a
    `probe.tasks.Task`, and `data.classes`, their names. It trains like any other; that the encoder may be frozen is
    nothing that it knows of.

    kinds: the kinds of task that it is for.
    """

    kinds: tuple[str, ...]

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        """(name, value) of all that is measured over a split's batches, the task's own metric first. Encoder and
        task are in eval mode, and nothing takes a gradient."""
        raise NotImplementedError
