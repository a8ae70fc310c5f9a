"""Several classes: predicting the class of an item in each of several ways, such as action, object and location."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.objectives.base import Loss
from sslzoo.tasks.items import ItemTask


class SeveralClasses(ItemTask):
    """A linear layer predicts the K classes of an item x, such as the slots of an intent, from one vector f(x)
    (SUPERB's intent classification, Yang et al. 2021, section 3.3):

    loss = -1/B sum_b sum_k log softmax(W_k f(x_b) + c_k)_{y_bk}

    An item counts as right only if all of its classes are. features, pooler, dropout, projection_dim: see `ItemTask`.
    """

    kinds = ("classes",)

    def __init__(
        self,
        encoder: Any,
        data: Any,
        features: Literal["pooled", "layers"] = "layers",
        pooler: bool = False,
        dropout: float = 0.0,
        projection_dim: int | None = None,
    ):
        columns = [name.partition("=")[0] for name in data.classes]
        super().__init__(encoder, data, len(columns), features, pooler, dropout, projection_dim)
        self.columns = list(dict.fromkeys(columns))
        self.sizes = [columns.count(name) for name in self.columns]

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum over columns of each row's cross-entropy, [B]. logits [B, classes], labels [B, K]."""
        parts = zip(logits.split(self.sizes, 1), labels.unbind(1), strict=True)
        return torch.stack([F.cross_entropy(part, label, reduction="none") for part, label in parts]).sum(0)

    def best(self, logits: Tensor) -> Tensor:
        """The likeliest class in each column, [B, K]."""
        return torch.stack([part.argmax(1) for part in logits.split(self.sizes, 1)], 1)

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        logits = self.logits(encoder, batch)
        labels = batch.targets["label"].to(logits.device, non_blocking=True)
        value = self.losses(logits, labels).mean()
        return Loss(value, len(labels), lambda: {"accuracy": (self.best(logits) == labels).all(1).float().mean()})

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        right, loss = [], 0.0
        for batch in batches:
            logits, labels = self.logits(encoder, batch).float().cpu(), batch.targets["label"]
            loss += float(self.losses(logits, labels).sum())
            right.append((self.best(logits) == labels).numpy())
        found = np.concatenate(right)
        yield self.metric, float(found.all(1).mean())
        yield from ((f"accuracy_{name}", float(x)) for name, x in zip(self.columns, found.mean(0), strict=True))
        yield "loss", loss / len(found)

    def predict(self, encoder: nn.Module, batch: Batch) -> list[list[int]]:
        """The numbers of each row's classes among the classes of all columns."""
        first = torch.tensor([sum(self.sizes[:k]) for k in range(len(self.sizes))])
        return (self.best(self.logits(encoder, batch)).cpu() + first).tolist()

    def chance(self, train: Any, test: Any) -> float:
        """The accuracy of the commonest combination of train."""
        kinds, counts = np.unique(train.labels, axis=0, return_counts=True)
        return float((test.labels == kinds[counts.argmax()]).all(1).mean())
