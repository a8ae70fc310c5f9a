"""ALBERT's masks: runs of whole words. Drawn on the host, row by row from the rows' seeds; see `masking`."""

import numpy as np
import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.augment.masking import rounded_counts
from sslzoo.errors import ConfigError


class NgramMask:
    """Runs of n whole words, n <= `longest`, with p(n) proportional to 1/n (Lan et al. 2020, section 3.1).

    As the authors' code does it: the words of a row are gone through in random order, and each begins a run of a length
    that is drawn for it, or of a shorter one if that is more than what is left of the row's count, which is `prob` of
    its pieces, rounded, at least one, and is never exceeded. A run that meets another one is left out. A word is never
    split, so of a text that has but words longer than its count, nothing is masked. Runs do not reach over a special.
    """

    shortest = 2

    def __init__(self, prob: float = 0.15, longest: int = 3):
        if not 0 < prob < 1 or longest < 1:
            raise ConfigError(f"mask needs 0 < prob < 1 and longest >= 1, got {prob} and {longest}")
        self.prob, self.longest = prob, longest

    def draw_lengths(self, seeds: Tensor, most: np.ndarray) -> np.ndarray:
        """Of each word the length of the run that it would begin, int64 [B, W]: at least 1, and at most `longest` and
        `most` [B, W], the words that there are up to the next special."""
        chances = np.cumsum(1 / np.arange(1, self.longest + 1))
        most = np.clip(most, 1, self.longest)
        draw = rng.uniform(seeds, "ngram", most.shape[1]).double().numpy() * chances[most - 1]
        return np.minimum(1 + (draw[..., None] > chances).sum(-1), most)

    def __call__(self, seeds: Tensor, allowed: Tensor, continues: Tensor) -> Tensor:
        """seeds [B], allowed bool [B, T], continues bool [B, T]: pieces that go on the word before them -> bool [B, T]."""
        room, here = rounded_counts(allowed, self.prob).numpy(), allowed.numpy()
        before = np.pad(here, ((0, 0), (1, 0)))[:, :-1]
        begins = here & ~(continues.numpy() & before)
        count, number = begins.sum(1), np.maximum(begins.cumsum(1) - 1, 0)  # words of each row, and each piece's
        words = int(count.max(initial=0))
        if not words:
            return torch.zeros_like(allowed)
        pieces = np.zeros((len(here), words), np.int64)
        np.add.at(pieces, (np.nonzero(here)[0], number[here]), 1)
        place = np.arange(words)
        # the next word that begins behind a special, or the end
        following = np.broadcast_to(count[:, None], (len(here), words + 1)).copy()
        row, piece = np.nonzero(begins & ~before)
        following[row, number[row, piece]] = number[row, piece]
        following = np.minimum.accumulate(following[:, ::-1], 1)[:, ::-1][:, 1:]
        lengths = self.draw_lengths(seeds, following - place)
        scores = np.where(place < count[:, None], rng.uniform(seeds, "mask", words).numpy(), 2.0)
        chosen = _fill(scores.argsort(1, kind="stable"), lengths, pieces, count, room)
        return torch.from_numpy(here & np.take_along_axis(chosen, number, 1))


def _fill(
    order: np.ndarray, lengths: np.ndarray, pieces: np.ndarray, count: np.ndarray, room: np.ndarray
) -> np.ndarray:
    """Words in `order` [B, W] that begin runs of `lengths` [B, W] until `room` [B] pieces are chosen: bool [B, W].
    pieces [B, W]: of each word. count [B]: words of each row."""
    rows, ends = np.arange(len(order)), np.pad(pieces, ((0, 0), (1, 0))).cumsum(1)
    chosen, left = np.zeros(pieces.shape, bool), room.copy()
    for place in range(order.shape[1]):
        going = (place < count) & (left > 0)
        if not going.any():
            break
        word = order[:, place]
        length = np.where(going, lengths[rows, word], 0)
        for _ in range(int(length.max())):  # one that is too long becomes shorter, at last none
            length -= ends[rows, word + length] - ends[rows, word] > left
        run = word[:, None] + np.arange(int(length.max()))
        inside = np.arange(run.shape[1]) < length[:, None]
        run = np.minimum(run, pieces.shape[1] - 1)
        inside &= ~(chosen[rows[:, None], run] & inside).any(1)[:, None]
        at = np.nonzero(inside)
        chosen[at[0], run[at]] = True
        left -= (pieces[rows[:, None], run] * inside).sum(1)
    return chosen
