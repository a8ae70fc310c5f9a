"""Speech SimCLR: contrast of two views and reconstruction of an altered spectrogram (Jiang et al. 2020, 2010.13991)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from sslzoo import distributed
from sslzoo.errors import ConfigError
from sslzoo.objectives.base import Loss
from sslzoo.objectives.reconstruct import frame_head, rebuild, shown
from sslzoo.objectives.simclr import SimCLR


class SpeechSimCLR(SimCLR):
    """SimCLR's contrast of two views of each utterance, and TERA's reconstruction of its spectrogram, by one encoder
    (section 2):

    loss = NT-Xent + weight * 1/|M| sum_{(t, f) in M} |y_tf - x_tf|

    views: as of `SimCLR`, of spectrograms. corruption: as of `Reconstruct`. The paper's views alter the waveform too.
    """

    modalities = ("speech",)
    needs = frozenset({"tokens", "frames"})
    length_setting = "corruption.length"
    batch_terms = "negatives and reconstruction"

    def __init__(
        self,
        encoder,
        data,
        views: nn.Module,
        corruption: Any,
        weight: float = 1.0,
        temperature: float = 0.1,
        hidden_dim: int = 512,
        output_dim: int = 128,
    ):
        super().__init__(encoder, data, views, temperature, hidden_dim, output_dim)
        if weight < 0:
            raise ConfigError(f"objective.weight must be at least 0, got {weight}")
        corruption.check(encoder.feature_dim // encoder.frontend.stack)
        self.weight, self.corruption = weight, corruption
        self.min_tokens = -(-corruption.shortest // encoder.frontend.stack)
        self.head = frame_head(encoder)

    def forward(self, encoder, batch, step: int) -> Loss:
        contrast = super().forward(encoder, batch, step)
        frames, _, rebuilt, counts = rebuild(encoder, batch, self.corruption, self.head)
        error = (F.l1_loss(rebuilt, frames, reduction="none") * counts).sum()
        # over the global batch, whose rows have unlike numbers of altered values
        rebuilding = distributed.all_reduce_mean(error, counts.sum())

        def logs() -> dict:
            choice = contrast.logs()
            uniform = choice["uniform_loss"] + self.weight * rebuilding.detach()
            terms = {"contrast": contrast.value.detach(), "reconstruction": rebuilding.detach()}
            return {**choice, "uniform_loss": uniform, **terms}

        return Loss(contrast.value + self.weight * rebuilding, contrast.count, logs, features=contrast.features)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        frames, _, rebuilt, counts = rebuild(encoder, batch, self.corruption, self.head)
        return shown(encoder, batch, frames, rebuilt, counts)
