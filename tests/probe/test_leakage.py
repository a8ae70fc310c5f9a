"""Test items that were learned from: counted by content, or refused where a task says so."""

import json

import numpy as np
import pytest
import torch
from conftest import compose
from worlds import Framed, Held, Items, spoken, waves

from sslzoo.data.text_splits import TextBlocks
from sslzoo.errors import UserError
from sslzoo.probe.evaluate import Probe
from sslzoo.probe.leakage import leakage
from sslzoo.probe.splits import ByItem, Official, Pool
from sslzoo.probe.subject import ProbeSubject
from sslzoo.probe.tasks import Task
from sslzoo.progress import quiet
from sslzoo.report.page import write
from sslzoo.run import Run, write_json


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))


def places(data):
    pool = Pool(data)
    return pool, {name: np.flatnonzero(pool.part == name) for name in ("train", "test")}


def test_items_are_counted_by_content_whatever_their_names():
    data, before = spoken((20, 5, 10)), spoken((30, 5, 5))
    for test, train in ((2, 11), (7, 3)):
        before.splits["train"].items[train] = data.splits["test"].items[test].clone()
    before.splits["train"].lengths = np.array([len(x) for x in before.splits["train"].items])
    almost = data.splits["test"].items[5].clone()
    almost[0] += 1e-6
    before.splits["train"].items[1], before.splits["train"].lengths[1] = almost, len(almost)
    found = leakage(*places(data), before, quiet, 100)
    assert (found["items"], found["of"], found["such_as"]) == (2, 10, ["2/2", "2/7"])
    assert found["said"] == "2 of 10 test items lie in the pretraining set, such as 2/2"
    lengths = {len(x) for x in data.splits["test"].items}
    assert {len(before.splits["train"].items[i]) for i in before.splits["train"].read_at} <= lengths
    assert leakage(*places(spoken((20, 5, 10))), spoken((30, 5, 5)), quiet, 100)["said"].startswith(
        "none of 10 test items"
    )


def test_what_cannot_be_counted_is_said():
    data = spoken((20, 5, 10))

    class Gone(Held):
        def split(self, name):
            raise UserError("there is no folder x")

    gone = Gone(None, None, None)
    assert (
        "not counted: the pretraining set cannot be read: there is no folder x"
        in leakage(*places(data), gone, quiet, 9)["said"]
    )
    same = [torch.zeros(3)] * 10
    many = Held(Items(same), Items(same), Items(same))
    assert (
        "10 pretraining items may be in test, and 9 are read at most: set"
        in leakage(*places(many), many, quiet, 9)["said"]
    )
    blocks = object.__new__(TextBlocks)
    assert "a running text" in leakage(*places(data), Held(blocks, None, None), quiet, 9)["said"]


def test_speakers_of_test_in_train_are_counted():
    data = spoken((20, 5, 10))
    for name, who in (("train", "ab"), ("valid", "cd"), ("test", "bxy")):
        split = data.splits[name]
        split.columns["speaker"] = np.array([who[i % len(who)] for i in range(len(split))])
    found = leakage(*places(data), data, quiet, 100)
    assert found["speakers"] == [1, 3] and found["said"].endswith("; 1 of 3 speakers of test are in train")
    task = Task("word", "word", ["speech"], split=Official("speaker"))
    with pytest.raises(
        UserError, match=r"1 of 'speaker' are in train and in test.*: b — set task/split=by_group task.split.c"
    ):
        task.prepare(Pool(data), 5)
    data.splits["test"].columns["speaker"] = np.full(10, "z")
    assert len(task.prepare(Pool(data), 5).parts["test"]) == 10
    with pytest.raises(UserError, match="no labels 'sex'"):
        Task("word", "word", ["speech"], split=Official("sex")).prepare(Pool(data), 5)


def test_a_new_split_of_the_pretraining_data_is_named_in_results_and_report(tmp_path):
    items, labels = waves(60, 0)
    parts = [Items(items[a:b], {"word": labels[a:b]}) for a, b in ((0, 40), (40, 50), (50, 60))]
    data = Held(*parts, sample_rate=16000)
    task = Task("word", "word", ["speech"], split=ByItem())
    result = Probe([1.0])(ProbeSubject({"pretrained": Framed()}, data), task)
    found = result["pretrained"]["leakage"]
    assert "leakage" not in result["raw"] and 0 < found["items"] < found["of"] == result["pretrained"]["n_test"]
    run = Run(tmp_path / "run")
    write_json(run.probes / "word.json", result)
    (run.folder / "config.yaml").write_text("seed: 0\n")
    write([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Seen before" in page and found["said"] in page
    assert json.loads((run.probes / "word.json").read_text())["pretrained"]["leakage"] == found


def test_the_keyword_task_keeps_speakers_apart():
    config = compose("run=x", "task=keyword", "task.data.path=x", command="probe")
    assert config["task"]["split"]["disjoint"] == "speaker"
    assert compose("run=x", "task=word", command="probe")["task"]["split"].get("disjoint") is None
