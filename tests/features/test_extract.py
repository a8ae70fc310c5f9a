import csv
import json

import numpy as np
import pytest
import torch
from worlds import Framed, spoken

from sslzoo.data.content import digest_of, item_hashes
from sslzoo.errors import ConfigError, UserError
from sslzoo.features import extract as module
from sslzoo.features.extract import extract
from sslzoo.run import sha256


def rows_of(folder):
    with open(folder / "index.csv", newline="") as file:
        for row in csv.DictReader(file):
            start, count = int(row["start"]), int(row["rows"])
            yield row["item"], np.load(folder / row["file"], mmap_mode="r")[start : start + count]


@pytest.mark.parametrize("layer, kept", [("all", [0, 1, 2]), (1, [1]), (-1, [2])])
def test_every_items_tokens_are_there(tmp_path, layer, kept):
    data, encoder = spoken((20, 5, 5)), Framed(prefix=1)
    about = extract(encoder, data, "train", tmp_path / "out", layer)
    found = dict(rows_of(tmp_path / "out"))
    assert sorted(found) == sorted(data.splits["train"].names)
    for name, item in zip(data.splits["train"].names, data.splits["train"].items, strict=True):
        hidden = encoder(item[None], torch.tensor([len(item)])).hidden
        slow = torch.stack([hidden[k][0, 1:] for k in kept], 1).detach()
        np.testing.assert_allclose(found[name], slow, atol=1e-6)
    assert about == json.loads((tmp_path / "out" / "about.json").read_text())
    assert about["layers"] == [str(k) for k in kept] and about["rows"] == sum(map(len, found.values()))


def test_an_items_mean_is_one_row(tmp_path):
    extract(Framed(), spoken((20, 5, 5)), "test", tmp_path / "out", what="items")
    assert [rows.shape for _, rows in rows_of(tmp_path / "out")] == [(1, 3, 2)] * 5


def test_what_is_long_is_cut_into_files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FILE_BYTES", 200)
    monkeypatch.setattr(module, "units", lambda data: 60)
    extract(Framed(), spoken((20, 5, 5)), "train", tmp_path / "many")
    monkeypatch.undo()
    extract(Framed(), spoken((20, 5, 5)), "train", tmp_path / "one")
    assert len(list((tmp_path / "many").glob("*.npy"))) > 2 and not list((tmp_path / "many").glob("*.list.json"))
    many, one = dict(rows_of(tmp_path / "many")), dict(rows_of(tmp_path / "one"))
    assert all(np.allclose(many[name], one[name], atol=1e-6) for name in one) and len(many) == len(one)


def test_bad_requests(tmp_path):
    data = spoken((20, 5, 5))
    for layer in (3, -4, "last", 1.0, True):
        with pytest.raises(ConfigError, match="layer must be all or from 0 to 2"):
            extract(Framed(), data, "train", tmp_path / "out", layer)
    encoder = Framed()
    encoder.offers = frozenset()
    with pytest.raises(ConfigError, match="has no tokens — set what=items"):
        extract(encoder, data, "train", tmp_path / "out")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="kept is not an empty folder"):
        extract(Framed(), data, "train", tmp_path / "kept")
    assert (tmp_path / "kept" / "mine.txt").read_text() == "mine" and not (tmp_path / "out").exists()


def test_labels_lie_beside_the_features(tmp_path):
    data = spoken((6, 5, 5))
    split = data.splits["test"]
    split.names[2] = "caf\udce9.wav"  # a file's name that is not UTF-8
    split.columns["split"] = np.array(["α, β"] * 5)
    about = extract(Framed(), data, "test", tmp_path / "out", what="items")
    tables = {}
    for name in ("labels", "index"):
        with open(tmp_path / "out" / f"{name}.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
            tables[name] = list(csv.DictReader(file))
    words = dict(zip(split.names, split.columns["word"], strict=True))
    assert [row["item"] for row in tables["index"]] == [row["item"] for row in tables["labels"]]
    assert {row["item"]: row["word"] for row in tables["labels"]} == words
    assert about["labels"] == ["word", "label.split"]
    assert {(row["split"], row["label.split"]) for row in tables["labels"]} == {("test", "α, β")}


def test_a_killed_extract_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FILE_BYTES", 200)
    monkeypatch.setattr(module, "units", lambda data: 60)
    about = extract(Framed(), spoken((20, 5, 5)), "train", tmp_path / "whole", format="safetensors")
    left = [5]

    class Mortal(module.Frozen):
        def encode(self, batch):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return super().encode(batch)

    monkeypatch.setattr(module, "Frozen", Mortal)
    with pytest.raises(KeyboardInterrupt):
        extract(Framed(), spoken((20, 5, 5)), "train", tmp_path / "killed", format="safetensors")
    before = sorted((tmp_path / "killed").glob("*.safetensors"))
    damaged = before[-1].read_bytes()
    before[-1].write_bytes(damaged[:-1] + bytes([damaged[-1] ^ 1]))
    stamps = [path.stat().st_mtime_ns for path in before[:-1]]
    assert len(before) > 1
    left[0] = 1000
    assert extract(Framed(), spoken((20, 5, 5)), "train", tmp_path / "killed", format="safetensors") == about
    assert [path.stat().st_mtime_ns for path in before[:-1]] == stamps
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes()
    left[0] = 0  # it is done: nothing is encoded
    assert extract(Framed(), spoken((20, 5, 5)), "train", tmp_path / "killed", format="safetensors") == about
    with pytest.raises(UserError, match="killed holds features of another layer and format — set out="):
        extract(Framed(), spoken((20, 5, 5)), "train", tmp_path / "killed", 1)


def test_the_manifest_says_what_the_features_are_of(tmp_path):
    about = extract(Framed(), spoken((20, 5, 5)), "test", tmp_path / "out", what="items")
    assert about["files"][0]["file"] == "features-00000.npy" and about["files"][0]["rows"] == 5
    assert about["files"][0]["sha256"] == sha256(tmp_path / "out" / "features-00000.npy")
    hashes = item_hashes(spoken((20, 5, 5)).splits["test"])
    assert about["content"] == digest_of(hashes)
    with open(tmp_path / "out" / "index.csv", newline="") as file:
        said = {row["item"]: int(row["content"], 16) for row in csv.DictReader(file)}
    assert said == dict(zip(spoken((20, 5, 5)).splits["test"].names, hashes.tolist(), strict=True))
    with pytest.raises(ConfigError, match="format must be npy or safetensors, got csv"):
        extract(Framed(), spoken((20, 5, 5)), "test", tmp_path / "out", format="csv")
