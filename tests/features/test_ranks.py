"""Ranks share the work of `extract` and `label`, and what they write is what one writes."""

import csv
import json

import numpy as np
import pytest
import torch
from tiny_sets import TinySpeech
from two_ranks import on_ranks
from worlds import Framed, spoken

from sslzoo.data.sampler import BySeconds
from sslzoo.features import extract as module
from sslzoo.features import ranks
from sslzoo.features.extract import extract
from sslzoo.label.make import label
from sslzoo.label.sources import Cepstra


class Speech(TinySpeech):
    def __init__(self):
        super().__init__(BySeconds(4.0), cut=None)
        self.held = {name: TinySpeech.split(self, "x" * i) for i, name in enumerate(("train", "valid", "test"))}

    def split(self, name):
        return self.held[name]


def table(folder):
    with open(folder / "index.csv", newline="") as file:
        return [(row["item"], row["file"], int(row["start"]), int(row["rows"])) for row in csv.DictReader(file)]


def rows(folder) -> dict:
    return {item: np.load(folder / file)[start : start + count] for item, file, start, count in table(folder)}


@pytest.mark.parametrize("world", [2, 3])
def test_extract(tmp_path, monkeypatch, world):
    monkeypatch.setattr(module, "units", lambda data: 60)
    data, encoder = spoken((20, 5, 5)), Framed()
    one = extract(encoder, data, "train", tmp_path / "one")
    on_ranks(lambda rank: extract(encoder, data, "train", tmp_path / "many")["rows"], tmp_path / "meet", world)
    ours, theirs = rows(tmp_path / "many"), rows(tmp_path / "one")
    assert sorted(ours) == sorted(theirs) and all(np.array_equal(ours[name], theirs[name]) for name in ours)
    about = json.loads((tmp_path / "many" / "about.json").read_text())
    assert len({file for _, file, *_ in table(tmp_path / "many")}) == world == len(about["files"])
    assert about | {"files": 0} == one | {"files": 0}
    with pytest.raises(Exception, match="features of another what"):  # on every rank, and none waits for another
        on_ranks(lambda rank: extract(encoder, data, "train", tmp_path / "many", what="items"), tmp_path / "2", world)


def test_label(tmp_path):
    data = Speech()
    how = {"clusters": 6, "sample": 500, "iterations": 3, "seconds": 1.0}
    one = label(Cepstra(16000), data, tmp_path / "one", **how)
    said = on_ranks(lambda rank: label(Cepstra(16000), data, tmp_path / "many", **how)["inertia"], tmp_path / "meet", 2)
    assert said[0] == said[1] == pytest.approx(one["inertia"], rel=1e-12)
    for path in (tmp_path / "one").glob("*"):
        if path.name != "label.json":
            assert path.read_bytes() == (tmp_path / "many" / path.name).read_bytes(), path.name


def test_alone_there_is_no_group(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # as SLURM's and others' leave it, without a rank
    with ranks.joined() as found:
        assert found == (0, 1) and not torch.distributed.is_initialized()
