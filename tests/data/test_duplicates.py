import numpy as np
import pytest

from sslzoo.data import duplicates


def write(root, contents: dict[str, bytes]):
    for name, content in contents.items():
        (root / name).write_bytes(content)
    names = sorted(contents)
    return names, np.array([len(contents[name]) for name in names])


def said(root, contents, split):
    names, size = write(root, contents)
    return duplicates.across_splits(root, names, np.array([split[name] for name in names]), size)


def test_the_same_content_in_two_splits_is_counted(tmp_path):
    long, other = bytes(range(256)) * 40, bytes(range(256)) * 39 + bytes(256)  # alike in their middles
    contents = {"a": long, "b": long, "c": other, "d": b"one", "e": b"one", "f": b"two", "g": b"two", "h": long}
    split = dict(zip("abcdefgh", ["test", "train", "test", "train", "valid", "train", "train", "test"], strict=True))
    assert said(tmp_path, contents, split) == [
        f"{tmp_path}: 3 files have the content of a file of another split, such as a (test), which is b (train)"
    ]
    assert said(tmp_path, contents, dict.fromkeys("abcdefgh", "train") | {"c": "test"}) == []


def test_files_that_cannot_be_read_or_have_no_size_are_no_copies(tmp_path):
    names, size = write(tmp_path, {"a": b"one", "b": b"one"})
    split = np.array(["train", "test"])
    assert len(duplicates.across_splits(tmp_path, names, split, size)) == 1
    assert duplicates.across_splits(tmp_path, names, split, 0 * size) == []
    (tmp_path / "a").unlink()
    (tmp_path / "b").unlink()
    assert duplicates.across_splits(tmp_path, names, split, size) == []


@pytest.mark.parametrize("most, found", [(2, [2, 3]), (7, [2, 3]), (8, list(range(8)))])
def test_of_many_files_those_of_rare_sizes_are_opened(monkeypatch, most, found):
    monkeypatch.setattr(duplicates, "MOST", most)
    size = np.array([5, 5, 3, 3, 5, 5, 5, 5, 9])
    assert duplicates._shared(np.array([0, 1, 0, 1, 0, 1, 0, 1, 0]), size).tolist() == found


def test_texts_in_two_splits_are_counted():
    of = {"train": ["a", "b", "b"], "valid": ["c", " b\n"], "test": ["a", "b", "c", "d"]}
    found = {name: (duplicates.text_hashes(texts), [f"{name}.tsv:{i}" for i in range(9)]) for name, texts in of.items()}
    assert duplicates.texts_across(found) == [
        "1 of 2 valid texts are in train, too, such as valid.tsv:1",
        "2 of 4 test texts are in train, too, such as test.tsv:0",
        "2 of 4 test texts are in valid, too, such as test.tsv:1",
    ]
    pairs = duplicates.text_hashes(["a", "a", "a"], ["x", "y", "x"])
    assert pairs[0] == pairs[2] != pairs[1] and len(duplicates.text_hashes([])) == 0
