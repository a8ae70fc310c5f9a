"""Diarization: who speaks when, of two or more speakers who may speak at once."""

from collections.abc import Iterable, Iterator
from itertools import permutations, product
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from scipy.signal import medfilt
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.data.loader import IGNORE
from sslzoo.nn.masked import host
from sslzoo.nn.recurrent import LSTMStack
from sslzoo.nn.weighted_sum import WeightedSum
from sslzoo.objectives.base import Loss
from sslzoo.tasks.base import TaskObjective

THRESHOLDS, MEDIANS = (0.3, 0.4, 0.5, 0.6, 0.7), (1, 11)  # that s3prl chooses among


class Diarization(TaskObjective):
    """An LSTM in one direction and a linear layer give each frame the logit of each of S speakers, trained with the
    permutation-invariant loss (Fujita et al. 2019, eq. 4), over the T frames of a batch in all:

    loss = 1/T sum_b min_p 1/S sum_t sum_s BCE(z_bts, y_bt,p(s))

    Frames beyond the encoder's last token have its logits. After training, the threshold of probabilities and the width
    of the median filter are chosen on validation; `der_as_published` is with those that are best on the very split that
    is scored, as s3prl chooses them on test.
    """

    modalities = ("speech",)
    needs = frozenset({"tokens"})
    kinds = ("diarization",)
    calibrates = True
    threshold: Tensor
    median: Tensor

    def __init__(
        self,
        encoder: Any,
        data: Any,
        features: Literal["last", "layers"] = "layers",
        hidden: int = 512,
        recurrent: int = 1,
    ):
        super().__init__()
        self.metric, self.prefix, self.speakers = data.task.metric, encoder.prefix, len(data.classes)
        self.stride = encoder.stride
        self.layers = WeightedSum(encoder.depth + 1) if features == "layers" else None
        self.network = LSTMStack(encoder.dim, hidden, recurrent, both_ways=False)
        self.head = nn.Linear(hidden, self.speakers)
        self.register_buffer("threshold", torch.tensor(0.5))
        self.register_buffer("median", torch.tensor(1))

    def outputs(self, encoder: nn.Module, batch: Batch, frames: int) -> Tensor:
        """Logits [B, frames, S]."""
        encoded = encoder(batch.inputs, batch.lengths)
        mixed = encoded.last if self.layers is None else self.layers(encoded.hidden)
        mixed, lengths = mixed[:, self.prefix :], host(encoded.lengths) - self.prefix
        place = torch.minimum(torch.arange(frames), lengths.clamp(min=1)[:, None] - 1).to(
            mixed.device, non_blocking=True
        )
        mixed = mixed.gather(1, place[..., None].expand(-1, -1, mixed.shape[2]))
        return self.head(self.network(mixed, torch.full_like(lengths, frames), batch.row_seeds))

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        frames = int(batch.lengths.max()) // self.stride  # on the host
        return self.outputs(encoder, batch, max(frames, 1))

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, summed over its frames [B]. logits [B, T, S], labels [B, T] of bits."""
        bits = (labels.clamp(min=0)[..., None] >> torch.arange(self.speakers)) & 1
        active = bits.to(logits.device, non_blocking=True).float()
        inside = (labels != IGNORE).to(logits.device, non_blocking=True)[..., None]
        orders = [
            (F.binary_cross_entropy_with_logits(logits.float(), active[..., order], reduction="none") * inside).sum(
                (1, 2)
            )
            for order in map(list, permutations(range(self.speakers)))
        ]
        return torch.stack(orders).amin(0) / self.speakers

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        labels = batch.targets["label"]
        count = int((labels.numpy() != IGNORE).sum())  # on the host
        losses = self.losses(self.outputs(encoder, batch, labels.shape[1]), labels)
        return Loss(losses.sum() / max(count, 1), count)

    def recordings(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> tuple[list, list, float]:
        """(of each recording, its speakers' probabilities [T, S], their activity bool [T, S]; the mean loss of a
        frame)."""
        said: dict[int, np.ndarray] = {}
        truth: dict[int, np.ndarray] = {}
        loss, frames = 0.0, 0
        for batch in batches:
            labels = batch.targets["label"]
            logits = self.outputs(encoder, batch, labels.shape[1])
            loss, frames = loss + float(self.losses(logits, labels).sum()), frames + int((labels != IGNORE).sum())
            chances = logits.float().sigmoid().cpu().numpy()
            for index, row, label in zip(batch.index.tolist(), chances, labels.numpy(), strict=True):
                size = int((label != IGNORE).sum())
                said[index], bits = row[:size], label[:size, None] >> np.arange(self.speakers)
                truth[index] = (bits & 1).astype(bool)
        cuts = np.flatnonzero(np.diff(split.recording)) + 1
        spans = [range(a, b) for a, b in zip([0, *cuts], [*cuts, len(split)], strict=True)]
        probabilities, active = ([np.concatenate([x[i] for i in span]) for span in spans] for x in (said, truth))
        return probabilities, active, loss / max(frames, 1)

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        said, truth, loss = self.recordings(encoder, batches, split)
        grid = {pair: error_rate(said, truth, *pair) for pair in product(THRESHOLDS, MEDIANS)}
        yield self.metric, error_rate(said, truth, round(float(self.threshold), 4), int(self.median))
        yield "der_as_published", min(grid.values())
        yield "loss", loss
        yield "recordings", len(said)

    def calibrate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> None:
        said, truth, _ = self.recordings(encoder, batches, split)
        best = min(product(THRESHOLDS, MEDIANS), key=lambda pair: error_rate(said, truth, *pair))
        self.threshold.fill_(best[0])
        self.median.fill_(best[1])

    def predict(self, encoder: nn.Module, batch: Batch) -> list[np.ndarray]:
        """bool [T, S], which speakers speak in each frame of each row, which is one chunk."""
        chances = self.logits(encoder, batch).float().sigmoid().detach().cpu().numpy()
        sizes = (batch.lengths // self.stride).clamp(min=1).tolist()
        threshold, median = round(float(self.threshold), 4), int(self.median)
        return [decided(row[:n], threshold, median) for row, n in zip(chances, sizes, strict=True)]

    def chance(self, train: Any, test: Any) -> float:
        """Of silence: everything is missed."""
        return 1.0


def decided(chances: np.ndarray, threshold: float, median: int) -> np.ndarray:
    """bool [T, S]: which probabilities [T, S] are above the threshold, after a median filter over so many frames."""
    active = (chances > threshold).astype(np.float64)
    return (medfilt(active, (median, 1)) if median > 1 else active).astype(bool)


def error_rate(said: list[np.ndarray], truth: list[np.ndarray], threshold: float, median: int) -> float:
    """The diarization error rate without collar, overlaps counted (NIST, RT-09, section 6.1): missed speech, false
    alarms and confusions of speakers, in frames, over speech;
    with the best assignment of speakers in each recording."""
    wrong = speech = 0.0
    for chances, active in zip(said, truth, strict=True):
        found = decided(chances, threshold, median)
        shared = active.T.astype(np.float64) @ found  # [S, S]: frames of each pair
        both = shared[linear_sum_assignment(-shared)].sum()
        wrong += np.maximum(active.sum(1), found.sum(1)).sum() - both
        speech += active.sum()
    return float(wrong / speech) if speech else 0.0
