"""Tagging: predicting the class of each word of a text or each frame of speech."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.data.loader import IGNORE
from sslzoo.errors import ConfigError
from sslzoo.nn.dropout import SeededDropout
from sslzoo.nn.masked import indices, take, valid_mask
from sslzoo.nn.metrics import choice_logs
from sslzoo.nn.weighted_sum import WeightedSum
from sslzoo.objectives.base import Loss
from sslzoo.tasks.base import TaskObjective
from sslzoo.tasks.metrics import score


class Tagging(TaskObjective):
    """A linear layer predicts the class of each labelled token h_t (Devlin et al. 2019, section 5.3: only the first
    piece of a word). Over the M labelled tokens of a batch:

    loss = -1/M sum_{t with a label} log softmax(W h_t + c)_{y_t}

    features: h_t is "last", the last layer's output, or "layers", a weighted sum of all layers. dropout: of h_t.
    """

    modalities = ("speech", "text")
    needs = frozenset({"tokens"})
    kinds = ("frames",)

    def __init__(self, encoder: Any, data: Any, features: Literal["last", "layers"] = "last", dropout: float = 0.1):
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"objective.dropout must be at least 0 and below 1, got {dropout}")
        self.metric, self.prefix = data.task.metric, encoder.prefix
        self.layers = WeightedSum(encoder.depth + 1) if features == "layers" else None
        self.dropout = SeededDropout(dropout)
        self.head = nn.Linear(encoder.dim, len(data.classes))

    def tokens(self, encoder: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """(the head's input [B, T, D], without the encoder's prefix; the number of valid tokens in each row [B])."""
        encoded = encoder(batch.inputs, batch.lengths)
        mixed = encoded.last if self.layers is None else self.layers(encoded.hidden)
        return self.dropout(mixed[:, self.prefix :], batch.row_seeds), encoded.lengths - self.prefix

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """[B, T, classes]."""
        return self.head(self.tokens(encoder, batch)[0])

    def labelled(self, encoder: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """(the logits of the M labelled tokens [M, classes], their labels [M] on the CPU)."""
        (tokens, lengths), labels = self.tokens(encoder, batch), batch.targets["label"]
        size = tokens.shape[1]
        labels = F.pad(labels, (0, max(size - labels.shape[1], 0)), value=IGNORE)[:, :size]
        # the last samples of an utterance may be a labelled frame but too few for a token
        at = indices((labels != IGNORE) & valid_mask(lengths, size))
        return self.head(take(tokens, at)), labels.flatten()[at]

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        logits, labels = self.labelled(encoder, batch)
        count, labels = len(labels), labels.to(logits.device, non_blocking=True)
        value = F.cross_entropy(logits, labels, reduction="sum") / max(count, 1)
        return Loss(value, count, partial(choice_logs, logits, labels))

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        truths, answers, loss = [], [], 0.0
        for batch in batches:
            logits, labels = self.labelled(encoder, batch)
            logits = logits.float().cpu()
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            truths.append(labels.numpy())
            answers.append(logits.argmax(1).numpy())
        truth, predicted = np.concatenate(truths), np.concatenate(answers)
        for metric in dict.fromkeys([self.metric, "accuracy"]):
            yield metric, score(metric, truth, predicted)
        yield "loss", loss / len(truth)
        yield "labelled", len(truth)

    def predict(self, encoder: nn.Module, batch: Batch) -> list[list[int]]:
        """The class number of each token of each row; for text including [CLS] and [SEP]."""
        tokens, lengths = self.tokens(encoder, batch)
        best = self.head(tokens).argmax(2).tolist()
        return [row[:length] for row, length in zip(best, lengths.tolist(), strict=True)]

    def chance(self, train: Any, test: Any) -> float:
        truth = test.label_numbers
        commonest = np.bincount(train.label_numbers, minlength=1).argmax()
        return score(self.metric, truth, np.full_like(truth, commonest))
