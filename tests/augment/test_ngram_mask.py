"""ALBERT's masks: whole words, in runs whose lengths have the paper's chances, of exactly the count."""

import numpy as np
import pytest
import torch

from sslzoo import rng
from sslzoo.augment.ngram_mask import NgramMask
from sslzoo.errors import ConfigError


def seeds_of(n: int) -> torch.Tensor:
    return torch.from_numpy(rng.derive_row_seeds(0, "test", rows=np.arange(n)))


def texts(rows: int, size: int, continues: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Which pieces are allowed, all but both ends, a separator and padding; and which go on a word."""
    g = torch.Generator().manual_seed(rows)
    allowed = torch.arange(size) < torch.randint(size // 2, size + 1, (rows, 1), generator=g)
    allowed[:, 0] = False
    allowed[torch.arange(rows), torch.randint(3, size // 2, (rows,), generator=g)] = False
    return allowed, torch.rand(rows, size, generator=g) < continues


def words_of(allowed, continues) -> list[list[list[int]]]:
    """The places of each word of each stretch between specials of a row."""
    stretches, before = [], False
    for place, (here, on) in enumerate(zip(allowed.tolist(), continues.tolist(), strict=True)):
        if here:
            if not before:
                stretches.append([])
            if before and on:
                stretches[-1][-1].append(place)
            else:
                stretches[-1].append([place])
        before = here
    return stretches


def slow(mask: NgramMask, seed: torch.Tensor, allowed: torch.Tensor, continues: torch.Tensor) -> torch.Tensor:
    """The authors' loop, over one row; with our draws."""
    stretches = words_of(allowed, continues)
    words = [word for stretch in stretches for word in stretch]
    runs = [stretch[i : i + mask.longest] for stretch in stretches for i in range(len(stretch))]
    most = np.array([[len(run) for run in runs]])
    lengths = mask.draw_lengths(seed, most)[0]
    order = rng.uniform(seed, "mask", len(words))[0].argsort(stable=True).tolist()
    count, chosen = max(1, round(mask.prob * int(allowed.sum()))), set()
    for i in order:
        if len(chosen) >= count:
            break
        n = int(lengths[i])
        while n and len(chosen) + sum(len(word) for word in runs[i][:n]) > count:
            n -= 1
        places = {place for word in runs[i][:n] for place in word}
        if not places & chosen:
            chosen |= places
    found = torch.zeros_like(allowed)
    found[sorted(chosen)] = True
    return found


@pytest.mark.parametrize(
    ("prob", "continues", "longest"), [(0.15, 0.3, 3), (0.15, 0.0, 3), (0.4, 0.6, 5), (0.1, 0.3, 1)]
)
def test_it_is_the_authors_loop(prob, continues, longest):
    mask, seeds = NgramMask(prob, longest), seeds_of(40)
    allowed, continues = texts(40, 60, continues)
    chosen = mask(seeds, allowed, continues)
    for row in range(40):
        assert torch.equal(chosen[row], slow(mask, seeds[row : row + 1], allowed[row], continues[row])), row


def test_a_word_is_never_split_and_the_count_is_met():
    allowed, continues = texts(400, 128, 0.3)
    chosen = NgramMask()(seeds_of(400), allowed, continues)
    assert not (chosen & ~allowed).any()
    counts = [max(1, round(0.15 * n)) for n in allowed.sum(1).tolist()]
    assert chosen.sum(1).tolist() == counts
    longest = 0
    for row in range(400):
        stretches = words_of(allowed[row], continues[row])
        for word in (w for stretch in stretches for w in stretch):
            assert len(set(chosen[row, word].tolist())) == 1
            longest = max(longest, len(word))
    assert longest > 4


def test_lengths_have_chances_of_one_over_n():
    most = np.full((1000, 1000), 9)
    found = NgramMask().draw_lengths(seeds_of(1000), most)
    for n, p in ((1, 6 / 11), (2, 3 / 11), (3, 2 / 11)):
        assert abs((found == n).mean() - p) < 5 * (p * (1 - p) / 1e6) ** 0.5
    few = NgramMask().draw_lengths(seeds_of(1000), np.full((1000, 1000), 2))  # before a special: of those that fit
    assert abs((few == 1).mean() - 2 / 3) < 5 * (2 / 9 / 1e6) ** 0.5 and few.max() == 2


def test_runs_of_a_sparse_mask_have_these_lengths():
    """Few enough that runs seldom meet or are shortened."""
    rows = 600
    allowed = torch.ones(rows, 2000, dtype=torch.bool)
    chosen = NgramMask(0.01)(seeds_of(rows), allowed, torch.zeros_like(allowed))
    assert (chosen.sum(1) == 20).all()
    edges = np.diff(np.pad(chosen.numpy().astype(int), ((0, 0), (1, 1))), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    for n, p in ((1, 6 / 11), (2, 3 / 11), (3, 2 / 11)):
        assert (lengths == n).mean() == pytest.approx(p, abs=0.035)
    assert (lengths > 3).mean() < 0.03


def test_a_row_does_not_see_its_neighbours_or_its_padding():
    allowed, continues = texts(20, 60, 0.3)
    chosen = NgramMask()(seeds_of(20), allowed, continues)
    alone = NgramMask()(seeds_of(20)[7:8], allowed[7:8], continues[7:8])
    assert torch.equal(alone[0], chosen[7])
    wider = [torch.nn.functional.pad(x, (0, 9)) for x in (allowed, continues)]
    assert torch.equal(NgramMask()(seeds_of(20), *wider)[:, :60], chosen)


def test_what_cannot_be_masked_is_not():
    """Nothing allowed; one word longer than the count."""
    allowed = torch.tensor([[False] * 6, [True] * 6])
    continues = torch.tensor([[True] * 6, [True] * 6])
    assert not NgramMask()(seeds_of(2), allowed, continues).any()
    assert not NgramMask()(seeds_of(1), allowed[:1], continues[:1]).any()


@pytest.mark.parametrize("wrong", [{"prob": 0.0}, {"prob": 1.0}, {"longest": 0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="mask needs 0 < prob < 1 and longest >= 1, got"):
        NgramMask(**wrong)
