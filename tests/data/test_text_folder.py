import pytest
from given import own_cache, warnings  # noqa: F401

from sslzoo.data.corpus import PlainText
from sslzoo.data.sampler import ByCount
from sslzoo.data.text_folder import TextFolder
from sslzoo.errors import UserError


def write(root, files: dict[str, str]):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def folder(root, **how):
    return TextFolder(str(root), ByCount(4), vocab_size=100, **how)


@pytest.fixture
def reviews(tmp_path):
    """As IMDb's lies on disk."""
    files = {f"train/{kind}/{i}_9.txt": f"{kind} film {i}" for kind in ("pos", "neg", "unsup") for i in range(8)}
    files |= {f"test/{kind}/{i}_1.txt": f"{kind} play {i}" for kind in ("pos", "neg") for i in range(3)}
    return write(tmp_path, files | {"train/urls_pos.txt": "an address", "imdbEr.txt": "0.1"})


def test_a_labelled_folder_with_texts_without_labels(reviews, warnings):  # noqa: F811
    data = folder(reviews)
    found = {name: data.texts(name) for name in ("train", "valid", "test")}
    assert sorted(found["test"].texts) == sorted(f"{kind} play {i}" for kind in ("pos", "neg") for i in range(3))
    train = [*found["train"].texts, *found["valid"].texts]
    assert len(train) == 24 and {text.split()[0] for text in train} == {"pos", "neg", "unsup"}
    for texts in found.values():
        kinds = ["" if text.startswith("unsup") else text.split()[0] for text in texts.texts]
        assert texts.columns["label"].tolist() == kinds
    assert warnings() == f"{reviews}: 2 .txt files beside folders of classes are left out, such as imdbEr.txt"
    split = data.split("test")
    assert split.columns["label"][split.names.index("test/neg/2_1.txt")] == "neg"


@pytest.mark.parametrize("kind", [TextFolder, PlainText])
def test_a_text_that_is_in_two_splits_is_said(reviews, warnings, kind):  # noqa: F811
    (reviews / "test/neg/0_1.txt").write_text("pos film 3")
    data = kind(str(reviews), ByCount(4), vocab_size=100)
    for name in ("train", "valid", "test"):
        data.split(name)
    if kind is TextFolder:
        part = "train" if "pos film 3" in data.texts("train").texts else "valid"
        assert f"1 of 6 test texts are in {part}, too, such as test/neg/0_1.txt" in warnings()
    else:
        assert (
            "1 file has the content of a file of another split, such as test/neg/0_1.txt (test), which is" in warnings()
        )


def test_classes_alone_and_no_classes(tmp_path):
    classes = write(tmp_path / "a", {f"{'xy'[i % 2]}/{i}.txt": f"text {i}" for i in range(12)})
    assert set(folder(classes).texts("train").columns["label"]) == {"x", "y"}
    bare = write(tmp_path / "b", {f"{'train' if i else 'test'}/{i}.txt": f"text {i}" for i in range(12)})
    assert folder(bare).texts("test").texts == ["text 0"] and not folder(bare).texts("test").columns
    named = folder(bare, labels_from="{number}")
    assert named.texts("test").columns["number"].tolist() == ["0"]


def test_bad_files_are_named_and_left_out_only_if_that_is_allowed(reviews, warnings):  # noqa: F811
    (reviews / "test/pos/0_1.txt").write_text(" \n")
    (reviews / "test/pos/1_1.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"0_1.txt is empty \(and 1 more like it\)"):
        folder(reviews).texts("test")
    assert len(folder(reviews, on_error="skip").texts("test").texts) == 4
    assert "1_1.txt is not UTF-8" in warnings()


def test_another_file_is_another_content(reviews):
    before = folder(reviews).fingerprint("test")
    assert folder(reviews).fingerprint("test") == before
    (reviews / "test/pos/0_1.txt").write_text("changed and longer")
    assert folder(reviews).fingerprint("test") != before


def plain(root):
    data = PlainText(str(root), ByCount(4), vocab_size=100, max_tokens=16)
    return {name: data.texts(name) for name in ("train", "valid", "test")}


def test_plain_text_finds_its_splits_in_files_and_folders(tmp_path):
    texts = {"train": "one two\n" * 9, "valid": "three four\n" * 9, "test": "five six\n" * 9}
    files = plain(write(tmp_path / "files", {f"{name}.txt": text for name, text in texts.items()}))
    folders = plain(write(tmp_path / "folders", {f"{name}/a.txt": text for name, text in texts.items()}))
    for found in (files, folders):
        assert {name: found[name].texts for name in texts} == {name: [text] for name, text in texts.items()}


def test_texts_that_are_packed_are_said(reviews, warnings):  # noqa: F811
    (reviews / "train" / "more.txt.bz2").touch()
    folder(reviews).texts("train")
    assert "1 .bz2 file cannot be read and is left out: unpack" in warnings()
    plain(reviews)
    assert warnings().count("1 .bz2 file") == 2


def test_of_many_short_texts_whole_ones_are_held_out(tmp_path):
    """A twentieth of each would be no sentence."""
    texts = {f"{i}.txt": f"text {i} is short" for i in range(60)}
    found = plain(write(tmp_path / "flat", texts))
    assert sorted(text for split in found.values() for text in split.texts) == sorted(texts.values())
    assert all(split.texts for split in found.values())
    split = plain(
        write(tmp_path / "split", {f"{'train' if i % 2 else 'test'}/{i}.txt": f"text {i}" for i in range(60)})
    )
    assert split["test"].texts == [f"text {i}" for i in sorted(range(0, 60, 2), key=str)] and split["valid"].texts
    long = plain(write(tmp_path / "long", {f"{i}.txt": f"line {i}\n" * 300 for i in range(20)}))
    assert {name: len(split.texts) for name, split in long.items()} == dict.fromkeys(long, 20)
