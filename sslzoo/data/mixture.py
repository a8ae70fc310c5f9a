"""Sampling shares of several sets: smoothing upsamples small sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sslzoo import rng


def smoothed(sizes: Sequence[float] | np.ndarray, exponent: float) -> np.ndarray:
    """Shares [K] of sets of these sizes: p_k = n_k^exponent / sum_j n_j^exponent (Lample and Conneau 2019, section 3.1;
    multilingual BERT has 0.7). 1: proportional to size, 0: equal."""
    powers = np.asarray(sizes, np.float64) ** exponent
    return powers / powers.sum()


@dataclass(frozen=True)
class Mixture:
    """sizes int64 [K]: items of each set; the sets are concatenated. counts int64 [K]: items drawn per epoch.

    Each set is traversed repeatedly, reshuffled each time, across the ends of epochs, so its items are drawn equally
    often. The items of an epoch are a function of (seed, epoch).
    """

    sizes: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, sizes: Sequence[int], exponent: float) -> "Mixture":
        """A mixture with sum(sizes) items per epoch and `smoothed` shares, rounded by largest remainder."""
        return cls.weighted(sizes, smoothed(sizes, exponent))

    @classmethod
    def weighted(cls, sizes: Sequence[int], weights: Sequence[float] | np.ndarray) -> "Mixture":
        """A mixture with sum(sizes) items per epoch and shares proportional to weights [K], rounded by largest
        remainder."""
        found, weighed = np.asarray(sizes, np.int64), np.asarray(weights, np.float64)
        exact = weighed / weighed.sum() * found.sum()
        counts = np.floor(exact).astype(np.int64)
        counts[np.argsort(counts - exact, kind="stable")[: found.sum() - counts.sum()]] += 1
        return cls(found, counts)

    @property
    def shares(self) -> np.ndarray:
        return self.counts / self.counts.sum()

    def items(self, seed: int, epoch: int) -> np.ndarray:
        """int64 [N], indices of an epoch's items, set by set."""
        first, found = np.cumsum(self.sizes) - self.sizes, []
        for number, (size, count) in enumerate(zip(self.sizes.tolist(), self.counts.tolist(), strict=True)):
            place = epoch * count + np.arange(count)
            for turn in range(epoch * count // size, -(-(epoch + 1) * count // size)):
                order = rng.permutation(seed, "mixture", number, turn, n=size)
                found.append(first[number] + order[place[place // size == turn] % size])
        return np.concatenate(found)
