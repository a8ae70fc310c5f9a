import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from given import own_cache  # noqa: F401

from sslzoo.data import audio, index, tree
from sslzoo.data.index import Listing
from sslzoo.errors import UserError


class Set:
    """Text files whose lengths are what is known of them; `splits` by name, else train."""

    def __init__(self, root, check=None, watched=True):
        self.root, self.check, self.watched = root, check, watched
        self.read, self.listed, self.splits = [], 0, {}

    def listing(self):
        self.listed += 1
        names = tree.walk(self.root, ("",))
        split = [self.splits.get(name, "train") for name in names]
        return Listing(
            self.root, names, split, {"first": [n[0] for n in names]}, [(self.root, ("",))] if self.watched else None
        )

    def inspect(self, path, check):
        self.read.append(path.name)
        if path.read_text() == "bad":
            raise UserError(f"{path} is bad")
        return [len(path.read_text())]

    def open(self):
        self.read, self.listed = [], 0
        return index.opened("set", self.listing, ("letters",), self.inspect, self.check)


@pytest.fixture
def root(tmp_path):
    for name, text in (("a", "one"), ("b", "bad"), ("c", "three"), ("in/d", "four!!")):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text(text)
    settle(tmp_path / "set")
    return tmp_path / "set"


def settle(root):
    for folder, _, _ in os.walk(root):
        os.utime(folder, (1e9, 1e9))


def test_splits_are_stretches_with_fields_faults_and_columns(root):
    data = Set(root)
    data.splits = {"b": "test", "in/d": "test"}
    found = data.open()
    train, test = found.rows("train"), found.rows("test")
    assert found.names(train) == ["a", "c"] and found.names(test) == ["b", "in/d"] and found.check == "whole"
    assert found.rows("valid") == slice(4, 4) or not len(found.names(found.rows("valid")))
    assert found.arrays["letters"][train].tolist() == [3, 5] and found.arrays["letters"][test].tolist() == [0, 6]
    assert found.faults(train) == {} and list(found.faults(test)) == [0] and "b is bad" in found.faults(test)[0]
    assert found.columns(test)["first"].tolist() == ["b", "i"]


@pytest.mark.parametrize("check", [None, "headers", "whole"])
def test_a_second_start_lists_and_reads_nothing(root, check, monkeypatch):
    data = Set(root, check)
    first = data.open()
    assert data.listed == 1 and sorted(data.read) == ["a", "b", "c", "d"]
    monkeypatch.setattr(tree, "_listed", lambda *_: pytest.fail("listed a folder"))
    stats, real = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: (stats.append(str(path)), real(path, **how))[1])
    again = data.open()
    assert data.listed == 0 and data.read == [] and again.arrays.ident == first.arrays.ident
    looked = {os.path.relpath(path, root) for path in stats if path.startswith(str(root))}
    # of a large set the folders and what was bad, which may have been mended
    assert looked == ({"./", "in", "b"} if check == "headers" else {"./", "in", "a", "b", "c", "in/d"}) - {"./"} | {"."}


@pytest.mark.parametrize("check", ["headers", "whole"])
def test_of_a_set_that_grew_only_what_is_new_is_read(root, check):
    data = Set(root, check)
    data.open()
    (root / "in" / "e").write_text("eleven letters")
    found = data.open()
    assert data.listed == 1 and sorted(data.read) == ["b", "e"]  # and what was bad
    assert found.names(found.rows("train")) == ["a", "b", "c", "in/d", "in/e"]
    assert found.arrays["letters"].tolist() == [3, 0, 5, 6, 14]
    (root / "a").unlink()
    assert data.open().names(slice(0, 4)) == ["b", "c", "in/d", "in/e"] and data.read == ["b"]


def test_a_file_written_to_in_place_is_noticed_where_files_are_read_whole(root):
    for check, noticed in (("headers", False), ("whole", True)):
        (root / "a").write_text("one")
        data = Set(root, check)
        data.open()
        with open(root / "a", "a") as file:
            file.write(" more")
        assert data.open().arrays["letters"][0] == (8 if noticed else 3) and ("a" in data.read) == noticed
        (root / "b").write_text("mended")  # what was bad is looked at in any case
        assert data.open().arrays["letters"][1] == 6 and not data.open().faults(slice(0, 4))
        (root / "b").write_text("bad")


def test_a_file_that_was_replaced_is_noticed(root):
    data = Set(root, "headers")
    data.open()
    (root / "new").write_text("another one")
    os.replace(root / "new", root / "a")
    found = data.open()
    assert found.arrays["letters"].tolist() == [11, 0, 5, 6] and sorted(data.read) == ["a", "b"]


def test_a_file_that_the_listing_was_taken_from_is_watched(root, tmp_path):
    data = Set(root, "headers")
    real = data.listing
    manifest = tmp_path / "manifest"

    def listing():
        found = real()
        found.read = [manifest]
        return found

    data.listing = listing
    data.open()
    assert data.open() and data.listed == 0
    manifest.write_text("now there is one")
    assert data.open() and data.listed == 1 and data.read == ["b"]


def test_a_set_that_does_not_say_what_it_is_of_is_listed_at_every_start(root):
    data = Set(root, "headers", watched=False)
    first = data.open()
    again = data.open()
    assert data.listed == 1 and data.read == ["b"] and again.arrays.ident == first.arrays.ident


def test_what_was_read_before_an_interruption_is_kept(root, monkeypatch):
    for i in range(20):
        (root / f"x{i:02}").write_text("x" * i)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    data = Set(root)
    real = data.inspect

    def interrupted(path, check):
        if path.name == "x05":
            raise KeyboardInterrupt
        return real(path, check)

    data.inspect = interrupted
    with pytest.raises(KeyboardInterrupt):
        data.open()
    before = set(data.read)
    assert {"a", "c", "x00", "x04"} <= before
    data.inspect = real
    found = data.open()
    assert not (before - {"b"}) & set(data.read) and "x05" in data.read
    assert found.arrays["letters"][4:].tolist() == list(range(20))


def test_many_files_are_read_by_their_headers(root, monkeypatch):
    monkeypatch.setattr(index, "MANY", 3)
    assert Set(root).open().check == "headers"
    assert Set(root, "whole").open().check == "whole"


def test_one_that_is_damaged_is_made_anew(root, own_cache):  # noqa: F811
    data = Set(root)
    data.open()
    path = next(own_cache.glob("index-set-auto"))
    path.write_bytes(path.read_bytes()[:-5])
    assert data.open().arrays["letters"].tolist() == [3, 0, 5, 6]


def test_nothing_is_read_where_nothing_is_asked(root):
    data = Set(root, "none")
    found = index.opened("set", data.listing, (), data.inspect, "none")
    assert found.check == "none" and data.read == [] and len(found.names(found.rows("train"))) == 4
    assert not found.faults(found.rows("train")) and np.all(found.arrays["size"] == 0)


def test_of_two_processes_one_reads_and_the_other_waits(root, tmp_path):
    log = tmp_path / "log"

    def work():
        data = Set(root)
        real = data.inspect

        def inspect(path, check):
            with open(log, "a") as file:
                file.write(f"{path.name}\n")
            time.sleep(0.05)
            return real(path, check)

        data.inspect = inspect
        assert data.open().arrays["letters"].tolist() == [3, 0, 5, 6]

    processes = [multiprocessing.get_context("fork").Process(target=work) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(log.read_text().split()) == ["a", "b", "c", "d"]


def test_the_listings_that_the_benchmark_simulates_are_used(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import scale

    scale.simulate(tmp_path / "set", 4500)
    monkeypatch.setattr(audio.AudioFolder, "listing", lambda _: pytest.fail("listed anew"))
    data = scale.data(tmp_path / "set")
    split = data.split("train")
    assert len(split) == 2500 and split.names[1234] == "000001/00001234.flac" and split.cut == 160000
    assert 16000 <= split.lengths.min() and split.lengths.max() <= 256000
    assert data.split("test").columns["folder"].tolist() == ["000003"] * 500 + ["000004"] * 500
    assert tree.look(tmp_path / "set", audio.SUFFIXES).names()[-1] == "000004/00004499.flac"
