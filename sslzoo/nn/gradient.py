"""How wav2vec 2.0 and HuBERT hold back a front end that learns."""

import torch
from torch import Tensor

from sslzoo import distributed
from sslzoo.nn.masked import valid_mask


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def scale_gradient(features: Tensor, scale: float) -> Tensor:
    """The same features to the bit, in any precision, through which `scale` of the gradient flows (wav2vec 2.0,
    section 4.2)."""
    return _ScaleGradient.apply(features, scale) if features.requires_grad else features


def mean_square(features: Tensor, lengths: Tensor) -> Tensor:
    """Of the features [B, T, C] of the frames that are there, [B] of each row, over all ranks, with gradient."""
    valid = valid_mask(lengths, features.shape[1], features.device)
    return distributed.all_reduce_mean((features.float().square().mean(-1) * valid).sum(), float(lengths.numpy().sum()))
