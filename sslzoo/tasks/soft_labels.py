"""Classification with a distribution over the classes as each item's target, such as another model's output."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError
from sslzoo.nn.metrics import choice_logs
from sslzoo.objectives.base import Loss
from sslzoo.tasks.classification import Classification


class SoftLabels(Classification):
    """The head and the scores of `Classification`, trained on `batch.targets["probabilities"]`, q [B, C]:

    loss = T^2/B sum_b KL(q_b || softmax(z_b / T))

    with logits z and a temperature T (Hinton et al. 2015, 1503.02531, section 2; T = 2 in PET, 2001.07676, section
    3.3). q was made at the same temperature, which is not applied to it again. T^2 keeps the gradients' magnitude.

    features, pooler, dropout, projection_dim: see `ItemTask`. label_smoothing: 0, for the targets are soft already.
    """

    def __init__(
        self,
        encoder: Any,
        data: Any,
        features: Literal["pooled", "layers"] = "pooled",
        pooler: bool = False,
        dropout: float = 0.1,
        label_smoothing: float = 0.0,
        projection_dim: int | None = None,
        temperature: float = 1.0,
    ):
        if label_smoothing:
            raise ConfigError("objective.label_smoothing is for labels, and soft labels are smooth: set it to 0")
        if temperature <= 0:
            raise ConfigError(f"a temperature is above 0, got {temperature}")
        super().__init__(encoder, data, features, pooler, dropout, projection_dim=projection_dim)
        self.temperature = temperature

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        logits = self.logits(encoder, batch).float()
        target = batch.targets["probabilities"].to(logits.device, non_blocking=True)
        value = self.divergence(F.log_softmax(logits / self.temperature, 1), target)

        def logs() -> dict[str, Tensor | float]:
            uniform = torch.full_like(target, -math.log(target.shape[1]))
            return {
                **choice_logs(logits, target.argmax(1)),
                "uniform_loss": self.divergence(uniform, target),
            }

        return Loss(value, len(target), logs)

    def divergence(self, predicted: Tensor, target: Tensor) -> Tensor:
        """T^2 times the mean divergence of log-probabilities [B, C] from probabilities [B, C]."""
        return self.temperature**2 * F.kl_div(predicted, target, reduction="batchmean")
