"""VQ-APC: APC through a bottleneck of codes (Chung et al. 2020, 2005.08392)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import rng
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import indices, take, valid_mask
from sslzoo.nn.quantize import GumbelQuantizer, perplexity
from sslzoo.objectives.apc import APC
from sslzoo.objectives.base import Loss


class VQAPC(APC):
    """APC whose prediction is of a quantised output of the trunk, one of `entries` codes chosen by a Gumbel softmax,
    straight through (section 2.2: a layer after the last; fewer codes, less capacity):

    loss = 1/(T - n) sum_{t <= T - n} |x_{t+n} - W q(h_t)|, averaged over a frame's values

    temperature: of the Gumbel softmax. groups: codebooks (1 in the paper).
    """

    def __init__(self, encoder, data, ahead: int = 5, groups: int = 1, entries: int = 512, temperature: float = 1.0):
        super().__init__(encoder, data, ahead)
        if entries < 2 or temperature <= 0:
            raise ConfigError(f"vq_apc needs entries >= 2 and temperature > 0, got {entries} and {temperature}")
        self.temperature = temperature
        self.quantizer = GumbelQuantizer(encoder.dim, encoder.dim, groups, entries)

    def answer(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(features [B, T, C], frames with one to predict: their mask, bool [B, T] on the host, and indices [M];
        predictions [M, C], probabilities of codes)."""
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        tokens, _ = encoder.project(features, lengths)
        hidden, size = encoder.contextualize(tokens, lengths).last, features.shape[1]
        valid = valid_mask((lengths - self.ahead).clamp(min=0), size)
        at = indices(valid)
        frames = rng.fold_in(batch.row_seeds[at // size], at % size)  # a seed per frame
        noise = self.quantizer.noise(frames, hidden.device)
        codes, probs, _ = self.quantizer(take(hidden, at), noise, self.temperature)
        return features, valid, at, self.head(codes).float(), probs

    def forward(self, encoder, batch, step: int) -> Loss:
        features, _, at, predicted, probs = self.answer(encoder, batch)
        error = F.l1_loss(predicted, take(features, at + self.ahead), reduction="none").mean(-1)
        return Loss(error.sum() / max(len(at), 1), len(at), lambda: {"code_perplexity": perplexity(probs).detach()})

    def predict(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor]:
        features, valid, at, predicted, _ = self.answer(encoder, batch)
        size = max(features.shape[1] - self.ahead, 0)
        whole = torch.zeros(features.shape[0] * features.shape[1], features.shape[2], device=features.device)
        whole[at] = predicted
        return features, whole.view(features.shape)[:, :size], valid[:, :size]
