"""Draws that depend on (seed, step, place) and on nothing else."""

import math

import numpy as np
import pytest
import torch

from sslzoo import rng

WORD = (1 << 64) - 1
KEYS = [3980143261097177850, 1452697927640353458, 6479631957193202221]
UNIFORM = [2083067, 11465787, 421643, 11217135]
INTEGERS = [234, 364, 365, 686, 280, 0]
PERMUTATION = [1, 5, 4, 2, 3, 0]


def keys_of(n: int, step: int = 0) -> torch.Tensor:
    return torch.tensor([rng.derive_seed(0, step, row) for row in range(n)])


def splitmix(x: int) -> int:
    """The output function of splitmix64, as its authors' C code has it."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def test_is_splitmix64():
    """The tensor arithmetic, signed and in place, is that of the unsigned integers; the first outputs of
    splitmix64 from state 0 are its published ones."""
    golden = 0x9E3779B97F4A7C15
    assert [splitmix(golden * i & WORD) for i in (1, 2, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
    keys = torch.tensor([0, 1, 5, (1 << 63) - 1, -1, -(1 << 63)])
    states = keys[:, None] + torch.arange(1, 9) * (golden - (1 << 64))
    mixed = rng._mixed(states.clone())
    assert mixed.tolist() == [[_signed(splitmix(x & WORD)) for x in row] for row in states.tolist()]


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x


def test_is_the_same_on_every_machine():
    """Written down once: a change here changes every run that was ever started."""
    assert [rng.derive_seed(0), rng.derive_seed(1, "weights"), rng.derive_seed(0, 3, 7)] == KEYS
    seeds = torch.tensor([rng.derive_seed(0, 1), rng.derive_seed(0, 2)])
    assert (rng.uniform(seeds, "mask", 2) * 2**24).long().flatten().tolist() == UNIFORM
    assert rng.integers(seeds, "negatives", 1000, 3).flatten().tolist() == INTEGERS
    assert rng.permutation(0, "items", 1, n=6).tolist() == PERMUTATION


def test_uniform_is_uniform():
    u = rng.uniform(keys_of(200), "u", 1000).double()
    assert u.min() > 0 and u.max() < 1
    counts = torch.histc(u, 100, 0, 1)
    chi = float(((counts - 2000) ** 2 / 2000).sum())
    assert 60 < chi < 150  # 99 degrees of freedom
    # each row by itself, and each place by itself
    for means in (u.mean(1), u.mean(0)):
        wide = math.sqrt(1 / 12 / (200_000 / len(means)))
        assert (means - 0.5).abs().max() < 5 * wide
        assert float(means.std()) == pytest.approx(wide, rel=0.25)


def correlation(a, b) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_rows_streams_places_and_steps_are_independent():
    u = rng.uniform(keys_of(101), "a", 1001)
    others = {
        "row": (u[:-1], u[1:]),
        "place": (u[:, :-1], u[:, 1:]),
        "diagonal": (u[:-1, :-1], u[1:, 1:]),
        "stream": (u, rng.uniform(keys_of(101), "b", 1001)),
        "step": (u, rng.uniform(keys_of(101, step=1), "a", 1001)),
        "child": (u[:, :100], rng.uniform(rng.fold_in(keys_of(101), torch.zeros(101).long()), "a", 100)),
        "seed": (u, rng.uniform(torch.tensor([rng.derive_seed(1, 0, r) for r in range(101)]), "a", 1001)),
    }
    for name, (a, b) in others.items():
        assert not torch.equal(a, b)
        assert abs(correlation(a, b)) < 5 / math.sqrt(a.numel()), name


def test_a_row_is_its_own():
    """Neither the rows beside it nor how much is asked for change what a row draws."""
    seeds = keys_of(7)
    whole = rng.uniform(seeds, "x", 50)
    assert torch.equal(rng.uniform(seeds[3:5], "x", 20), whole[3:5, :20])
    assert torch.equal(rng.uniform(seeds, "x", 5, 10), whole.view(7, 5, 10))
    before = seeds.clone()
    rng.uniform(seeds, "x", 3)
    assert torch.equal(seeds, before), "a draw works on its own memory"


def test_children_have_keys_of_their_own():
    seeds = keys_of(50)
    made = rng.fold_in(seeds.repeat_interleave(200), torch.arange(200).repeat(50))
    assert len(set(made.tolist()) | set(seeds.tolist())) == 50 * 200 + 50


def test_keys():
    assert (
        len({rng.derive_seed(*w) for w in [(), (0,), (1,), (0, 0), (0, 1), (1, 0), ("a",), ("b",), ("a", 0), (0, "a")]})
        == 10
    )
    assert all(0 <= rng.derive_seed(s, t, r) < 1 << 63 for s in range(5) for t in range(5) for r in range(5))
    assert len({rng.derive_seed(0, t, r) for t in range(100) for r in range(100)}) == 10_000


def test_integers_cover_their_range_and_no_more():
    seeds = keys_of(100)
    found = rng.integers(seeds, "i", 7, 1000)
    assert found.min() == 0 and found.max() == 6
    assert (found.flatten().bincount() / 100_000 - 1 / 7).abs().max() < 0.005
    # a bound of each row's own, and one past what float32 tells apart
    high = torch.arange(1, 101)[:, None]
    assert (rng.integers(seeds, "i", high, 1000).amax(1) < high[:, 0]).all()
    large = rng.integers(seeds, "i", (1 << 31) - 1, 1000)
    assert large.max() < (1 << 31) - 1 and large.max() > 2.1e9


def test_normal_is_normal():
    z = rng.normal(keys_of(100), "z", 2000).double()
    assert torch.isfinite(z).all()
    assert float(z.mean()) == pytest.approx(0, abs=0.01) and float(z.std()) == pytest.approx(1, abs=0.01)
    for x, share in ((-2, 0.02275), (-1, 0.15866), (0, 0.5), (1.5, 0.93319)):
        assert float((z < x).double().mean()) == pytest.approx(share, abs=0.005)
    assert rng.normal(keys_of(2), "z", 3, 4).shape == (2, 3, 4)


def test_permutation():
    one = rng.permutation(0, "items", 0, n=1000)
    assert sorted(one) == list(range(1000))
    assert np.array_equal(one, rng.permutation(0, "items", 0, n=1000))
    for other in (rng.permutation(1, "items", 0, n=1000), rng.permutation(0, "items", 1, n=1000)):
        assert (one == other).sum() < 10


def test_normal_draws_do_not_depend_on_how_many_are_asked_for():
    seeds = torch.tensor([rng.derive_seed(0, i) for i in range(5)])
    assert torch.equal(rng.normal(seeds, "n", 9, 4)[:, :6], rng.normal(seeds, "n", 6, 4))
