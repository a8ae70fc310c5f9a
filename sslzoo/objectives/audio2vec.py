"""Audio2Vec and temporal gap: slices of a spectrogram, what lies between them, and how far
(Tagliasacchi et al. 2019, 1905.11796)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import rng
from sslzoo.errors import ConfigError
from sslzoo.nn.drop_path import rows_of
from sslzoo.nn.masked import indices
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


def slices(features: Tensor, first: Tensor, size: int) -> Tensor:
    """Slices of `size` frames of features [B, T, C] that begin at first, int64 [B, S] on the host: [B, S, size, C]."""
    at = (first[..., None] + torch.arange(size)).clamp(max=features.shape[1] - 1).to(features.device, non_blocking=True)
    return features[torch.arange(len(features), device=features.device)[:, None, None], at]


def encode(encoder, parts: Tensor, seeds: Tensor) -> Tensor:
    """The pooled vectors [B, S, D] of slices [B, S, size, C], each seen by itself. seeds: int64 [B], of their items."""
    lengths = torch.full((parts.shape[0] * parts.shape[1],), parts.shape[2])
    with rows_of(seeds, copies=parts.shape[1]):
        encoded = encoder.contextualize(*encoder.project(parts.flatten(0, 1), lengths))
    return encoded.pooled.unflatten(0, parts.shape[:2])


class Audio2Vec(Objective):
    """An encoder sees slices of `size` frames one by one, and a perceptron p predicts the frames x_a of other slices
    from the vectors of those given (section 3). With predict=cbow the `context` slices on either side are given and the
    middle one is asked for; with skip_gram the middle one is given and those around it are asked for:

    loss = mean over slices a that are asked for of |x_a - p(given)_a|^2 / (size C),  C features a frame

    gap: frames between neighbouring slices. What lies where in an utterance is drawn at each step; one that is shorter
    than all slices and gaps is not used. The paper predicts by a mirror image of its convolutions.
    """

    modalities = ("speech",)
    needs = frozenset({"frames"})
    length_setting = "size"

    def __init__(
        self,
        encoder,
        data,
        predict: Literal["cbow", "skip_gram"] = "cbow",
        size: int = 12,
        gap: int = 1,
        context: int = 1,
        hidden_dim: int = 512,
    ):
        super().__init__()
        if size < 1 or gap < 0 or context < 1:
            raise ConfigError(f"audio2vec needs size >= 1, gap >= 0, context >= 1, got {size}, {gap}, {context}")
        self.size, self.gap, self.context, self.middle = size, gap, context, predict == "cbow"
        self.min_tokens = (2 * context + 1) * size + 2 * context * gap
        given, asked = (2 * context, 1) if self.middle else (1, 2 * context)
        self.head = nn.Sequential(
            nn.Linear(given * encoder.dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, asked * size * encoder.feature_dim),
        )

    def predict(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor]:
        """(the rows that are long enough [N], what was to be predicted and what was [N, S, size, C])."""
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        rows = indices(lengths >= self.min_tokens)
        room = (lengths - self.min_tokens).clamp(min=0)
        start = rng.integers(batch.row_seeds, "slices", room[:, None] + 1, 1)
        first = start + torch.arange(2 * self.context + 1) * (self.size + self.gap)
        parts = slices(features[rows.to(features.device, non_blocking=True)], first[rows], self.size)
        middle = parts[:, self.context : self.context + 1]
        around = torch.cat([parts[:, : self.context], parts[:, self.context + 1 :]], dim=1)
        given, asked = (around, middle) if self.middle else (middle, around)
        return (
            rows,
            asked,
            self.head(encode(encoder, given, batch.row_seeds[rows]).flatten(1)).float().view(asked.shape),
        )

    def forward(self, encoder, batch, step: int) -> Loss:
        rows, asked, predicted = self.predict(encoder, batch)
        error = F.mse_loss(predicted, asked, reduction="none").flatten(1).mean(1)
        return Loss(error.sum() / max(len(rows), 1), len(rows))

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        _, asked, predicted = self.predict(encoder, batch)
        single = encoder.frontend.unstack_frames
        frames, prediction = (single(x[:1, 0].float())[0] for x in (asked, predicted))
        return {"kind": "altered_frames", "frames": frames, "prediction": prediction, "mask": frames.isfinite()}


class TemporalGap(Objective):
    """Two slices of an utterance, and how far they lie apart: with D the distance of their first frames over the
    largest that there can be, and D' a perceptron's answer from their vectors (section 3.3):

    loss = -D log D' - (1 - D) log(1 - D')

    size: frames of a slice. furthest: frames between first frames, at most.
    """

    modalities = ("speech",)
    needs = frozenset({"frames"})
    length_setting = "size"

    def __init__(self, encoder, data, size: int = 12, furthest: int = 100, hidden_dim: int = 64):
        super().__init__()
        if size < 1 or furthest < 1:
            raise ConfigError(f"temporal_gap needs size >= 1 and furthest >= 1, got {size} and {furthest}")
        self.size, self.furthest, self.min_tokens = size, furthest, size + 1
        self.head = nn.Sequential(nn.Linear(2 * encoder.dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1))

    def predict(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor]:
        """(both slices [N, 2, size, C] of rows that are long enough, their distance D [N], the logit of D' [N])."""
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        rows = indices(lengths >= self.min_tokens)
        room = (lengths - self.size).clamp(min=0)
        most = room.clamp(max=self.furthest)
        apart = rng.integers(batch.row_seeds, "gap", most[:, None] + 1, 1)
        start = rng.integers(batch.row_seeds, "slices", (room[:, None] - apart) + 1, 1)
        turn = rng.integers(batch.row_seeds, "order", 2, 1)  # either may be the first
        first = torch.cat([start + turn * apart, start + (1 - turn) * apart], dim=1)
        parts = slices(features[rows.to(features.device, non_blocking=True)], first[rows], self.size)
        share = (apart[rows, 0] / self.furthest).to(features.device, non_blocking=True)
        return parts, share, self.head(encode(encoder, parts, batch.row_seeds[rows]).flatten(1)).float()[:, 0]

    def forward(self, encoder, batch, step: int) -> Loss:
        _, share, logits = self.predict(encoder, batch)
        total = F.binary_cross_entropy_with_logits(logits, share, reduction="sum")
        return Loss(total / max(len(share), 1), len(share), lambda: {"uniform_loss": math.log(2)})

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        parts, share, logits = self.predict(encoder, batch)
        views = encoder.frontend.unstack_frames(parts.float())
        cosine = 1 - (logits.sigmoid() - share).abs()
        return {"kind": "view_pairs", "views": views[:MOST_ROWS], "cosine": cosine[:MOST_ROWS]}
