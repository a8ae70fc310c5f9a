"""What an objective is: a loss over an encoder and a batch."""

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass
class Loss:
    """value: the mean over this rank's items, a scalar with gradient. count: how many items that is
    (masked frames, images, tokens); the trainer weighs ranks by it, so that the loss is the mean over
    the global batch. logs: numbers to write down, averaged in the same way; see `train.guards` for the
    names that are watched for collapse.
    """

    value: Tensor
    count: Tensor | int
    logs: dict[str, Tensor | float] = field(default_factory=dict)


class Objective(nn.Module):
    """A pretraining method. Made with the encoder and the data, neither of which it stores.

    modalities: those it is defined for. needs: what it asks of an encoder's `offers`.
    min_batch: rows of the global batch that its loss needs at least.
    refresh_every: steps between calls of `refresh`, or None.

    Everything random comes from `batch.keys` through `sslzoo.draws`; every byte of state is a
    parameter or a persistent buffer made in `__init__`.
    """

    modalities: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    min_batch: int = 1
    refresh_every: int | None = None

    def forward(self, encoder: nn.Module, batch, step: int) -> Loss:
        raise NotImplementedError

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        """Called once the optimiser has stepped: a teacher's average, a queue."""

    def refresh(self, features: Tensor) -> None:
        """Called every `refresh_every` steps with the training set's features [N, D]."""

    def show(self, encoder: nn.Module, batch, step: int) -> dict:
        """What was asked and what was answered on this batch, for the report: a dict of small CPU
        tensors and lists of strings. Keys are described in `report.pictures`."""
        return {}
