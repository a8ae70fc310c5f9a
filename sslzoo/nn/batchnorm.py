"""Batch normalization over the global batch, on any backend (torch's SyncBatchNorm refuses CPUs)."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sslzoo import distributed


class _GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """torch's BatchNorm with statistics over the rows of all ranks. Every rank must have rows."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.world_size() == 1:
            return super().forward(x)
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
        normalize = fused if x.is_cuda else exact
        return normalize(x, self.weight, self.bias, self.running_mean, self.running_var, self.eps, self.momentum)


def exact(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    momentum: float,
) -> Tensor:
    """Normalize x [B, C, ...] over the rows of all ranks, in float32 or float64; running statistics are updated in
    place. Plain operations, differentiated by autograd."""
    over, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
    with torch.autocast(x.device.type, enabled=False):
        y = x if x.dtype == torch.float64 else x.float()
        sums = distributed.all_reduce_sum(torch.cat([y.sum(over), y.new_tensor([y.numel() / y.shape[1]])]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        # of centered values: E[y^2] - E[y]^2 loses precision far from zero
        y = y - mean.view(shape)
        var = distributed.all_reduce_sum(y.square().sum(over)) / count
        if running_mean is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean), momentum)
                running_var.lerp_((var * count / (count - 1)).to(running_var), momentum)
        y = y * torch.rsqrt(var + eps).view(shape)
        if weight is not None:
            y = y * weight.view(shape) + bias.view(shape)
    return y.to(x.dtype)


class _Fused(torch.autograd.Function):
    """torch's kernels of synchronized batch norm, as in torch.nn.SyncBatchNorm, without its check for ranks without
    rows, which synchronizes the host in every layer. One collective in forward, one in backward."""

    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, eps, momentum):
        x = _dense(x)
        mean, invstd = torch.batch_norm_stats(x, eps)
        count = torch.full((1,), x.numel() // x.shape[1], dtype=mean.dtype, device=mean.device)
        means, invstds, counts = _every_rank(torch.cat([mean, invstd, count])).split(len(mean), 1)
        counts = counts.flatten()
        mean, invstd = torch.batch_norm_gather_stats_with_counts(
            x, means.contiguous(), invstds.contiguous(), running_mean, running_var, momentum, eps,
            counts if running_mean is None else counts.to(running_mean.dtype),
        )  # fmt: skip
        ctx.save_for_backward(x, weight, mean, invstd, counts.int())
        return torch.batch_norm_elemt(x, weight, bias, mean, invstd, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, mean, invstd, counts = ctx.saved_tensors
        grad, needs = _dense(grad), ctx.needs_input_grad
        sum_dy, sum_dy_xmu, grad_weight, grad_bias = torch.batch_norm_backward_reduce(
            grad, x, mean, invstd, weight, *needs[:3]
        )
        grad_x = None
        if needs[0]:
            sums = torch.cat([sum_dy, sum_dy_xmu])
            dist.all_reduce(sums)
            sum_dy, sum_dy_xmu = sums.chunk(2)
            scale = None if weight is None else weight.to(mean.dtype)
            grad_x = torch.batch_norm_backward_elemt(grad, x, mean, invstd, scale, sum_dy, sum_dy_xmu, counts)
        return grad_x, grad_weight if needs[1] else None, grad_bias if needs[2] else None, None, None, None, None


def fused(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    momentum: float,
) -> Tensor:
    """As `exact`, with CUDA-only kernels: x may be half precision with float32 weights and statistics."""
    return _Fused.apply(x, weight, bias, running_mean, running_var, eps, momentum)


def _dense(x: Tensor) -> Tensor:
    """x if contiguous in channels_last, else x.contiguous()."""
    return x if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def _every_rank(x: Tensor) -> Tensor:
    """all_gather of x [n]: [ranks, n]."""
    found = x.new_empty(distributed.world_size(), len(x))
    if dist.get_backend() == "gloo":  # lacks all_gather_into_tensor on some devices
        dist.all_gather(list(found.unbind()), x)
    else:
        dist.all_gather_into_tensor(found, x)
    return found


class BatchNorm1d(_GlobalBatchNorm, nn.BatchNorm1d):
    """[B, D] or [B, D, T]."""


class BatchNorm2d(_GlobalBatchNorm, nn.BatchNorm2d):
    """[B, C, H, W]."""
