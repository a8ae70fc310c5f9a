"""Parts of speaker verification: x-vectors and the additive-margin softmax."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.nn.masked import masked_mean, valid_mask

CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))  # frames and dilation of each layer


class XVector(nn.Module):
    """A time-delay network and statistics pooling (Snyder et al. 2018, table 1, in the sizes of SUPERB): convolutions
    over time without padding, each with ReLU, then mean and standard deviation over time.

    dim: of input and inner layers. last_dim: of the last layer. A row that is shorter than the network's context is
    followed by zeros.
    """

    def __init__(self, dim: int, last_dim: int, contexts: Sequence[tuple[int, int]] = CONTEXTS):
        super().__init__()
        sizes = [*[dim] * len(contexts), last_dim]
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, frames, dilation=dilation)
            for a, b, (frames, dilation) in zip(sizes[:-1], sizes[1:], contexts, strict=True)
        )
        self.context = 1 + sum((frames - 1) * dilation for frames, dilation in contexts)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [B, T, dim], lengths [B] on the host -> [B, 2 last_dim]."""
        x = x * valid_mask(lengths, x.shape[1], x.device)[..., None]
        x = F.pad(x, (0, 0, 0, max(self.context - x.shape[1], 0))).transpose(1, 2)
        for layer in self.layers:
            x = F.relu(layer(x))
        return statistics(x.transpose(1, 2), (lengths - self.context + 1).clamp(min=1))


def statistics(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean and unbiased standard deviation over each row's valid steps: x [B, T, D], lengths [B] -> [B, 2 D]."""
    valid = valid_mask(lengths, x.shape[1], x.device)
    mean = masked_mean(x, valid)
    count = lengths.to(x.device, non_blocking=True)[:, None]
    squares = ((x - mean[:, None]).square() * valid[..., None]).sum(1)
    return torch.cat([mean, (squares / (count - 1).clamp(min=1) + 1e-8).sqrt()], 1)


class AMSoftmax(nn.Module):
    """Logits of the additive-margin softmax (Wang et al. 2018, eq. 5-6): s (cos(x, w_c) - m [c = y]), without the
    margin where no y is given. scale: s. margin: m."""

    def __init__(self, dim: int, classes: int, scale: float = 30.0, margin: float = 0.4):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.xavier_normal_(self.weight)
        self.scale, self.margin = scale, margin

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """x [B, D], labels [B] -> [B, classes]."""
        cosines = F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))
        if labels is not None:
            cosines = cosines - self.margin * F.one_hot(labels, cosines.shape[1])
        return self.scale * cosines
