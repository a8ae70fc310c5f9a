"""Mockingjay and TERA: reconstruct a spectrogram from a corrupted one (Liu et al. 2020, 1910.12638; 2007.06028)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.objectives.base import Loss, Objective


class Reconstruct(Objective):
    """Parts of a spectrogram are corrupted, and the original x is predicted from the trunk's output (Mockingjay,
    section 2.2):

    loss = 1/|M| sum_{(t, f) in M} |y_tf - x_tf|

    corruption: chooses what is corrupted, and the values M in the loss; see `augment.masking`. Mockingjay corrupts
    spans of time, TERA also blocks of channels.
    """

    modalities = ("speech",)
    needs = frozenset({"tokens", "frames"})
    length_setting = "corruption.length"

    def __init__(self, encoder, data, corruption: Any):
        super().__init__()
        self.corruption, self.stack = corruption, encoder.frontend.stack
        corruption.check(encoder.feature_dim // self.stack)
        self.min_tokens = -(-corruption.shortest // self.stack)
        self.head = nn.Sequential(
            nn.Linear(encoder.dim, encoder.dim),
            nn.GELU(),
            nn.LayerNorm(encoder.dim),
            nn.Linear(encoder.dim, encoder.feature_dim),
        )

    def rebuild(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(original, corrupted and predicted frames, mask of the values in the loss), each [B, T, F], in single frames
        even if the encoder stacks them."""
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        frames = encoder.frontend.unstack_frames(features)
        altered, counts = self.corruption(batch.row_seeds, frames, lengths * self.stack)
        tokens, lengths = encoder.project(altered.reshape(features.shape), lengths)
        rebuilt = self.head(encoder.contextualize(tokens, lengths).last).float()
        return frames, altered, rebuilt.view(frames.shape), counts

    def forward(self, encoder, batch, step: int) -> Loss:
        frames, _, rebuilt, counts = self.rebuild(encoder, batch)
        error = (F.l1_loss(rebuilt, frames, reduction="none") * counts).sum()
        counted = counts.sum()
        return Loss(error / counted.clamp(min=1), counted)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        frames, _, rebuilt, counts = self.rebuild(encoder, batch)
        size = encoder.features(batch.inputs[:1], batch.lengths[:1])[1][0] * self.stack
        shown = {"frames": frames[0, :size], "prediction": rebuilt[0, :size], "mask": counts[0, :size]}
        return {"kind": "altered_frames", **shown}
