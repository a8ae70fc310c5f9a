"""Numbers about a training step, for logs: nothing here is trained on."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sslzoo import distributed

TOKENS = 2048  # of a large vocabulary, whose logits are made once more for the logs


@torch.no_grad()
def target_rank(logits: Tensor, targets: Tensor | None = None) -> Tensor:
    """How many of K candidates scored as high as the right one or higher, int64 [...], from logits [..., K] and the
    right ones, int64 [...] (None: the first of each). 0 is right; a tie is not."""
    right = logits[..., :1] if targets is None else logits.gather(-1, targets[..., None])
    return (logits >= right).sum(-1) - 1


@torch.no_grad()
def choice_logs(
    logits: Tensor,
    targets: Tensor | None,
    chance: float | Tensor | None = None,
) -> dict[str, Tensor | float]:
    """What a choice among K candidates was worth, from logits [M, K] and the right ones, int64 [M] (None: the
    first of each).

    accuracy; chance, the accuracy of one who always names the commonest target of all ranks, unless it is given;
    uniform_loss, the cross-entropy of one who guesses.
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
    """`choice_logs` of the first `TOKENS` of hidden states [M, D] whose logits were not kept; `head` makes them
    again. vocabulary: the ids that there are in the data, of those that the head knows. unigram_loss: the
    cross-entropy of one who knows how frequent each is."""
    some = choice_logs(head(hidden[:TOKENS]), targets[:TOKENS])
    known = {"unigram_loss": unigram_loss} if math.isfinite(unigram_loss) else {}
    return {**some, "uniform_loss": math.log(vocabulary), **known}
