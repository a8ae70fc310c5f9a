"""Which positions of a padded batch are masked, drawn row by row from the rows' keys."""

import torch
from torch import Tensor

from sslzoo import draws
from sslzoo.errors import ConfigError


def ranks_among(scores: Tensor, allowed: Tensor) -> Tensor:
    """int64 [B, T]: the place of each allowed position when its row is sorted by score; T if not allowed."""
    order = scores.masked_fill(~allowed, 2.0).argsort(dim=1, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).masked_fill(~allowed, scores.shape[1])


class Spans:
    """Spans of `length` tokens whose starts are drawn without replacement; spans may overlap
    (wav2vec 2.0, section 3.1: `prob` 0.65 and `length` 10 leave about 49 % of the frames masked).

    The number of spans is prob * T / length, rounded up or down at random, and at least `min_spans`.
    An utterance shorter than a span is masked nowhere; `shortest` says what to require.
    """

    def __init__(self, prob: float = 0.65, length: int = 10, min_spans: int = 1):
        if not 0 < prob <= 1 or length < 1 or min_spans < 1:
            raise ConfigError(f"mask needs 0 < prob <= 1, length >= 1, min_spans >= 1; got {prob}, {length}, {min_spans}")
        self.prob, self.length, self.min_spans = prob, length, min_spans

    @property
    def shortest(self) -> int:
        """Tokens that an utterance needs for one span and one token that is left."""
        return self.length + 1

    def __call__(self, keys: Tensor, lengths: Tensor, size: int) -> Tensor:
        """keys [B], lengths [B] -> bool [B, size]."""
        starts = (lengths - self.length + 1).clamp(min=0)
        rounding = draws.uniform(keys, "mask count", 1)[:, 0]
        count = (self.prob * lengths / self.length + rounding).long().clamp(min=self.min_spans)
        count = torch.minimum(count, starts)
        here = torch.arange(size, device=keys.device)
        place = ranks_among(draws.uniform(keys, "mask", size), here < starts[:, None])
        begins = (place < count[:, None]).long()
        # a position is masked if a span began at most length - 1 before it
        begun = begins.cumsum(1)
        ended = torch.nn.functional.pad(begun, (self.length, 0))[:, :size]
        return begun > ended


class Pieces:
    """Single positions: `prob` of a row's, rounded, at least one (BERT, section 3.1)."""

    shortest = 2

    def __init__(self, prob: float = 0.15):
        if not 0 < prob < 1:
            raise ConfigError(f"mask.prob must be between 0 and 1, got {prob}")
        self.prob = prob

    def __call__(self, keys: Tensor, allowed: Tensor) -> Tensor:
        """keys [B], allowed bool [B, T] -> bool [B, T]."""
        count = (allowed.sum(1) * self.prob + 0.5).long().clamp(min=1)
        return ranks_among(draws.uniform(keys, "mask", allowed.shape[1]), allowed) < count[:, None]
