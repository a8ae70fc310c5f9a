"""Batch normalisation over the global batch, on any backend (torch's own refuses CPUs)."""

import torch
from torch import Tensor, nn

from sslzoo.parts import ranks


class _GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """torch's BatchNorm; with several ranks, its statistics are of all their rows together."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or ranks.world() == 1:
            return super().forward(x)
        over, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        with torch.autocast(x.device.type, enabled=False):
            y = x.float()
            sums = ranks.total(torch.cat([y.sum(over), y.new_tensor([y.numel() / y.shape[1]])]))
            mean, count = sums[:-1] / sums[-1], sums[-1].detach()
            # of what is centred: the mean square less the square of the mean drowns in rounding far from zero
            y = y - mean.view(shape)
            var = ranks.total(y.square().sum(over)) / count
            if self.track_running_stats:
                with torch.no_grad():
                    self.num_batches_tracked += 1
                    self.running_mean.lerp_(mean, self.momentum)
                    self.running_var.lerp_(var * count / (count - 1), self.momentum)
            y = y * torch.rsqrt(var + self.eps).view(shape)
            if self.affine:
                y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)


class BatchNorm1d(_GlobalBatchNorm, nn.BatchNorm1d):
    """[B, D] or [B, D, T]."""


class BatchNorm2d(_GlobalBatchNorm, nn.BatchNorm2d):
    """[B, C, H, W]."""
