"""Learned weighted sum of the layers' outputs."""

import torch
from torch import Tensor, nn


class WeightedSum(nn.Module):
    """sum_l softmax(logits)_l h_l over a trunk's input and the outputs of its layers (Peters et al. 2018, ELMo, eq. 1;
    the featurizer of s3prl). Initial weights are equal."""

    def __init__(self, layers: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers))

    def forward(self, hidden: list[Tensor]) -> Tensor:
        """L tensors [B, T, D] -> [B, T, D]."""
        weights = self.logits.softmax(0)
        mixed = weights[0] * hidden[0]
        for weight, layer in zip(weights[1:], hidden[1:], strict=True):
            mixed = torch.addcmul(mixed, layer, weight)
        return mixed
