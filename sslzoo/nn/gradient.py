"""Gradient scaling and feature penalty of wav2vec 2.0's and HuBERT's learned front ends."""

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
    """Identity, bit for bit in any precision, that multiplies the gradient by `scale` (wav2vec 2.0, section 4.2)."""
    return _ScaleGradient.apply(features, scale) if features.requires_grad else features


def mean_square(features: Tensor, lengths: Tensor) -> Tensor:
    """Mean square of features [B, T, C] over valid frames (lengths [B]) of all ranks, differentiable."""
    valid = valid_mask(lengths, features.shape[1], features.device)
    return distributed.all_reduce_mean((features.float().square().mean(-1) * valid).sum(), float(lengths.numpy().sum()))
