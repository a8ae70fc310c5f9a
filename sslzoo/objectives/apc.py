"""APC: predict a future frame (Chung et al. 2019, 1904.03240; Chung and Glass 2020, 1910.12607)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.errors import ConfigError
from sslzoo.nn.masked import valid_mask
from sslzoo.objectives.base import Loss, Objective


class APC(Objective):
    """A causal trunk reads frames, and a linear layer predicts the frame n = `ahead` steps later (eq. 1):

    loss = 1/(T - n) sum_{t <= T - n} |x_{t+n} - y_t|, averaged over a frame's values
    """

    modalities = ("speech",)
    needs = frozenset({"frames", "causal"})
    length_setting = "ahead"

    def __init__(self, encoder, data, ahead: int = 5):
        super().__init__()
        if ahead < 1:
            raise ConfigError(f"objective.ahead must be at least 1, got {ahead}")
        self.ahead, self.min_tokens = ahead, ahead + 1
        self.head = nn.Linear(encoder.dim, encoder.feature_dim)

    def predict(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor]:
        """(frames [B, T, C], predictions of the frames from `ahead` on [B, T - ahead, C], the mask of valid ones, bool
        [B, T - ahead] on the CPU)."""
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        tokens, lengths = encoder.project(features, lengths)
        hidden = encoder.contextualize(tokens, lengths).last
        size = max(features.shape[1] - self.ahead, 0)  # validation items may be too short
        return features, self.head(hidden[:, :size]).float(), valid_mask((lengths - self.ahead).clamp(min=0), size)

    def forward(self, encoder, batch, step: int) -> Loss:
        features, predicted, valid = self.predict(encoder, batch)
        error = F.l1_loss(predicted, features[:, self.ahead :], reduction="none").mean(-1)
        count = int(valid.numpy().sum())
        return Loss((error * valid.to(error.device, non_blocking=True)).sum() / max(count, 1), count)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        features, predicted, valid = self.predict(encoder, batch)
        size, single = int(valid[0].sum()), encoder.frontend.unstack_frames
        frames, prediction = single(features[0, self.ahead :][:size]), single(predicted[0, :size])
        return {"kind": "future_frames", "frames": frames, "prediction": prediction, "ahead": self.ahead}
