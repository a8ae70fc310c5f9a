"""Speaker verification: whether two utterances are of one speaker, of speakers that were not trained on."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import host
from sslzoo.nn.metrics import choice_logs
from sslzoo.nn.speaker import AMSoftmax, XVector
from sslzoo.nn.weighted_sum import WeightedSum
from sslzoo.objectives.base import Loss
from sslzoo.tasks.base import TaskObjective


class Verification(TaskObjective):
    """An x-vector is trained to tell the C speakers of train apart with the additive-margin softmax, as in s3prl:

    loss = -1/B sum_b log softmax_c(s (cos(u_b, w_c) - m [c = y_b]))_{y_b}

    where u = relu(W_2 e), e = relu(W_1 [mean, std]) is the embedding of an utterance, and a trial's score is the cosine
    of two embeddings. projection_dim: width before and within the time-delay network; last_dim: of its last layer.

    Validation chooses the step; `eer_as_published` is the best on test of all steps that were validated,
    as s3prl reports.
    """

    modalities = ("speech",)
    needs = frozenset({"tokens"})
    kinds = ("verification",)
    published_on_test = True

    def __init__(
        self,
        encoder: Any,
        data: Any,
        features: Literal["last", "layers"] = "layers",
        projection_dim: int = 512,
        last_dim: int = 1500,
        scale: float = 30.0,
        margin: float = 0.4,
    ):
        super().__init__()
        if scale <= 0 or not 0 <= margin < 1:
            raise ConfigError(
                f"objective.scale is above 0 and objective.margin from 0 to less than 1, got {scale}, {margin}"
            )
        self.metric, self.prefix = data.task.metric, encoder.prefix
        self.layers = WeightedSum(encoder.depth + 1) if features == "layers" else None
        self.project = nn.Linear(encoder.dim, projection_dim)
        self.network = XVector(projection_dim, last_dim)
        self.embed = nn.Linear(2 * last_dim, projection_dim)
        self.further = nn.Linear(projection_dim, projection_dim)
        self.head = AMSoftmax(projection_dim, len(data.classes), scale, margin)

    def embeddings(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """e of each row, [B, projection_dim]."""
        encoded = encoder(batch.inputs, batch.lengths)
        mixed = encoded.last if self.layers is None else self.layers(encoded.hidden)
        vector = self.network(self.project(mixed[:, self.prefix :]), host(encoded.lengths) - self.prefix)
        return F.relu(self.embed(vector))

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """The scaled cosines to train's speakers, [B, C]."""
        return self.head(F.relu(self.further(self.embeddings(encoder, batch))))

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        vector = F.relu(self.further(self.embeddings(encoder, batch)))
        labels = batch.targets["label"].to(vector.device, non_blocking=True)
        logits = self.head(vector, labels)
        return Loss(F.cross_entropy(logits, labels), len(labels), partial(choice_logs, logits, labels))

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        found: list[tuple[Tensor, Tensor]] = []
        for batch in batches:
            found.append((batch.index, F.normalize(self.embeddings(encoder, batch).float(), dim=1).cpu()))
        index, vectors = (torch.cat(parts) for parts in zip(*found, strict=True))
        vectors = vectors[index.argsort()]
        first, second, same = split.trials
        scores = (vectors[first] * vectors[second]).sum(1).numpy()
        yield self.metric, equal_error_rate(same, scores)
        yield "trials", len(same)

    def predict(self, encoder: nn.Module, batch: Batch) -> list[np.ndarray]:
        """The embedding of each row, of norm 1: the cosine of two is their product."""
        return list(F.normalize(self.embeddings(encoder, batch).float(), dim=1).detach().cpu().numpy())

    def chance(self, train: Any, test: Any) -> float:
        """Of equal scores."""
        return 0.5


def equal_error_rate(same: np.ndarray, scores: np.ndarray) -> float:
    """The rate at which as many trials of two speakers are accepted as trials of one are rejected, between thresholds
    by a straight line, as in s3prl. same: bool [N]; scores: [N], higher for one speaker."""
    false_accepts, accepts, _ = roc_curve(same, scores)
    return float(brentq(lambda x: 1.0 - x - interp1d(false_accepts, accepts)(x), 0.0, 1.0))
