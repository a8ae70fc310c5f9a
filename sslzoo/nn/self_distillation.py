"""What DINO, iBOT and SwAV have in common: cross-entropies between views, and a teacher that must not be constant."""

import math

import torch
from torch import Tensor, nn

from sslzoo import distributed
from sslzoo.nn.quantize import perplexity


def cross_view(targets: list[Tensor], logits: list[Tensor]) -> Tensor:
    """Cross-entropy [B] of each row, the mean over all pairs of a target and a prediction of another view:

    -sum_k q_k log softmax(logits)_k        (DINO, 2104.14294, eq. 3; SwAV, 2006.09882, eq. 2 and 6)

    targets: probabilities q [B, K] of the first views. logits: [B, K] of all views, already divided by a temperature.
    """
    log_probs = [view.log_softmax(1) for view in logits]
    pairs = [(q, p) for i, q in enumerate(targets) for j, p in enumerate(log_probs) if i != j]
    return -torch.stack([(q * p).sum(1) for q, p in pairs]).mean(0)


class Center(nn.Module):
    """A teacher's probabilities, softmax((logits - c) / temperature), where c is a moving average of the mean logits of
    the global batch (2104.14294, eq. 4): so that no prototype wins for every item. full_precision: see
    `train.precision`."""

    full_precision = True
    center: Tensor

    def __init__(self, count: int, momentum: float = 0.9):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(count))

    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """[n, K] -> [n, K]."""
        return ((logits - self.center) / temperature).softmax(-1)

    @torch.no_grad()
    def update(self, logits: Tensor) -> None:
        """c <- momentum c + (1 - momentum) mean of the rows [n, K] of all ranks; unchanged if there are none."""
        count = distributed.all_reduce_sum(logits.new_tensor(float(len(logits))))
        mean = distributed.all_reduce_sum(logits.sum(0)) / count.clamp(min=1)
        self.center.lerp_(mean, (1 - self.momentum) * (count > 0))


def warmed_up(start: float, end: float, epochs: int, epoch: int) -> float:
    """A value that goes from `start` in the first epoch to `end` in the last of `epochs`, linearly, and stays (the
    teacher's temperature in DINO's code)."""
    return end if epochs < 2 else start + (end - start) * min(epoch / (epochs - 1), 1.0)


@torch.no_grad()
def assignment_logs(targets: Tensor) -> dict:
    """Whether target distributions [n, K] collapse: to a single prototype for all (code_perplexity 1), or to uniform
    ones (target_entropy log K)."""
    mean = distributed.all_reduce_mean(targets.sum(0), len(targets))
    entropy = -(targets * targets.clamp(min=1e-12).log()).sum(1).mean()
    uniform = math.log(targets.shape[1])
    return {"target_entropy": entropy, "code_perplexity": perplexity(mean), "uniform_loss": uniform}
