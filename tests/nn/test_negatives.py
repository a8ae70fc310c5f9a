"""Negatives: others of the row, never the thing itself, each as likely as any other."""

import pytest
import torch

from sslzoo import rng
from sslzoo.nn.negatives import sample_negatives


def keys_of(n: int) -> torch.Tensor:
    return torch.tensor([rng.derive_seed(0, row) for row in range(n)])


def test_never_itself_and_never_past_the_end():
    counts = torch.arange(2, 42).repeat(5)
    places = sample_negatives(keys_of(200), counts, 41, 50)
    assert places.shape == (200, 41, 50) and places.min() == 0
    for row, count in enumerate(counts.tolist()):
        asked = places[row, :count]
        assert not (asked == torch.arange(count)[:, None]).any() and asked.max() < count
    assert places.max() == 40, "the last one is drawn too"


def test_every_other_one_is_as_likely():
    """20,000 draws for each of five: 0.25 each, none of its own."""
    places = sample_negatives(keys_of(40), torch.full((40,), 5), 5, 500)
    for own in range(5):
        share = (places[:, own].flatten().bincount(minlength=5) / 20_000).tolist()
        assert share.pop(own) == 0
        assert share == pytest.approx([0.25] * 4, abs=0.015)


def test_a_row_draws_the_same_in_any_batch():
    seeds, counts = keys_of(7), torch.tensor([3, 9, 4, 1, 8, 2, 6])
    whole = sample_negatives(seeds, counts, 9, 5)
    for row, count in enumerate(counts.tolist()):
        alone = sample_negatives(seeds[row : row + 1], counts[row : row + 1], count, 5)
        assert torch.equal(alone[0], whole[row, :count])
    assert not torch.equal(whole[1, :3], sample_negatives(seeds, counts, 9, 5, "others")[1, :3]), (
        "another name draws anew"
    )


def test_what_is_alone_stands_for_itself():
    assert sample_negatives(keys_of(2), torch.tensor([1, 0]), 3, 4).unique().tolist() == [0]
