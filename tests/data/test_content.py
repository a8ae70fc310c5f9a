import numpy as np
import pytest
import torch
from worlds import Items

from sslzoo.data import content
from sslzoo.data.content import digest_of, item_hash, item_hashes
from sslzoo.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(content, "_CHUNK", 4)


class Stamped(Items):
    stamped, broken = "one", ()

    def stamp(self):
        return self.stamped

    def read(self, index, seed=None):
        if index in self.broken:
            raise UserError(f"{index} cannot be read")
        return super().read(index, seed)


def waves(count=10):
    return [torch.arange(3.0 + i % 5) for i in range(count)]


def test_equal_content_has_equal_hashes():
    found = item_hashes(Items(waves()))
    assert found.dtype == np.uint64 and (found[:5] == found[5:]).all() and len(set(found.tolist())) == 5
    one = torch.arange(6)
    different = {item_hash(x) for x in (one, one.int(), one.float(), one.view(2, 3), one[:5], one + 1, one[:0])}
    assert len(different) == 7 and 0 not in different
    assert item_hash(one[::2]) == item_hash(one[::2].clone())
    assert digest_of(found) != digest_of(found[::-1])


def test_hashes_are_kept_while_the_stamp_is_the_same(tmp_path):
    split = Stamped(waves())
    found = item_hashes(split)
    assert sorted(split.read_at) == list(range(10))
    assert (item_hashes(split) == found).all() and (item_hashes(split, np.array([7, 2])) == found[[7, 2]]).all()
    assert len(split.read_at) == 10
    path = tmp_path / "content-one"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert (item_hashes(split) == found).all() and len(split.read_at) == 20
    split.stamped = "two"
    assert (item_hashes(split, np.array([1, 2])) == found[[1, 2]]).all() and len(split.read_at) == 22


def test_an_interrupted_read_goes_on(tmp_path):
    split = Stamped(waves())
    split.broken = (9,)
    with pytest.raises(UserError, match="9 cannot be read"):
        item_hashes(split)
    split.broken, before = (), len(split.read_at)
    assert (item_hashes(split) == item_hashes(Items(waves()))).all()
    assert split.read_at[before:] == [8, 9]


def test_what_is_skipped_in_training_has_no_hash():
    split = Stamped(waves())
    split.broken, split.on_error = (3,), "skip"
    found = item_hashes(split)
    assert found[3] == 0 and (np.delete(found, 3) != 0).all()
