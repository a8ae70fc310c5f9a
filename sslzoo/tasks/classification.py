"""Classification: the one class that an item is of."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError
from sslzoo.nn.dropout import SeededDropout
from sslzoo.nn.masked import masked_mean, valid_mask
from sslzoo.nn.metrics import choice_logs
from sslzoo.nn.weighted_sum import WeightedSum
from sslzoo.objectives.base import Loss
from sslzoo.tasks.base import TaskObjective
from sslzoo.tasks.metrics import score


class Classification(TaskObjective):
    """A linear layer names the class of an item x from one vector f(x) (Devlin et al. 2019, section 4.1):

    loss = -1/B sum_b log softmax(W f(x_b) + c)_{y_b}

    features: what f(x) is: "pooled", the encoder's own vector of an item, or "layers", a weighted sum of all layers
    averaged over an item's tokens, as s3prl has it. dropout: of f(x). label_smoothing: the share of the target that
    is spread over all classes (Szegedy et al. 2016, section 7); validation's loss has it as well.
    """

    modalities = ("image", "speech", "text")
    kinds = ("classification",)

    def __init__(
        self,
        encoder: Any,
        data: Any,
        features: Literal["pooled", "layers"] = "pooled",
        dropout: float = 0.1,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        if not (0 <= dropout < 1 and 0 <= label_smoothing < 1):
            raise ConfigError(
                "objective.dropout and objective.label_smoothing must be at least 0 and below 1, got "
                f"{dropout} and {label_smoothing}"
            )
        if features == "layers" and "tokens" not in encoder.offers:
            raise ConfigError(
                f"objective.features=layers is for encoders with tokens, and {type(encoder).__name__} gives one vector "
                "an item: set objective.features=pooled"
            )
        self.metric, self.label_smoothing, self.prefix = data.task.metric, label_smoothing, encoder.prefix
        self.layers = WeightedSum(encoder.depth + 1) if features == "layers" else None
        self.dropout = SeededDropout(dropout)
        self.head = nn.Linear(encoder.dim, len(data.classes))

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """[B, classes]."""
        encoded = encoder(batch.inputs, batch.lengths)
        if self.layers is None:
            return self.head(self.dropout(encoded.pooled, batch.row_seeds))
        mixed = self.layers(encoded.hidden)
        inside = valid_mask(encoded.lengths, mixed.shape[1])
        inside[:, : self.prefix] = False
        mean = masked_mean(mixed, inside.to(mixed.device, non_blocking=True))
        return self.head(self.dropout(mean, batch.row_seeds))

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        logits = self.logits(encoder, batch)
        labels = batch.targets["label"].to(logits.device, non_blocking=True)
        value = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return Loss(value, len(labels), partial(choice_logs, logits, labels))

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        truths: list[np.ndarray] = []
        answers: list[np.ndarray] = []
        loss = 0.0
        for batch in batches:
            logits, labels = self.logits(encoder, batch).float().cpu(), batch.targets["label"]
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            truths.append(labels.numpy())
            answers.append(logits.argmax(1).numpy())
        truth, predicted = np.concatenate(truths), np.concatenate(answers)
        for metric in dict.fromkeys([self.metric, "accuracy"]):
            yield metric, score(metric, truth, predicted)
        yield "loss", loss / len(truth)
