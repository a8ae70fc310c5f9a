"""How wav2vec 2.0 and HuBERT hold back a front end that learns."""

import torch
from torch import Tensor

from sslzoo.parts import ranks
from sslzoo.parts.masked import valid


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def slowed(features: Tensor, share: float) -> Tensor:
    """The same features to the bit, in any precision, through which `share` of the gradient flows (wav2vec 2.0,
    section 4.2)."""
    return _ScaleGradient.apply(features, share) if features.requires_grad else features


def mean_square(features: Tensor, lengths: Tensor) -> Tensor:
    """Of the features [B, T, C] of the frames that are there, [B] of each row, over all ranks, with gradient."""
    inside = valid(lengths, features.shape[1], features.device)
    return ranks.mean((features.float().square().mean(-1) * inside).sum(), float(lengths.numpy().sum()))
