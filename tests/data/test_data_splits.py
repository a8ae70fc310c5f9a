import numpy as np
import pytest

from sslzoo.data import splits
from sslzoo.errors import UserError

NAMES = [f"speaker{i % 50}/utterance{i}.wav" for i in range(1000)]


def test_what_is_missing_comes_from_training():
    filled = splits.fill(["train"] * 1000, NAMES, "here")
    counts = {name: int((filled == name).sum()) for name in ("train", "valid", "test")}
    assert sum(counts.values()) == 1000
    assert 60 < counts["valid"] < 140 and 60 < counts["test"] < 140


def test_what_is_there_stays():
    given = np.where(np.arange(1000) % 5 == 0, "test", "train")
    filled = splits.fill(given, NAMES, "here")
    assert ((filled == "test") == (given == "test")).all()
    assert (filled == "valid").any()
    whole = np.where(np.arange(1000) % 7 == 0, "valid", given)
    assert (splits.fill(whole, NAMES, "here") == whole).all()


def test_a_name_decides_alone():
    filled = splits.fill(["train"] * 1000, NAMES, "here")
    some = splits.fill(["train"] * 400, NAMES[300:700], "here")
    assert (some == filled[300:700]).all()
    order = np.random.default_rng(0).permutation(1000)
    assert (splits.fill(["train"] * 1000, [NAMES[i] for i in order], "here") == filled[order]).all()


def test_items_of_one_name_stay_together():
    speakers = [name.split("/")[0] for name in NAMES]
    filled = splits.fill(["train"] * 1000, speakers, "here")
    for speaker in set(speakers):
        assert len({f for f, s in zip(filled, speakers, strict=True) if s == speaker}) == 1


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_no_split_of_a_tiny_set_is_empty(count):
    for start in range(40):
        names = [f"{start}-{i}" for i in range(count)]
        assert set(splits.fill(["train"] * count, names, "here")) == {"train", "valid", "test"}


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "a", "a", "a"]])
def test_too_few_names(names):
    with pytest.raises(UserError, match="here has too few items to take a"):
        splits.fill(["train"] * len(names), names, "here")


def test_folders_are_splits_only_beside_a_training_folder():
    assert splits.from_folders(["train/a/1.jpg", "Dev/a/2.jpg", "test/3.jpg", "4.jpg"]) == (
        ["train", "valid", "test", "train"],
        ["a/1.jpg", "a/2.jpg", "3.jpg", "4.jpg"],
    )
    names = ["test/1.jpg", "exam/2.jpg"]
    assert splits.from_folders(names) == (["train", "train"], names)
