import multiprocessing
import os
import pickle
import signal
import threading

import numpy as np
import pytest
from given import own_cache  # noqa: F401

from sslzoo.data import token_store
from sslzoo.data.base import Intervals
from sslzoo.data.token_store import MappedArray, RaggedIntervals, Strings, open_array, row_starts, stored, write_ids
from sslzoo.errors import UserError

INPUTS = [[["ab", "c"], ["def"]], [["ghij"]], [], [["k"], ["lm"], ["no", "p"]]]
WANT = [ord(letter) for letter in "abcdefghijklmnop"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """What is encoded when a process is killed is what it is at."""
    monkeypatch.setattr(token_store, "_cores", lambda: 1)


def encode(texts: list[str]) -> np.ndarray:
    return np.array([ord(letter) for text in texts for letter in text], np.int64)


def write(folder, encode=encode, vocab_size=1000):
    write_ids(folder, len(INPUTS), lambda i: iter(INPUTS[i]), encode, vocab_size, 6, "tokenising")


@pytest.mark.parametrize("vocab_size, dtype", [(65536, np.uint16), (65537, np.uint32)])
def test_ids_are_mapped_in_the_smallest_type(own_cache, vocab_size, dtype):  # noqa: F811
    ids = open_array(stored("text", lambda folder: write(folder, vocab_size=vocab_size)) / "ids.npy")
    assert ids.dtype == dtype and ids.tolist() == WANT and isinstance(ids, np.memmap)
    assert not ids.flags.writeable
    assert sorted(path.name for path in (own_cache / "text").iterdir()) == ["ids.npy"]


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_threads_change_no_byte(own_cache, monkeypatch, cores):  # noqa: F811
    monkeypatch.setattr(token_store, "_cores", lambda: cores)
    seen = threading.Event()

    def slow(texts):
        if texts[0] == "ab" and cores > 1:
            assert seen.wait(20), "the next chunk is encoded meanwhile"
        seen.set() if texts[0] == "def" else None
        return encode(texts)

    folder = stored("text", lambda folder: write(folder, slow))
    assert open_array(folder / "ids.npy").tolist() == WANT
    monkeypatch.setattr(token_store, "_cores", lambda: 1)
    again = stored("again", lambda folder: write(folder))
    assert (folder / "ids.npy").read_bytes() == (again / "ids.npy").read_bytes()


def test_no_ids_at_all(own_cache):  # noqa: F811
    folder = stored("text", lambda folder: write_ids(folder, 0, iter, encode, 10, 1, "tokenising"))
    assert len(open_array(folder / "ids.npy")) == 0


def _killed(at: int) -> None:
    def kill(texts):
        if texts[0] == "k" and at == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(texts)

    stored("text", lambda folder: write(folder, kill))


def test_a_killed_write_leaves_nothing_under_its_name_and_is_gone_on_with(own_cache, monkeypatch):  # noqa: F811
    monkeypatch.setattr(token_store, "_SAVE_EVERY", 0.0)
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(0,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (own_cache / "text").exists()
    with open(own_cache / ".text.partial" / "ids.npy", "ab") as file:
        file.write(b"half a chunk")  # written, but not noted
    seen = []

    def count(texts):
        seen.extend(texts)
        return encode(texts)

    folder = stored("text", lambda folder: write(folder, count))
    assert seen == ["k", "lm", "no", "p"]
    assert open_array(folder / "ids.npy").tolist() == WANT
    assert not (own_cache / ".text.partial").exists()
    assert [path.name for path in folder.iterdir()] == ["ids.npy"]


def test_notes_that_the_disk_lost_the_ids_of_are_not_believed(own_cache, monkeypatch):  # noqa: F811
    monkeypatch.setattr(token_store, "_SAVE_EVERY", 0.0)

    def fail(texts):
        if texts[0] == "lm":
            raise UserError("no more")
        return encode(texts)

    with pytest.raises(UserError, match="no more"):
        stored("text", lambda folder: write(folder, fail))
    ids = own_cache / ".text.partial" / "ids.npy"
    os.truncate(ids, ids.stat().st_size - 2)
    assert open_array(stored("text", write) / "ids.npy").tolist() == WANT


def test_a_full_disk_is_said_in_one_line(own_cache):  # noqa: F811
    def fail(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="cannot write .*text: .*No space left.* set SSLZOO_CACHE"):
        stored("text", fail)
    assert not (own_cache / "text").exists()


def test_a_mapped_array_is_pickled_as_its_path_and_a_part_by_value(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(100_000))
    array = open_array(tmp_path / "a.npy")
    sent = pickle.dumps(array)
    assert len(sent) < 500 and (pickle.loads(sent) == np.arange(100_000)).all()
    assert isinstance(pickle.loads(sent), MappedArray)
    for part in (array[5:9], array[[5, 6, 7, 8]], array.reshape(2, -1)[0, 5:9]):
        assert pickle.loads(pickle.dumps(part)).tolist() == [5, 6, 7, 8]
    (tmp_path / "a.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match="a.npy is damaged"):
        open_array(tmp_path / "a.npy")


def test_strings():
    words = ["", "abc", "é字😀", "", "z"]
    strings = Strings(*Strings.pack(words))
    assert list(strings) == words and len(strings) == 5 and strings[-1] == "z" and strings[1:3] == words[1:3]
    assert list(Strings(*Strings.pack([]))) == []
    with pytest.raises(IndexError):
        strings[5]


def test_ragged_intervals():
    starts = row_starts([2, 0, 1])
    held = RaggedIntervals(starts, np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0, 6.0]), np.array(["a", "b", "c"]))
    assert [x.label.tolist() for x in held] == [["a", "b"], [], ["c"]]
    assert isinstance(held[2], Intervals) and held[2].start.tolist() == [5.0] and held[0].end.tolist() == [1.0, 2.0]
    assert [x.label.tolist() for x in held[1:]] == [[], ["c"]]
