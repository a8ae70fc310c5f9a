"""Regression: predicting a number for an item."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from torch import nn

from sslzoo.data.base import Batch
from sslzoo.objectives.base import Loss
from sslzoo.tasks.base import TaskObjective
from sslzoo.tasks.items import ItemTask
from sslzoo.tasks.metrics import REGRESSION, score


class NumberTask(TaskObjective):
    """Predicts a number, the only logit [B, 1], which subclasses compute."""

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        truths, answers = [], []
        for batch in batches:
            truths.append(batch.targets["label"].numpy())
            answers.append(self.logits(encoder, batch)[:, 0].float().cpu().numpy())
        truth, predicted = (np.concatenate(x).astype(np.float64) for x in (truths, answers))
        for metric in dict.fromkeys([self.metric, *REGRESSION]):
            yield metric, score(metric, truth, predicted)
        yield "loss", float(np.square(truth - predicted).mean())

    def predict(self, encoder: nn.Module, batch: Batch) -> list[float]:
        return self.logits(encoder, batch)[:, 0].tolist()

    def chance(self, train: Any, test: Any) -> float:
        return score(self.metric, test.labels, np.full_like(test.labels, train.labels.mean()))


class Regression(ItemTask, NumberTask):
    """A linear layer predicts the number of an item x, or of a pair of texts, from one vector f(x) (Devlin et al. 2019,
    STS-B in section 4.1):

    loss = 1/B sum_b (w f(x_b) + c - y_b)^2

    features, pooler, dropout: see `ItemTask`.
    """

    kinds = ("regression",)

    def __init__(
        self,
        encoder: Any,
        data: Any,
        features: Literal["pooled", "layers"] = "pooled",
        pooler: bool = False,
        dropout: float = 0.1,
    ):
        super().__init__(encoder, data, 1, features, pooler, dropout)

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        predicted = self.logits(encoder, batch)[:, 0]
        values = batch.targets["label"].to(predicted.device, non_blocking=True)
        return Loss(F.mse_loss(predicted.float(), values), len(values))
