import logging

import numpy as np
import pytest
import torch
from worlds import Framed, spoken

from sslzoo.data.base import Intervals
from sslzoo.errors import UserError
from sslzoo.features import store
from sslzoo.features.frozen import Frozen
from sslzoo.features.store import FeatureCache, entries
from sslzoo.probe import stored_reader
from sslzoo.probe.splits import Pool
from sslzoo.probe.stored_reader import StoredReader
from sslzoo.probe.tasks import Part, Task
from sslzoo.progress import quiet


class Counting(Frozen):
    """Counts the items that it encodes; dies after so many batches."""

    seen, lives = 0, 10**9

    def encode(self, batch):
        if self.lives == 0:
            raise KeyboardInterrupt
        self.lives -= 1
        self.seen += len(batch)
        return super().encode(batch)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(stored_reader, "units", lambda data: 200)


def reader(encoder=None, data=None, gb=1.0):
    data = data or spoken()
    source = Counting(encoder or Framed((0.0, 0.5, 1.0)))
    return StoredReader(source, Pool(data), "pretrained", FeatureCache(gb)), source


def items(*places):
    return Part(np.array(places), None, np.zeros(len(places), np.int64))


def frames(data):
    for split in data.splits.values():
        split.intervals = {"phone": [Intervals([0.0], [9.0], ["a" if i % 2 else "b"]) for i in range(len(split))]}
    return Task("phone", "phone", ["speech"], "frames").prepare(Pool(data), 5).parts["train"]


def test_ten_tasks_cost_one_pass():
    first, source = reader()
    everything = items(*range(90))
    found = first(everything, 1.0, quiet)
    assert source.seen == 90
    for seed in range(10):
        some = np.random.default_rng(seed).permutation(90)[:40]
        later, source = reader()
        assert torch.equal(later(items(*some), 1.0, quiet), found[:, some]) and source.seen == 0
        assert source.layers == first.source.layers


def test_few_of_many_are_an_entry_of_their_own():
    some = items(3, 80, 5, 3)
    for expected in (3, 0):
        now, source = reader()
        found = now(some, 1.0, quiet)
        assert source.seen == expected
    alone = Framed((0.0, 0.5, 1.0))
    for row, place in enumerate(some.items):
        wave = now.pool.splits["train"].items[place]
        slow = torch.stack([h.mean(1)[0] for h in alone(wave[None], torch.tensor([len(wave)])).hidden])
        torch.testing.assert_close(found[:, row], slow.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("framed", [False, True])
def test_a_killed_pass_goes_on_and_gives_the_same_bits(tmp_path, framed, monkeypatch):
    data = spoken()
    part = frames(data) if framed else items(*range(90))
    whole, source = reader(data=data, gb=0)
    found, batches = whole(part, 1.0, quiet), 10**9 - source.lives
    killed, source = reader(data=data)
    source.lives = 3
    with pytest.raises(KeyboardInterrupt):
        killed(part, 1.0, quiet)
    again, source = reader(data=data)
    assert torch.equal(again(part, 1.0, quiet), found)
    assert 10**9 - source.lives == batches - 3 and 0 < source.seen < 90
    kept, source = reader(data=data)
    assert torch.equal(kept(part, 1.0, quiet), found) and source.seen == 0


def test_damage_is_noticed_and_mended(caplog):
    part = items(*range(90))
    found = reader()[0](part, 1.0, quiet)
    [(folder, about, size)] = entries()
    assert about["class"] == "Framed" and about["rows"] == 90 and size > 0
    content = bytearray((folder / "rows").read_bytes())
    content[1000] ^= 1
    (folder / "rows").write_bytes(content)
    again, source = reader()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(again(part, 1.0, quiet), found)
    assert "1 of its features are damaged, and are computed again" in caplog.text and 0 < source.seen < 90
    (folder / "rows").write_bytes(content[:500])  # cut off
    assert torch.equal(reader()[0](part, 1.0, quiet), found)
    (folder / "about.json").write_text("{")
    last, source = reader()
    assert torch.equal(last(part, 1.0, quiet), found) and source.seen == 90


def test_other_weights_data_or_settings_are_other_features():
    part = items(*range(90))
    reader()[0](part, 1.0, quiet)
    other = Framed((0.0, 0.5, 1.0))
    torch.nn.init.constant_(other.weight, 2.0)
    for one, seen in ((other, 90), (Framed((0.0, 0.25, 1.0)), 90), (Framed((0.0, 0.5, 1.0)), 0)):
        now, source = reader(one)
        now(part, 1.0, quiet)
        assert source.seen == seen
    data = spoken()
    data.splits["train"].items[7] = data.splits["train"].items[7] + 1e-6
    now, source = reader(data=data)
    now(part, 1.0, quiet)
    assert source.seen == 90 and len(entries()) == 4


def test_what_was_used_longest_ago_goes_first():
    part = items(*range(90))
    readers = [reader(Framed((0.0, gain)))[0] for gain in (0.1, 0.2, 0.3)]
    for age, one in enumerate(readers):
        one(part, 1.0, quiet)
        folder = next(iter(one._opened.values())).folder
        store.os.utime(folder, (age, age))
    size = entries()[0][2]
    FeatureCache(2.5 * size / 2**30).trim()
    left = {folder for folder, *_ in entries()}
    assert left == {next(iter(one._opened.values())).folder for one in readers[1:]}
    with readers[1].cache.lock(next(iter(readers[1]._opened.values()))):
        FeatureCache(1e-9).trim()
    assert len(entries()) == 1  # being filled


def test_a_full_disk_is_said(monkeypatch):
    now, _ = reader()

    def full(*args, **more):
        raise OSError(28, "No space left on device")

    real = now(items(*range(90)), 1.0, quiet)
    assert real.shape == (3, 90, 2)
    monkeypatch.setattr("builtins.open", full)
    rows = next(iter(now._opened.values()))
    with pytest.raises(UserError, match="No space left on device — make room, or set SSLZOO_CACHE"):
        rows.put(np.array([0]), torch.zeros(1, 3, 2), ["0", "1", "2"])


def test_what_another_process_filled_since_is_found(caplog):
    kept, rows, values = FeatureCache(1.0), np.arange(6), torch.randn(6, 2, 3)
    one, other, third = (kept.opened({"of": "both"}, 6) for _ in range(3))  # before any of them has begun
    assert one.missing(rows).tolist() == rows.tolist()
    one.put(rows[:4], values[:4], ["a", "b"])
    assert other.missing(rows).tolist() == [4, 5] and other.shape == [2, 3]
    other.put(rows[4:], values[4:], ["a", "b"])
    for each in (one, other, third, kept.opened({"of": "both"}, 6)):
        assert not len(each.missing(rows))
        np.testing.assert_array_equal(each.get(rows), values.numpy())
    assert not caplog.records
