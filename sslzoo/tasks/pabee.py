"""PABEE (Zhou et al. 2020, 2006.04152): a row leaves where several layers in a row say the same."""

from typing import Any

import torch
from torch import Tensor

from sslzoo.errors import ConfigError
from sslzoo.tasks.exits import ExitTask, Memory


class PABEE(ExitTask):
    """A linear layer on what the encoder pools of each of n layers. All learn together, with the encoder; layer j
    counts j times, as later layers cost more (section 3):

    loss = sum_j j L_j / sum_j j

    A row leaves at layer i if its prediction was the one before in `patience` layers one after the other, cnt_i =
    cnt_{i-1} + 1 if it is, else 0: the first that it can leave at is layer patience + 1. A regression's
    predictions are the same if they differ by less than `tolerance`. Each row has a count of its own, where the
    authors' code counts for a whole batch.

    At 12 x 768, the classifiers of 2 classes have 18,456 parameters.

    patience: at least 1; the number of layers or more for the full model; None: chosen on validation, see `ExitTask`.
    tolerance: in the unit of the labels. dropout: of the input of the linear layers.
    """

    kinds = ("classification", "regression")
    criterion = "patience"
    patience: Tensor

    def __init__(
        self,
        encoder: Any,
        data: Any,
        patience: int | None = None,
        max_drop: float = 0.01,
        tolerance: float = 0.1,
        dropout: float = 0.1,
    ):
        if patience is not None and patience < 1:
            raise ConfigError(f"objective.patience must be at least 1, got {patience}")
        if tolerance < 0:
            raise ConfigError(f"objective.tolerance must be at least 0, got {tolerance}")
        super().__init__(encoder, data, False, dropout, max_drop, patience)
        self.tolerance = tolerance

    @property
    def never(self) -> float:
        return len(self.exits)

    @property
    def candidates(self) -> list[float]:
        return [*range(len(self.exits), 0, -1)]

    def vector(self, encoder: Any, hidden: Tensor, lengths: Tensor) -> Tensor:
        return encoder.pooled(hidden, lengths)

    def combined(self, losses: list[tuple[int, Tensor]]) -> Tensor:
        weighted = torch.stack([number * loss for number, loss in losses])
        return weighted.sum() / sum(number for number, _ in losses)

    def leaving(self, logits: Tensor, memory: Memory | None, limit: float) -> tuple[Tensor, Memory]:
        said = logits[:, 0] if self.regresses else logits.argmax(1)
        if memory is None:
            count = torch.zeros(len(said), dtype=torch.int64, device=said.device)
        else:
            before, count = memory
            same = (said - before).abs() < self.tolerance if self.regresses else said == before
            count = torch.where(same, count + 1, 0)
        return count >= limit, (said, count)
