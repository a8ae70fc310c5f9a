"""NPC: predict a frame from those around it, without it (Liu et al. 2020, 2011.00406)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import rng
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import indices, take, valid_mask
from sslzoo.nn.quantize import GumbelQuantizer, perplexity
from sslzoo.objectives.base import Loss, Objective


class NPC(Objective):
    """A network whose output h_t at a frame does not depend on it and its neighbours (`encoders.masked_conv`) predicts
    the frame by a linear layer, of a quantised h_t unless `entries` is null (eq. 1 and section 2.3):

    loss = 1/T sum_t |x_t - W q(h_t)|, averaged over a frame's values

    groups, entries: codebooks and their sizes. temperature: of the Gumbel softmax.
    """

    modalities = ("speech",)
    needs = frozenset({"frames", "blind"})

    def __init__(self, encoder, data, groups: int = 4, entries: int | None = 64, temperature: float = 1.0):
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"objective.temperature must be above 0, got {temperature}")
        self.temperature = temperature
        self.quantizer = GumbelQuantizer(encoder.dim, encoder.dim, groups, entries) if entries else None
        self.head = nn.Linear(encoder.dim, encoder.feature_dim)

    def predict(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """(features [B, T, C], lengths, indices of valid frames [M], their predictions [M, C], probabilities of
        codes)."""
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        tokens, _ = encoder.project(features, lengths)
        at, size = indices(valid_mask(lengths, features.shape[1])), features.shape[1]
        hidden, probs = take(encoder.contextualize(tokens, lengths).last, at), None
        if self.quantizer is not None:
            frames = rng.fold_in(batch.row_seeds[at // size], at % size)  # a seed per frame
            noise = self.quantizer.noise(frames, hidden.device)
            hidden, probs, _ = self.quantizer(hidden, noise, self.temperature)
        return features, lengths, at, self.head(hidden).float(), probs

    def forward(self, encoder, batch, step: int) -> Loss:
        features, _, at, predicted, probs = self.predict(encoder, batch)
        error = F.l1_loss(predicted, take(features, at), reduction="none").mean(-1)

        def logs() -> dict:
            return {} if probs is None else {"code_perplexity": perplexity(probs).detach()}

        return Loss(error.sum() / max(len(at), 1), len(at), logs)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        features, lengths, _, predicted, _ = self.predict(encoder, batch)
        size, single = int(lengths[0]), encoder.frontend.unstack_frames
        frames, prediction = single(features[0, :size]), single(predicted[:size])
        return {"kind": "altered_frames", "frames": frames, "prediction": prediction, "mask": frames.isfinite()}
