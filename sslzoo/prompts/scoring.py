"""Scores of words of one or several tokens at a mask."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import MASK
from sslzoo.prompts.verbalizer import Tokens

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(ids [B, T], lengths [B], flat indices [M] of tokens) -> log-probabilities [M, V] of these tokens."""


def mask_indices(ids: Tensor, masks: int) -> Tensor:
    """The flat indices [B * masks] of the masks of ids [B, T], which have so many in each row; in host memory."""
    found = np.flatnonzero(ids.numpy() == MASK)
    assert len(found) == masks * len(ids), f"{len(found)} masks in {len(ids)} rows of {masks}"
    return torch.from_numpy(found)


def fewer_masks(ids: Tensor, lengths: Tensor, masks: int) -> tuple[Tensor, Tensor]:
    """(ids [B, T'], lengths [B]) with the first `masks` of each row's masks; in host memory."""
    masked = ids == MASK
    dropped = masked & (masked.cumsum(1) > masks)
    gone = dropped.sum(1)
    order = torch.argsort(dropped.int(), dim=1, stable=True)[:, : ids.shape[1] - int(gone.min())]
    return ids.gather(1, order), lengths - gone


def parallel_scores(log_probs: Tensor, word: Tokens) -> Tensor:
    """sum_i log p(t_i | P^l(x)), [B]: each token of a word at a mask of its own, all masked at once (2009.07118,
    section 3.1, for training). log_probs [B, l, V]: at the masks, of which there may be more than the word's tokens."""
    return torch.stack([log_probs[:, i, token] for i, token in enumerate(word)]).sum(0)


def confident_scores(predict: Predict, ids: Tensor, lengths: Tensor, word: Tokens, device: torch.device) -> Tensor:
    """log q(word | P^k(x)), [B], of a word of k tokens by a masked language model (2009.07118, section 3.1): the token
    that is likeliest at its mask is filled in first, then the likeliest of the others given that one, and so on.

    ids [B, T]: with k masks a row, in host memory.
    """
    size, at = ids.shape[1], mask_indices(ids, len(word))
    places, at, ids = (at % size).view(len(ids), -1).to(device), at.to(device), ids.to(device, copy=True)
    tokens = torch.tensor(word, device=device)
    found, masked = torch.zeros(len(ids), device=device), torch.ones_like(places, dtype=torch.bool)
    for _ in word:
        log_probs = predict(ids, lengths, at).unflatten(0, (len(ids), -1))
        own = log_probs.gather(2, tokens.expand(len(ids), -1)[..., None])[..., 0].masked_fill(~masked, -torch.inf)
        best, which = own.max(1, keepdim=True)
        found = found + best[:, 0]
        ids = ids.scatter(1, places.gather(1, which), tokens[which])
        masked = masked.scatter(1, which, False)
    return found


def chain_scores(predict: Predict, ids: Tensor, lengths: Tensor, word: Tokens, device: torch.device) -> Tensor:
    """sum_i log p(t_i | x, t_1, ..., t_{i-1}), [B], of a word by a causal language model. ids: see
    `confident_scores`."""
    at, tokens = mask_indices(ids, len(word)), torch.tensor(word).repeat(len(ids))
    filled = ids.flatten().index_copy(0, at, tokens).view_as(ids)
    log_probs = predict(filled.to(device, non_blocking=True), lengths, at)
    return log_probs.gather(1, tokens.to(device, non_blocking=True)[:, None]).view(len(ids), -1).sum(1)


def mean_per_label(scores: Sequence[Tensor], words: Sequence[Sequence[Tokens]]) -> Tensor:
    """[B, C]: the mean of the scores [B] of each label's words. scores: of all words, label by label."""
    found, first = [], 0
    for several in words:
        found.append(torch.stack(list(scores[first : first + len(several)])).mean(0))
        first += len(several)
    return torch.stack(found, 1)


def margin_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """1/B sum_b sum_{y' != y_b} max(0, 1 - s_{b, y_b} + s_{b, y'}) of scores [B, C] that are no distribution over
    labels, as those of words of several tokens (2009.07118, section 3.1)."""
    right = scores.gather(1, labels[:, None])
    wrong = torch.ones_like(scores, dtype=torch.bool).scatter(1, labels[:, None], False)
    return ((1 - right + scores).relu() * wrong).sum(1).mean()
