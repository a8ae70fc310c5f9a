"""Metrics of a training step, for logging; not differentiated."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sslzoo import distributed

TOKENS = 2048  # tokens whose logits over a large vocabulary are recomputed for logging


@torch.no_grad()
def target_rank(logits: Tensor, targets: Tensor | None = None) -> Tensor:
    """Number of the other K - 1 candidates that score at least as high as the target, int64 [...], from logits [..., K]
    and targets, int64 [...] (None: candidate 0). 0 means correct; a tie is not."""
    right = logits[..., :1] if targets is None else logits.gather(-1, targets[..., None])
    return (logits >= right).sum(-1) - 1


@torch.no_grad()
def choice_logs(
    logits: Tensor,
    targets: Tensor | None,
    chance: float | Tensor | None = None,
) -> dict[str, Tensor | float]:
    """Metrics of classification among K candidates, from logits [M, K] and targets, int64 [M] (None: candidate 0).

    accuracy; chance: by default the accuracy of always predicting the most frequent target, over all ranks;
    uniform_loss: the cross-entropy of a uniform prediction.
    """
    targets = logits.new_zeros(len(logits), dtype=torch.int64) if targets is None else targets
    found = target_rank(logits, targets) == 0
    if chance is None:
        counts = distributed.all_reduce_sum(targets.bincount(minlength=logits.shape[1]).float())
        chance = counts.max() / counts.sum().clamp(min=1)
    return {
        "accuracy": found.sum() / max(len(targets), 1),
        "chance": chance,
        "uniform_loss": math.log(logits.shape[1]),
    }


@torch.no_grad()
def token_logs(
    head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, vocabulary: int, unigram_loss: float
) -> dict:
    """`choice_logs` of the first `TOKENS` of hidden states [M, D], whose logits `head` recomputes. vocabulary: number
    of ids that the data uses. unigram_loss: the cross-entropy of predicting token frequencies."""
    some = choice_logs(head(hidden[:TOKENS]), targets[:TOKENS])
    known = {"unigram_loss": unigram_loss} if math.isfinite(unigram_loss) else {}
    return {**some, "uniform_loss": math.log(vocabulary), **known}
