"""Mockingjay and TERA: reconstruct a spectrogram from a corrupted one (Liu et al. 2020, 1910.12638; 2007.06028)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.objectives.base import Loss, Objective


def frame_head(encoder) -> nn.Sequential:
    """The trunk's output [B, T, D] -> features [B, T, C]."""
    return nn.Sequential(
        nn.Linear(encoder.dim, encoder.dim),
        nn.GELU(),
        nn.LayerNorm(encoder.dim),
        nn.Linear(encoder.dim, encoder.feature_dim),
    )


def rebuild(encoder, batch, corruption: Any, head: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(original, corrupted and predicted frames, mask of the values in the loss), each [B, T, F], in single frames even
    if the encoder stacks them."""
    features, lengths = encoder.features(batch.inputs, batch.lengths)
    frames = encoder.frontend.unstack_frames(features)
    altered, counts = corruption(batch.row_seeds, frames, lengths * encoder.frontend.stack)
    tokens, lengths = encoder.project(altered.reshape(features.shape), lengths)
    rebuilt = head(encoder.contextualize(tokens, lengths).last).float()
    return frames, altered, rebuilt.view(frames.shape), counts


def shown(encoder, batch, frames: Tensor, rebuilt: Tensor, counts: Tensor) -> dict:
    """The first utterance, to be plotted."""
    size = encoder.features(batch.inputs[:1], batch.lengths[:1])[1][0] * encoder.frontend.stack
    return {
        "kind": "altered_frames",
        "frames": frames[0, :size],
        "prediction": rebuilt[0, :size],
        "mask": counts[0, :size],
    }


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
        self.corruption, stack = corruption, encoder.frontend.stack
        corruption.check(encoder.feature_dim // stack)
        self.min_tokens = -(-corruption.shortest // stack)
        self.head = frame_head(encoder)

    def rebuild(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return rebuild(encoder, batch, self.corruption, self.head)

    def forward(self, encoder, batch, step: int) -> Loss:
        frames, _, rebuilt, counts = self.rebuild(encoder, batch)
        error = (F.l1_loss(rebuilt, frames, reduction="none") * counts).sum()
        counted = counts.sum()
        return Loss(error / counted.clamp(min=1), counted)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        frames, _, rebuilt, counts = self.rebuild(encoder, batch)
        return shown(encoder, batch, frames, rebuilt, counts)
