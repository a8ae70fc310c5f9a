"""wav2vec: tell future tokens from others of the utterance, each by itself (Schneider et al. 2019, 1904.05862)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.nn.masked import valid_mask
from sslzoo.objectives.base import Loss
from sslzoo.objectives.cpc import CPC


def binary_loss(scores, valid: list[Tensor]) -> tuple[Tensor, int]:
    """(the sum over steps k and tokens i of eq. 1, their number). scores: of each step, logits [B, T - k, 1 + N], the
    target first; valid: of each step, the number of tokens in each row with a token k steps later."""
    total: Tensor | float = 0.0
    for left, logits in zip(valid, scores, strict=True):
        each = F.softplus(-logits[..., 0]) + F.softplus(logits[..., 1:]).sum(-1)
        total = total + (each * valid_mask(left, logits.shape[1], logits.device)).sum()
    return torch.as_tensor(total), sum(int(left.numpy().sum()) for left in valid)


class Wav2Vec(CPC):
    """Tokens z_i go through a causal trunk, the aggregator, whose output at i is the context c_i. With an affine map
    h_k for each step k = 1 .. `ahead`, every token is a question of its own (eq. 1), the mean over steps and positions:

    loss = -log sigma(z_{i+k}^T h_k(c_i)) - sum_n log sigma(-z~_n^T h_k(c_i))

    z~: `negatives` others of the utterance, for each target, drawn from all its tokens but the target (the paper's
    lambda is their number, which makes of its expectation a sum). As of CPC, a context must not depend on what comes:
    see there.
    """

    def __init__(self, encoder, data, ahead: int = 12, negatives: int = 10):
        super().__init__(encoder, data, ahead, negatives)
        self.predict = nn.ModuleList(nn.Linear(encoder.dim, encoder.dim) for _ in range(ahead))

    def forward(self, encoder, batch, step: int) -> Loss:
        lengths, candidates, scores = self.ask(encoder, batch)
        steps = range(1, min(self.ahead, candidates.shape[1] - 1) + 1)
        valid = [(lengths - k).clamp(min=0) for k in steps]  # on the CPU
        # so that parameters get gradients without targets
        nothing = torch.stack([p.sum() for p in self.predict.parameters()]).sum() * 0.0
        total, count = binary_loss(scores(), valid)

        def logs() -> dict:
            uniform = (1 + self.negatives) * math.log(2)
            return {**self.logs(candidates, scores, valid, count), "uniform_loss": uniform}

        return Loss((nothing + total) / max(count, 1), count, logs)
