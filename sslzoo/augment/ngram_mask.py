"""ALBERT's n-gram masks of whole words. Drawn on the host, seeded per row; see `masking`."""

import numpy as np
import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.augment.masking import rounded_counts
from sslzoo.errors import ConfigError


class NgramMask:
    """N-grams of whole words, n <= `longest`, with p(n) proportional to 1/n (Lan et al. 2020, section 3.1).

    As in the authors' code: the words of a row are visited in random order, and each begins an n-gram of random length,
    shortened if it exceeds what is left of the row's budget: a share `prob` of its tokens, rounded, at least one, never
    exceeded. N-grams that overlap an earlier one are dropped. Words are never split, so nothing is masked in a row
    whose words are all longer than the budget. N-grams do not cross special tokens.
    """

    shortest = 2

    def __init__(self, prob: float = 0.15, longest: int = 3):
        if not 0 < prob < 1 or longest < 1:
            raise ConfigError(f"mask needs 0 < prob < 1 and longest >= 1, got {prob} and {longest}")
        self.prob, self.longest = prob, longest

    def draw_lengths(self, seeds: Tensor, most: np.ndarray) -> np.ndarray:
        """Random length of the n-gram that each word begins, int64 [B, W]: from 1 to the lesser of `longest` and `most`
        [B, W], the number of words up to the next special token."""
        chances = np.cumsum(1 / np.arange(1, self.longest + 1))
        most = np.clip(most, 1, self.longest)
        draw = rng.uniform(seeds, "ngram", most.shape[1]).double().numpy() * chances[most - 1]
        return np.minimum(1 + (draw[..., None] > chances).sum(-1), most)

    def __call__(self, seeds: Tensor, allowed: Tensor, continues: Tensor) -> Tensor:
        """seeds [B], allowed bool [B, T], continues bool [B, T]: tokens that continue a word -> bool [B, T]."""
        room, here = rounded_counts(allowed, self.prob).numpy(), allowed.numpy()
        before = np.pad(here, ((0, 0), (1, 0)))[:, :-1]
        begins = here & ~(continues.numpy() & before)
        count, number = begins.sum(1), np.maximum(begins.cumsum(1) - 1, 0)  # words per row; the word of each token
        words = int(count.max(initial=0))
        if not words:
            return torch.zeros_like(allowed)
        pieces = np.zeros((len(here), words), np.int64)
        np.add.at(pieces, (np.nonzero(here)[0], number[here]), 1)
        place = np.arange(words)
        # the next word after a special token, or the end
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
    """bool [B, W]: words chosen by visiting them in `order` [B, W], each beginning an n-gram of `lengths` [B, W], until
    `room` [B] tokens are masked. pieces [B, W]: tokens of each word. count [B]: words of each row."""
    rows, ends = np.arange(len(order)), np.pad(pieces, ((0, 0), (1, 0))).cumsum(1)
    chosen, left = np.zeros(pieces.shape, bool), room.copy()
    for place in range(order.shape[1]):
        going = (place < count) & (left > 0)
        if not going.any():
            break
        word = order[:, place]
        length = np.where(going, lengths[rows, word], 0)
        for _ in range(int(length.max())):  # shorten n-grams that do not fit, down to 0
            length -= ends[rows, word + length] - ends[rows, word] > left
        run = word[:, None] + np.arange(int(length.max()))
        inside = np.arange(run.shape[1]) < length[:, None]
        run = np.minimum(run, pieces.shape[1] - 1)
        inside &= ~(chosen[rows[:, None], run] & inside).any(1)[:, None]
        at = np.nonzero(inside)
        chosen[at[0], run[at]] = True
        left -= (pieces[rows[:, None], run] * inside).sum(1)
    return chosen
