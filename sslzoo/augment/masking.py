"""Random masks over a padded batch, seeded per row.

Masks are drawn on the host, where seeds and lengths are, so Python knows the number of masked positions.
"""

import inspect

import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import valid_mask


def ranks_among(scores: Tensor, allowed: Tensor) -> Tensor:
    """int64 [B, T]: the rank of each allowed position in its row by score; T if not allowed."""
    order = scores.masked_fill(~allowed, 2.0).argsort(dim=1, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).masked_fill(~allowed, scores.shape[1])


def check_mask(mask, *given: str) -> None:
    """Raise ConfigError if a mask does not take the arguments that an objective passes."""
    try:
        inspect.signature(mask).bind(*given)
    except TypeError as error:
        raise ConfigError(
            f"objective.mask: {type(mask).__name__} is for another kind of objective, which gives it other than "
            f"({', '.join(given)}): choose another objective/mask=… (`sslzoo list masks`)"
        ) from error


def rounded_counts(allowed: Tensor, prob: float) -> Tensor:
    """max(1, round(prob n)) of the n allowed positions of each row of [B, T], int64 [B]; rounded half to even."""
    return (allowed.sum(1).double() * prob).round().long().clamp(min=1)


class SpanMask:
    """Spans of `length` tokens whose starts are drawn without replacement; spans may overlap
    (wav2vec 2.0, section 3.1: `prob` 0.65 and `length` 10 mask about 49 % of the frames).

    The number of spans is prob * T / length, rounded up or down at random, and at least `min_spans`.
    An utterance shorter than a span is not masked; see `shortest`.
    """

    modalities = ("speech",)

    def __init__(self, prob: float = 0.65, length: int = 10, min_spans: int = 1):
        if not 0 < prob <= 1 or length < 1 or min_spans < 1:
            raise ConfigError(
                f"mask needs 0 < prob <= 1, length >= 1, min_spans >= 1; got {prob}, {length}, {min_spans}"
            )
        self.prob, self.length, self.min_spans = prob, length, min_spans

    @property
    def shortest(self) -> int:
        """Minimum tokens of an utterance: one span and one unmasked token."""
        return self.length + 1

    def __call__(self, seeds: Tensor, lengths: Tensor, size: int) -> Tensor:
        """seeds [B], lengths [B] -> bool [B, size]."""
        starts = (lengths - self.length + 1).clamp(min=0)
        rounding = rng.uniform(seeds, "mask count", 1)[:, 0]
        count = (self.prob * lengths / self.length + rounding).long().clamp(min=self.min_spans)
        count = torch.minimum(count, starts)
        here = torch.arange(size, device=seeds.device)
        place = ranks_among(rng.uniform(seeds, "mask", size), here < starts[:, None])
        begins = (place < count[:, None]).long()
        # a position is masked if a span began at most length - 1 before it
        begun = begins.cumsum(1)
        ended = torch.nn.functional.pad(begun, (self.length, 0))[:, :size]
        return begun > ended


class TokenMask:
    """Single positions: a share `prob` of each row's, rounded, at least one (BERT, section 3.1)."""

    modalities = ("text",)
    shortest = 2

    def __init__(self, prob: float = 0.15):
        if not 0 < prob < 1:
            raise ConfigError(f"mask.prob must be between 0 and 1, got {prob}")
        self.prob = prob

    def __call__(self, seeds: Tensor, allowed: Tensor) -> Tensor:
        """seeds [B], allowed bool [B, T] -> bool [B, T]."""
        count = rounded_counts(allowed, self.prob)
        return ranks_among(rng.uniform(seeds, "mask", allowed.shape[1]), allowed) < count[:, None]


class FrameCorruption:
    """Mockingjay's alteration of a spectrogram (Liu et al. 2020, section 2.2): spans of `length` frames, about
    `prob` of all, are set to zero (probability `zero`), replaced by random frames of the utterance (`random`) or left
    unchanged; drawn once per utterance. The loss is over the chosen frames."""

    def __init__(self, prob: float = 0.15, length: int = 7, zero: float = 0.8, random: float = 0.1):
        if min(zero, random) < 0 or zero + random > 1:
            raise ConfigError(
                f"corruption.zero and corruption.random are chances that add up to 1 at most, got {zero} and {random}"
            )
        self.spans, self.zero, self.random = SpanMask(prob, length), zero, random

    @property
    def shortest(self) -> int:
        """Minimum frames of an utterance."""
        return self.spans.shortest

    def check(self, channels: int) -> None:
        """Raise ConfigError if frames with this number of channels cannot be altered."""

    def __call__(self, seeds: Tensor, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """frames [B, T, F] -> altered frames and a bool mask of the values in the loss, both [B, T, F]."""
        size, device = frames.shape[1], frames.device
        chosen = self.spans(seeds, lengths, size)[..., None].to(device, non_blocking=True)
        replacement = rng.uniform(seeds, "fate", 1, 1, device=device)
        lengths = lengths.to(device, non_blocking=True)
        other = rng.integers(seeds, "other frame", lengths[:, None], size, device=device)
        others = frames.gather(1, other[..., None].expand_as(frames))
        instead = torch.where(replacement < self.zero, torch.zeros_like(frames), others)
        altered = torch.where(chosen & (replacement < self.zero + self.random), instead, frames)
        return altered, chosen.expand_as(frames)


class FrameChannelCorruption(FrameCorruption):
    """TERA's alterations (Liu et al. 2021, section III): Mockingjay's; a block of 0 to `width` channels set to zero
    in all frames; and with probability `noisy`, Gaussian noise of standard deviation `noise` on all values. The loss
    is over altered values; with noise, over all."""

    def __init__(
        self,
        prob: float = 0.15,
        length: int = 7,
        zero: float = 0.8,
        random: float = 0.1,
        width: int = 16,
        noisy: float = 0.1,
        noise: float = 0.2,
    ):
        super().__init__(prob, length, zero, random)
        if width < 0 or not 0 <= noisy <= 1 or noise < 0:
            raise ConfigError(
                f"corruption needs width >= 0, 0 <= noisy <= 1, noise >= 0; got {width}, {noisy}, {noise}"
            )
        self.width, self.noisy, self.noise = width, noisy, noise

    def check(self, channels: int) -> None:
        if self.width > channels:
            raise ConfigError(
                f"objective.corruption.width={self.width} is more than the {channels} channels there are: "
                f"set objective.corruption.width={channels} or less"
            )

    def __call__(self, seeds: Tensor, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        altered, counts = super().__call__(seeds, frames, lengths)
        channels, device = frames.shape[2], frames.device
        wide = rng.integers(seeds, "width", self.width + 1, 1)
        first = rng.integers(seeds, "channel", channels - wide + 1, 1)
        here = torch.arange(channels)
        block = ((here >= first) & (here < first + wide))[:, None].to(device, non_blocking=True)
        loud = rng.uniform(seeds, "noisy", 1, 1, device=device) < self.noisy
        noise = self.noise * rng.normal(seeds, "noise", *frames.shape[1:], device=device)
        altered = torch.where(loud, altered + noise, altered).masked_fill(block, 0.0)
        return altered, (counts | block | loud) & valid_mask(lengths, frames.shape[1], device)[..., None]
