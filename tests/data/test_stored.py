import pickle

import numpy as np
import pytest

from sslzoo.data import stored
from sslzoo.data.stored import Arrays, Columns, Names
from sslzoo.errors import UserError

WORDS = ["a", "", "naïve/ü", "line\nend", "b\udcff", *map(str, range(20))]


@pytest.fixture
def words(tmp_path) -> Arrays:
    arrays = {**stored.encode("names", WORDS), **Columns.encode("odd", [w[-1:].isdigit() for w in WORDS])}
    arrays |= {"x": np.arange(7, dtype=np.int32).reshape(7, 1), "none": np.empty(0), "yes": np.array([True, False])}
    stored.write(tmp_path / "f", arrays, {"of": 1}, "it")
    return Arrays(tmp_path / "f")


def test_arrays_come_back_as_they_were_and_are_mapped(words):
    assert words.meta == {"of": 1} and words.ident == "it" and len(words) == len(list(words))
    assert words["x"].dtype == np.int32 and words["x"].ravel().tolist() == list(range(7))
    assert words["none"].shape == (0,) and words["yes"].tolist() == [True, False]
    assert not words["x"].flags.writeable and not words["x"].flags.owndata
    Arrays(words.path, "r+")["x"][3] = 9
    assert words["x"][3] == 9
    stored.rewrite_meta(words.path, {"longer": "x" * 99}, "other")
    assert Arrays(words.path).meta == {"longer": "x" * 99} and Arrays(words.path)["x"][3] == 9


def test_a_file_that_is_none_of_these_is_told(tmp_path):
    for content in (b"", b"abc", b"{}" * 40):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(ValueError):
            Arrays(tmp_path / "f")


def test_names_are_a_sequence_of_strings(words):
    names = Names(words)
    assert list(names) == WORDS and len(names) == len(WORDS) and names == WORDS and names != WORDS[1:]
    assert names[2] == WORDS[2] and names[-1] == "19" and names[np.int64(4)] == WORDS[4]
    assert names[3:9] == WORDS[3:9] and names[3:9][1] == WORDS[4] and names[3:9][-1] == WORDS[8]
    assert names[::-2] == WORDS[::-2] and names[5:][2:4] == WORDS[7:9]
    some = Names(words, rows=np.array([4, 0, 9]))
    assert list(some) == [WORDS[i] for i in (4, 0, 9)] and some[1:] == [WORDS[0], WORDS[9]] and some[-1] == WORDS[9]
    with pytest.raises(IndexError):
        names[len(WORDS)]
    with pytest.raises(IndexError):
        names[2:4][2]


def test_what_is_pickled_is_the_path(words, tmp_path):
    stored.write(tmp_path / "large", stored.encode("names", ["x" * 99] * 5000), {}, "1")
    names = Names(Arrays(tmp_path / "large"))[10:4000]
    packed = pickle.dumps(names)
    assert len(packed) < 1000 and pickle.loads(packed) == names
    stored.write(tmp_path / "large", stored.encode("names", ["y"] * 5000), {}, "2")
    with pytest.raises(UserError, match="large was made anew while it was in use"):
        pickle.loads(packed)


def test_what_is_hashed_of_names_is_that_of_a_list(words):
    for chosen in (slice(0, 4), slice(5, 25), slice(3, 3), np.array([5, 2, 8])):
        names = Names(words, rows=chosen)
        assert b"".join(stored.joined(names)) == "\n".join(names).encode() == b"".join(stored.joined(list(names)))


def test_columns_are_decoded_for_their_rows(words):
    columns = Columns(words, ["odd"], slice(3, 7))
    assert columns["odd"].tolist() == ["False", "False", "True", "True"] and list(columns) == ["odd"]
    assert Columns(words, [], slice(0, 2)) == {}
    with pytest.raises(KeyError):
        columns["even"]


def test_rows_of_rows():
    for rows in (slice(10, 20), np.arange(10, 20)):
        for part in (slice(2, 5), slice(None, None, 3), np.array([7, 1])):
            assert np.arange(30)[stored.narrowed(rows, part)].tolist() == np.arange(10, 20)[part].tolist()
