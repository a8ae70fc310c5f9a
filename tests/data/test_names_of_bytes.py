"""Files whose names are not UTF-8, as old archives hold them."""

import csv
import os
import pickle

import pytest
from given import own_cache, write_audio  # noqa: F401

from sslzoo import rng
from sslzoo.data.audio import AudioFolder
from sslzoo.data.corpus import PlainText
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text_folder import TextFolder
from sslzoo.data.token_store import Strings
from sslzoo.features import extract

NAME = os.fsdecode(b"caf\xe9")


@pytest.fixture
def root(tmp_path):
    try:
        (tmp_path / NAME).mkdir()
    except OSError:
        pytest.skip("this file system holds names of UTF-8 alone")
    return tmp_path


def test_sounds(root):
    for i in range(12):
        write_audio(root / f"{i}.wav", 0.2, seed=i).rename(root / NAME / f"{i}{NAME}.wav")
    data = AudioFolder(str(root), BySeconds(9.0), labels_from="{n:*}")
    train = pickle.loads(pickle.dumps(data.split("train")))
    assert train.names[0].startswith(f"{NAME}/") and train.read(0).shape == (3200,)
    assert set(train.columns["folder"]) == {NAME} and NAME in train.columns["n"][0]


def test_texts(root):
    for i in range(12):
        (root / NAME / f"{i}{NAME}.txt").write_text(f"text number {i}")
    labelled = TextFolder(str(root), ByCount(4), vocab_size=60).split("train")
    assert labelled.names[0].startswith(f"{NAME}/") and set(labelled.columns["label"]) == {NAME}
    assert len(PlainText(str(root), ByCount(4), vocab_size=60, max_tokens=16).texts("train").texts) == 12


def test_names_are_kept_as_they_are(tmp_path):
    assert Strings(*Strings.pack([NAME, "é"]))[:] == [NAME, "é"]
    assert rng.derive_seed("test", NAME) == rng.derive_seed("test", NAME) != rng.derive_seed("test", "caf")
    extract._write_rows(tmp_path / "index.csv", ("item", "file"), [(NAME, "features-00000.npy")])
    with open(tmp_path / "index.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert list(csv.reader(file))[1][0] == NAME
