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


def laid(*names):
    """(split, inner) of each file."""
    found = splits.layout(names, "in")
    return list(zip(found.split, found.inner, strict=True))


def test_folders_are_splits_where_there_is_a_train_and_a_test_or_valid():
    assert laid("train/a/1.jpg", "Dev/a/2.jpg", "test/3.jpg") == [
        ("train", "a/1.jpg"),
        ("valid", "a/2.jpg"),
        ("test", "3.jpg"),
    ]
    assert laid("train/a/1.jpg", "train/b/2.jpg") == [("train", "a/1.jpg"), ("train", "b/2.jpg")]
    assert laid("set/train/a/1.jpg", "set/val/a/2.jpg") == [("train", "a/1.jpg"), ("valid", "a/2.jpg")]


@pytest.mark.parametrize("names", [["test/1.jpg", "exam/2.jpg"], ["bus/1.jpg", "car/2.jpg", "train/3.jpg"], ["test/1"]])
def test_folders_are_classes_where_it_is_not_plain(names):
    found = splits.layout(names, "in")
    assert found.split == ["train"] * len(names) and found.inner == names
    assert len(found.notes) == (len(names) > 1) and all("is taken for a class" in note for note in found.notes)


@pytest.mark.parametrize(
    "names, says",
    [
        (["train/1.jpg", "test/2.jpg", "bus/3.jpg"], "test/, train/, and bus/ — move the others away"),
        (["train/a/1.jpg", "noise/2.jpg"], "train/, and noise/"),
        (["val/1.jpg", "test/2.jpg", "bus/3.jpg"], "test/, val/, and bus/"),
        (["val/1.jpg", "test/2.jpg"], "in has test/, val/, but no train/"),
    ],
)
def test_a_top_level_of_splits_and_classes_is_refused(names, says):
    with pytest.raises(UserError, match=says):
        splits.layout(names, "in")


def test_what_is_unlabelled_is_trained_on_and_has_no_class():
    found = splits.layout(["train/a/1", "test/a/2", "unlabeled/b/3", "train/unsup/4", "5"], "in")
    assert found.split == ["train", "test", "train", "train", "train"]
    assert found.first_folders() == ["a", "a", "", "", ""]
    assert found.said() == ["in: 1 file lies beside test/, train/: used for training"]
    alone = splits.layout(["pos/1", "neg/2", "unsup/3"], "in")
    assert alone.split == ["train"] * 3 and alone.first_folders() == ["pos", "neg", ""] and not alone.notes


def test_a_test_folder_without_classes_has_no_labels():
    flat = splits.layout(["train/a/1", "train/b/2", "test/3", "val/images/4"], "in")
    assert flat.first_folders() == ["a", "b", "", ""]
    assert flat.notes == ["all of valid is in images/, no class of train: it has no labels"]


def test_eval_is_test_beside_another_validation_split():
    assert splits.named(["train", "eval"]) == {"train": "train", "eval": "valid"}
    assert splits.named(["train", "dev", "eval"])["eval"] == "test"
    assert splits.named(["train", "dev", "eval", "test"])["eval"] == "valid"


@pytest.mark.parametrize(
    "names, parts",
    [
        (["test.txt", "train.txt", "valid.txt"], ["test", "train", "valid"]),
        (["ptb.dev.txt", "ptb.train.txt"], ["valid", "train"]),
        (["test.txt", "train-00-of-02.txt", "train-01-of-02.txt"], ["test", "train", "train"]),
        (["en.test.txt", "en.train.txt", "fr.train.txt", "fr.val.txt"], ["test", "train", "train", "valid"]),
        (["train.txt"], None),
        (["test.txt", "valid.txt"], None),
        (["the_train.txt", "a_test.txt"], None),
        (["train/1.txt", "test/2.txt"], None),
    ],
)
def test_files_are_splits_by_a_word_of_their_names(names, parts):
    assert splits.by_file(names, "in") == parts


def test_other_files_beside_those_of_splits_are_refused():
    with pytest.raises(
        UserError, match="others beside them: a/b.txt, notes.txt — move those away, or say .*data.files"
    ):
        splits.by_file(["a/b.txt", "notes.txt", "test.txt", "train.txt"], "in")
