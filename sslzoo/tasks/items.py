"""Base class of tasks about whole items: one vector per item, and a linear layer on it."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError
from sslzoo.nn.dropout import SeededDropout
from sslzoo.nn.masked import masked_mean, valid_mask
from sslzoo.nn.weighted_sum import WeightedSum
from sslzoo.tasks.base import TaskObjective


class ItemTask(TaskObjective):
    """W f(x) + c for an item x (Devlin et al. 2019, section 4.1).

    outputs: rows of W. features: f(x) is "pooled", the encoder's pooled vector, or "layers", a weighted sum of all
    layers averaged over the item's tokens, as in s3prl. pooler: a dense layer with tanh before W, as BERT's pooler.
    dropout: of the input of W. projection_dim: width of a linear layer before W, None for none; SUPERB has it before
    the mean over tokens, which is the same.
    """

    modalities = ("image", "speech", "text")

    def __init__(
        self, encoder: Any, data: Any, outputs: int, features: Literal["pooled", "layers"], pooler: bool, dropout: float,
        projection_dim: int | None = None,
    ):  # fmt: skip
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"objective.dropout must be at least 0 and below 1, got {dropout}")
        if features == "layers" and "tokens" not in encoder.offers:
            raise ConfigError(
                f"objective.features=layers is for encoders with tokens, and {type(encoder).__name__} gives one vector "
                "an item: set objective.features=pooled"
            )
        self.metric, self.prefix = data.task.metric, encoder.prefix
        self.layers = WeightedSum(encoder.depth + 1) if features == "layers" else None
        self.dropout = SeededDropout(dropout)
        self.pooler = nn.Linear(encoder.dim, encoder.dim) if pooler else None
        self.project = None if projection_dim is None else nn.Linear(encoder.dim, projection_dim)
        self.head = nn.Linear(projection_dim or encoder.dim, outputs)

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """[B, outputs]."""
        vector = self.vector(encoder, batch)
        if self.pooler is not None:
            vector = torch.tanh(self.pooler(vector))
        if self.project is not None:
            vector = self.project(vector)
        return self.head(self.dropout(vector, batch.row_seeds))

    def vector(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """f(x), [B, D]."""
        encoded = encoder(batch.inputs, batch.lengths)
        if self.layers is None:
            return encoded.pooled
        mixed = self.layers(encoded.hidden)
        inside = valid_mask(encoded.lengths, mixed.shape[1])
        inside[:, : self.prefix] = False
        return masked_mean(mixed, inside.to(mixed.device, non_blocking=True))
