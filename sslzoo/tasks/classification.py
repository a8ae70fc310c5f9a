"""Classification: predicting the class of an item."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError
from sslzoo.nn.metrics import choice_logs
from sslzoo.objectives.base import Loss
from sslzoo.tasks.base import TaskObjective
from sslzoo.tasks.items import ItemTask
from sslzoo.tasks.metrics import score


class ClassTask(TaskObjective):
    """Predicts one class from logits [B, C], which subclasses compute.

    balanced: whether validation's score is the mean over classes.
    """

    balanced = False

    @property
    def chosen_by(self) -> str:
        return "balanced_accuracy" if self.balanced else self.metric

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of logits [B, C] for class numbers [B]."""
        return F.cross_entropy(logits, labels)

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        logits = self.logits(encoder, batch)
        labels = batch.targets["label"].to(logits.device, non_blocking=True)
        value = self.loss(logits, labels)
        return Loss(value, len(labels), partial(choice_logs, logits, labels))

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        truths, answers, loss = [], [], 0.0
        for batch in batches:
            logits, labels = self.logits(encoder, batch).float().cpu(), batch.targets["label"]
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            truths.append(labels.numpy())
            answers.append(logits.argmax(1).numpy())
        truth, predicted = np.concatenate(truths), np.concatenate(answers)
        more = [*(["f1"] if "f1" in self.metric else []), *(["balanced_accuracy"] if self.balanced else [])]
        for metric in dict.fromkeys([self.metric, "accuracy", *more]):
            yield metric, score(metric, truth, predicted)
        yield "loss", loss / len(truth)

    def predict(self, encoder: nn.Module, batch: Batch) -> list[int]:
        return self.logits(encoder, batch).argmax(1).tolist()

    def chance(self, train: Any, test: Any) -> float:
        commonest = np.bincount(train.labels).argmax()
        return score(self.metric, test.labels, np.full_like(test.labels, commonest))


class Classification(ItemTask, ClassTask):
    """A linear layer predicts the class of an item x from one vector f(x) (Devlin et al. 2019, section 4.1):

    loss = -1/B sum_b log softmax(W f(x_b) + c)_{y_b}

    features, pooler, dropout, projection_dim: see `ItemTask`. label_smoothing: the share of the target that is spread
    over all classes (Szegedy et al. 2016, section 7), in training only.
    """

    kinds = ("classification",)

    def __init__(
        self,
        encoder: Any,
        data: Any,
        features: Literal["pooled", "layers"] = "pooled",
        pooler: bool = False,
        dropout: float = 0.1,
        label_smoothing: float = 0.0,
        projection_dim: int | None = None,
    ):
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"objective.label_smoothing must be at least 0 and below 1, got {label_smoothing}")
        super().__init__(encoder, data, len(data.classes), features, pooler, dropout, projection_dim)
        self.balanced = data.task.balanced
        self.label_smoothing = label_smoothing

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
