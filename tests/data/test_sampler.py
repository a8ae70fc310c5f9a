"""Batches as a function of (seed, step): any step can be started at, and ranks share the global batch."""

import numpy as np
import pytest

from sslzoo import rng
from sslzoo.data.sampler import ByCount, BySeconds, StepSampler
from sslzoo.errors import ConfigError, UserError

SIZES = np.random.default_rng(0).integers(800, 16000, 203)  # samples at 1000 Hz: 0.8 to 16 s


def by_seconds(seconds=50.0, buckets=4, max_items=512) -> BySeconds:
    batching = BySeconds(seconds, buckets, max_items)
    batching.rate = 1000
    return batching


BATCHINGS = {"count": lambda: ByCount(7), "seconds": by_seconds}


@pytest.fixture(params=BATCHINGS)
def batching(request):
    return BATCHINGS[request.param]()


def steps(batching, start=0, stop=60, seed=0, rank=0, world=1, smallest=1) -> list:
    return [pairs(rows) for rows in StepSampler(batching, SIZES, seed, start, stop, rank, world, smallest)]


def pairs(rows) -> list[tuple[int, int]]:
    """(index, key) of each row."""
    return list(zip(rows.index.tolist(), rows.row_seeds.tolist(), strict=True))


def test_a_step_is_the_same_wherever_one_starts(batching):
    whole = steps(batching)
    assert len(whole) == 60
    for start in (1, 17, 28, 29, 59):
        assert steps(batching, start) == whole[start:]
    sampler = StepSampler(batching, SIZES, 0, 0, 60)
    assert [pairs(sampler.global_batch(s)) for s in (40, 3, 40)] == [whole[40], whole[3], whole[40]]


def test_an_epoch_is_a_permutation_of_each_bucket(batching):
    """As it is defined; the sampler keeps less in memory. Its lengths may be a function."""
    sampler = StepSampler(batching, lambda: SIZES, 3, 0, 1)
    plan = batching.plan(SIZES, 1)
    for epoch in (0, 1, 0):
        batches = []
        for number, (part, size) in enumerate(plan):
            members = part[rng.permutation(3, "items", epoch, number, n=len(part))]
            batches += [members[first : first + size] for first in range(0, len(part) - size + 1, size)]
        order = rng.permutation(3, "batches", epoch, n=len(batches))
        for place, batch in enumerate(order.tolist()):
            rows = sampler.global_batch(epoch * len(batches) + place)
            assert np.array_equal(rows.index, batches[batch]) and rows.index.dtype == rows.spares.dtype == np.int64


def test_seeds_and_epochs_shuffle(batching):
    epoch = StepSampler(batching, SIZES, 0, 0, 1).steps_per_epoch
    one, other = steps(batching), steps(batching, seed=1)
    assert [[i for i, _ in batch] for batch in one] != [[i for i, _ in batch] for batch in other]
    assert [[i for i, _ in b] for b in one[:epoch]] != [[i for i, _ in b] for b in one[epoch : 2 * epoch]]


def test_an_epoch_has_each_item_once(batching):
    sampler = StepSampler(batching, SIZES, 0, 0, 1)
    left_out = np.zeros(len(SIZES), dtype=int)
    for epoch in range(20):
        batches = [
            pairs(sampler.global_batch(epoch * sampler.steps_per_epoch + s)) for s in range(sampler.steps_per_epoch)
        ]
        seen = [i for batch in batches for i, _ in batch]
        assert len(seen) == len(set(seen)) and set(seen) <= set(range(len(SIZES)))
        missed = set(range(len(SIZES))) - set(seen)
        assert len(missed) < sum(sampler.batch_sizes)
        left_out[list(missed)] += 1
    assert left_out.max() < 20, "those left out of an epoch are others in the next"


def test_every_row_of_every_step_has_a_key_of_its_own(batching):
    keys = [key for batch in steps(batching, stop=200) for _, key in batch]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_global_batch(batching, world):
    whole = steps(batching, world=1, smallest=world)
    parts = [steps(batching, rank=r, world=world) for r in range(world)]
    for step, batch in enumerate(whole):
        assert [batch[r::world] for r in range(world)] == [parts[r][step] for r in range(world)]
        assert all(parts[r][step] for r in range(world)), "no rank is idle"


def test_seconds_bound_a_batch_with_its_padding():
    batching = by_seconds()
    sampler = StepSampler(batching, SIZES, 0, 0, 1)
    padded, spoken = [], []
    for step in range(sampler.steps_per_epoch):
        sizes = SIZES[[i for i, _ in pairs(sampler.global_batch(step))]]
        padded.append(len(sizes) * sizes.max() / 1000)
        spoken.append(sizes.sum() / 1000)
    assert max(padded) <= 50
    assert np.mean(padded) > 0.6 * 50, "batches are nearly full"
    assert sum(spoken) > 0.75 * sum(padded), "and little of them is padding"


def test_buckets_hold_padding_down():
    def padding(buckets):
        sampler = StepSampler(by_seconds(buckets=buckets), SIZES, 0, 0, 1)
        batches = [SIZES[[i for i, _ in pairs(sampler.global_batch(s))]] for s in range(sampler.steps_per_epoch)]
        return 1 - sum(b.sum() for b in batches) / sum(len(b) * b.max() for b in batches)

    assert padding(8) < 0.15 < padding(1)


def test_max_items_bounds_a_batch_of_short_ones():
    assert max(len(b) for b in steps(by_seconds(max_items=5))) == 5


def test_units_are_what_one_batch_holds():
    assert by_seconds().units(SIZES) == 50_000
    assert by_seconds(seconds=3).units(SIZES) == SIZES.max(), "the longest fits by itself"
    assert ByCount(4).units(np.ones(9)) == 4


def test_refused_before_data():
    for smaller in (ByCount(1), by_seconds(max_items=1)):
        with pytest.raises(ConfigError, match="needs.*[12]"):
            smaller.check(2)
        smaller.check(1)
    for bad in (
        lambda: ByCount(0),
        lambda: BySeconds(0),
        lambda: BySeconds(buckets=0),
        lambda: BySeconds(max_items=0),
    ):
        with pytest.raises(ConfigError, match="at least 1|> 0"):
            bad()


@pytest.mark.parametrize(
    ("batching", "sizes", "smallest", "message"),
    [
        (ByCount(8), [1] * 5, 1, "5 items, fewer than a batch of 8.*data.batch.size=5"),
        (by_seconds(), [900], 2, "1 items, fewer than the 2"),
        (
            by_seconds(10),
            [900, 30_000],
            1,
            "1 items of 30.0 seconds do not fit in a batch of 10.*data.batch.seconds=30",
        ),
        (by_seconds(10), [900, 8000, 8000], 2, "2 items of 8.0 seconds do not fit.*data.batch.seconds=16"),
    ],
)
def test_data_that_makes_no_batch_is_refused_with_the_mend(batching, sizes, smallest, message):
    with pytest.raises(UserError, match=message):
        StepSampler(batching, np.array(sizes), 0, 0, 1, smallest=smallest)


def test_has_no_length():
    """A loop that counted batches from its own start would end a continued run too soon."""
    sampler = StepSampler(ByCount(7), SIZES, 0, 25, 33)
    assert len(list(sampler)) == 8
    with pytest.raises(TypeError):
        len(sampler)


@pytest.mark.parametrize("world", [1, 2])
def test_parts_of_a_step_are_its_global_batch(batching, world):
    """In order, with the keys that the whole batch has, and each of them shared by the ranks."""
    batching.seconds = 100.0  # room for three parts of two rows of the longest
    whole = StepSampler(batching, SIZES, 0, 0, 20)
    ranks = [list(StepSampler(batching, SIZES, 0, 0, 20, r, world, smallest=2, parts=3)) for r in range(world)]
    for step in range(20):
        parts = [[rank[3 * step + part] for rank in ranks] for part in range(3)]
        for part in parts:
            assert all(np.array_equal(rows.global_row_seeds, part[0].global_row_seeds) for rows in part)
            assert sum(map(len, part)) == len(part[0].global_row_seeds)
        found = sorted(pair for part in parts for rows in part for pair in pairs(rows))
        assert found == sorted(pairs(whole.global_batch(step)))


def test_spares_are_of_like_length_and_always_the_same(batching):
    one, other = (StepSampler(batching, SIZES, 0, start, 9) for start in (0, 5))
    for step in range(5, 9):
        rows, again = one.global_batch(step), other.global_batch(step)
        assert np.array_equal(rows.spares, again.spares) and rows.spares.shape[1] == len(rows)
        assert np.array_equal(rows.of(1, 2).spares, rows.spares[:, 1::2])
        part = next(part for part in one._members if rows.index[0] in part)
        assert np.isin(rows.spares, part).all()
