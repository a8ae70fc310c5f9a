"""Padded batches: the same bytes from any number of workers, and from any step on."""

import numpy as np
import pytest
import torch
from conftest import tiny

from sslzoo import rng
from sslzoo.build import make
from sslzoo.data.loader import collate, ordered_batches, ordered_loader, pad, train_loader
from sslzoo.errors import UserError

KINDS = {"image": "rotation", "speech": "wav2vec2", "text": "bert"}


@pytest.fixture(params=KINDS)
def data(request):
    return make(tiny(KINDS[request.param])["data"])


def assert_same(a, b):
    for name in ("inputs", "lengths", "row_seeds", "index"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_workers_change_nothing(data):
    """Three epochs' worth of batches, cuts included, read here and by two workers."""
    split = data.split("train")
    here, there = ([*train_loader(split, data.batch, 3, 0, 14, workers=n)] for n in (0, 2))
    assert len(here) == len(there) == 14
    for a, b in zip(here, there, strict=True):
        assert_same(a, b)
    assert_same(next(iter(train_loader(split, data.batch, 3, 9, 14, workers=2))), here[9])


def test_a_batch_is_what_the_split_reads(data):
    split = data.split("train")
    for batch in train_loader(split, data.batch, 0, 0, 4):
        assert len(batch) == len(batch.index) == len(batch.row_seeds)
        for row in range(len(batch)):
            item = split.read(int(batch.index[row]), int(batch.row_seeds[row]))
            if item.ndim > 1:
                assert torch.equal(batch.inputs[row], item) and batch.lengths[row] == 1
                continue
            assert batch.lengths[row] == len(item)
            assert torch.equal(batch.inputs[row, : len(item)], item)
            assert (batch.inputs[row, len(item) :] == 0).all()
        if batch.inputs.ndim == 2:
            assert batch.inputs.shape[1] == batch.lengths.max(), "no wider than its longest"


def test_long_items_are_cut_elsewhere_at_each_step():
    data = make(tiny("wav2vec2", "+data.cut=6000")["data"])
    split = data.split("train")
    long = int(split.lengths.argmax())
    places = {split.window(long, rng.derive_seed(0, step)) for step in range(50)}
    assert all(stop - start == 6000 and 0 <= start and stop <= split.lengths[long] for start, stop in places)
    assert len(places) > 40
    assert split.window(long, None) == (0, split.lengths[long]), "whole where nothing is drawn"
    assert max(int(b.lengths.max()) for b in train_loader(split, data.batch, 0, 0, 6)) == 6000


def test_ordered_batches_hold_each_item_once(data):
    split = data.split("test")
    units = data.batch.units(split.lengths)
    batches = list(ordered_loader(split, units))
    assert sorted(i for b in batches for i in b.index.tolist()) == list(range(len(split)))
    for batch in batches:
        assert len(batch) == 1 or batch.lengths.max() * len(batch) <= units
        assert (batch.row_seeds == -1).all(), "nothing is drawn"
        assert torch.equal(batch.lengths, torch.tensor(split.lengths[batch.index.numpy()])), "nothing is cut"
    lengths = torch.cat([b.lengths for b in batches])
    assert torch.equal(lengths, lengths.sort().values)


def test_validation_draws_but_always_the_same(data):
    split = data.split("valid")
    units = data.batch.units(split.lengths)
    a, b = (list(ordered_loader(split, units, seed=5)) for _ in range(2))
    for x, y in zip(a, b, strict=True):
        assert_same(x, y)
    keys = torch.cat([x.row_seeds for x in a])
    assert (keys >= 0).all() and len(keys.unique()) == len(keys)


def test_validation_plans_by_the_length_that_is_read():
    data = make(tiny("wav2vec2", "+data.cut=6000")["data"])
    split = data.split("valid")
    batches = list(ordered_loader(split, 12_500, seed=5))
    assert [len(b) for b in batches] == [2] * (len(split) // 2), "two cut ones fit, of no more than 6000 each"
    lengths = torch.cat([b.lengths for b in batches])
    assert torch.equal(lengths, lengths.sort().values) and lengths.max() == 6000


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_deal_whole_batches_of_what_was_chosen(data, world):
    split = data.split("test")
    chosen, units = np.array([5, 3, 11, 2, 7]), 2 * split.lengths.max()
    whole = list(ordered_loader(split, units, indices=chosen))
    assert len(whole) >= 2 and sorted(i for b in whole for i in b.index.tolist()) == sorted(chosen)
    for rank in range(world):
        dealt = list(ordered_loader(split, units, indices=chosen, rank=rank, world=world))
        assert len(dealt) == len(whole[rank::world])
        for a, b in zip(dealt, whole[rank::world], strict=True):
            assert_same(a, b)


@pytest.mark.parametrize(
    ("units", "smallest", "planned"),
    [
        (24, 1, [[4, 0], [3], [1], [2]]),
        (24, 2, [[4, 0], [3, 1, 2]]),
        (99, 1, [[4, 0, 3, 1], [2]]),
        (99, 2, [[4, 0, 3, 1, 2]]),
        (10, 4, [[4, 0, 3, 1, 2]]),
        (10, 9, [[4, 0, 3, 1, 2]]),
    ],
    ids=str,
)
def test_no_batch_is_smaller_than_it_may_be(units, smallest, planned):
    lengths = np.array([12, 16, 20, 14, 10, 1])
    assert ordered_batches(lengths, np.arange(5), units, smallest) == planned
    assert ordered_batches(lengths, np.arange(0), units, smallest) == []


def test_padding_and_stacking():
    assert pad([torch.tensor([1, 2]), torch.tensor([3])], 9).tolist() == [[1, 2], [3, 9]]
    assert pad([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)]).shape == (2, 3, 2, 2)
    batch = collate([(torch.tensor([4, 5, 6]), 8, 80, {}), (torch.tensor([7]), 9, 90, {})])
    assert batch.inputs.tolist() == [[4, 5, 6], [7, 0, 0]] and batch.lengths.tolist() == [3, 1]
    assert batch.index.tolist() == [8, 9] and batch.row_seeds.tolist() == [80, 90]


class Faulty:
    """A split of which some items cannot be read any more."""

    def __init__(self, split, bad: set[int], on_error: str):
        self.split, self.bad, self.on_error = split, bad, on_error

    def __getattr__(self, name: str):
        return getattr(self.split, name)

    def __len__(self) -> int:
        return len(self.split)

    def item(self, index: int, seed: int | None = None):
        if index in self.bad:
            raise UserError(f"item {index} is gone")
        return self.split.item(index, seed)


def test_an_item_that_cannot_be_read_is_replaced_by_the_same_one_everywhere():
    data = make(tiny("rotation")["data"])
    split = data.split("train")
    bad = set(range(0, len(split), 9))
    whole, faulty = split, Faulty(split, bad, "skip")
    plain = list(train_loader(whole, data.batch, 0, 0, 6))
    found = list(train_loader(faulty, data.batch, 0, 0, 6))
    assert sum(b.skipped for b in found) == sum(int(i) in bad for b in plain for i in b.index) > 0
    for a, b in zip(plain, found, strict=True):
        assert torch.equal(a.row_seeds, b.row_seeds) and not bad & set(b.index.tolist())
        kept = torch.tensor([int(i) not in bad for i in a.index])
        assert torch.equal(a.inputs[kept], b.inputs[kept]) and torch.equal(a.index[kept], b.index[kept])
    later = list(train_loader(faulty, data.batch, 0, 4, 6))
    for a, b in zip(found[4:], later, strict=True):
        assert_same(a, b)
    ranks = [list(train_loader(faulty, data.batch, 0, 0, 6, rank=r, world=2)) for r in range(2)]
    for step, batch in enumerate(found):
        for rank in range(2):
            assert torch.equal(ranks[rank][step].index, batch.index[rank::2])


def test_without_skip_it_stops_the_run():
    data = make(tiny("rotation")["data"])
    split = data.split("train")
    with pytest.raises(UserError, match="item 0 is gone"):
        list(train_loader(Faulty(split, {0}, "raise"), data.batch, 0, 0, len(split)))
    with pytest.raises(UserError, match="is gone"):
        list(train_loader(Faulty(split, set(range(len(split))), "skip"), data.batch, 0, 0, 1))


def test_only_inputs_go_to_the_device(data):
    batch = next(iter(train_loader(data.split("train"), data.batch, 0, 0, 1)))
    moved = batch.to("meta")
    assert moved.inputs.device.type == "meta"
    assert {x.device.type for x in (moved.lengths, moved.row_seeds, moved.index, moved.global_row_seeds)} == {"cpu"}
    if data.modality == "text":
        assert torch.equal(moved.ids, batch.inputs), "ids are looked at on the host"
    assert moved.rows() == batch.rows() == [len(batch)]
