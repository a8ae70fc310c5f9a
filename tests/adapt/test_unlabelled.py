"""Texts without labels: which they are, and that no label of theirs is looked at."""

import numpy as np
import pytest
import torch
from conftest import compose

from sslzoo.adapt.data import Supervised
from sslzoo.adapt.unlabelled import SoftLabelledItems, TrainedOn, text_split, unlabelled_texts
from sslzoo.data.base import UNK
from sslzoo.errors import ConfigError, UserError
from sslzoo.nodes import make
from sslzoo.probe.splits import ByItem

TRAIN = [f"a {'fine' if i % 2 else 'dull'} film {i}" for i in range(30)]


class Poisoned(dict):
    """Label columns that must not be looked at."""

    def get(self, name, default=None):
        raise AssertionError("a label was read")

    __getitem__ = __contains__ = __iter__ = get


@pytest.fixture
def folder(tmp_path):
    for name, rows in (("train", TRAIN), ("dev", TRAIN[:6]), ("more", [f"one more {i}" for i in range(9)])):
        lines = [f"{text}\t{i % 2}" for i, text in enumerate(rows)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    (tmp_path / "bare.tsv").write_text("\n".join(["sentence", *(f"one more {i}" for i in range(9))]) + "\n")
    return tmp_path


def supervised(folder, **settings) -> Supervised:
    words = [f"data.path={folder}", "data.files={train: train.tsv, valid: dev.tsv, test: dev.tsv}"]
    words += ["data.text=sentence", "data.label=label", "data.vocab_size=120", "data.max_tokens=16"]
    config = compose("data=text_table", *words, "encoder=tiny_text")
    task = make({"_target_": "sslzoo.probe.tasks.Task", "name": "films", "label": "label", **settings})
    return Supervised(make(config["data"]), task, 1)


def test_they_are_the_train_items_in_no_part_and_their_labels_are_not_read(folder):
    data = supervised(folder, max_items=8)
    taken = {data.data.opened("train").texts[i] for i in data.pooled.parts["train"]}
    for split in data.pool.splits.values():
        split.columns = Poisoned()
    data.data.opened("train").columns = Poisoned()
    found = unlabelled_texts(data, None, 100)
    assert len(taken) == 8 and set(found.texts) == set(TRAIN) - taken and not found.columns
    some = unlabelled_texts(data, None, 5)
    assert len(some.texts) == 5 and set(some.texts) < set(found.texts)
    assert [found.texts[found.names.index(name)] for name in some.names] == some.texts


def test_a_new_split_leaves_out_its_own_validation_and_test(folder):
    data = supervised(folder)
    data.task.split, data.task.max_items = ByItem(), 6
    whole = supervised(folder)
    whole.task.split = ByItem()
    held = [whole.pooled.parts[part] for part in ("valid", "test")]
    names = set(np.array(whole.pool.names())[np.concatenate(held)])
    assert not names & set(unlabelled_texts(data, None, 100).names)


def test_a_file_with_labels_and_one_without_are_the_same_texts(folder):
    data = supervised(folder)
    one, two = (unlabelled_texts(data, file, 7) for file in ("more.tsv", "bare.tsv"))
    assert one.texts == two.texts and len(one.texts) == 7 and one.pairs is None


def test_none_left_and_no_texts_are_said(folder):
    with pytest.raises(UserError, match="all of train's items are labelled: set task.shots=16"):
        unlabelled_texts(supervised(folder), None, 100)
    with pytest.raises(UserError, match=r"cannot read .*absent.tsv"):
        unlabelled_texts(supervised(folder), "absent.tsv", 100)
    data = Supervised(
        make(compose("data=tiny_image", "encoder=tiny_image")["data"]), make({"_target_": "sslzoo.probe.tasks.Task"}), 1
    )
    with pytest.raises(ConfigError, match="unlabelled texts are read from data of texts"):
        unlabelled_texts(data, None, 100)


def test_soft_labels_replace_train_alone(folder):
    data = supervised(folder, max_items=8)
    split, cut = text_split(unlabelled_texts(data, None, 100), data.tokenizer, 16)
    assert cut == 0 and len(split) == 22
    q = np.random.default_rng(0).dirichlet([1, 1], 22)
    soft = TrainedOn(data, SoftLabelledItems(split, q))
    item, _, _, targets = soft.split("train").item(3)
    assert targets.keys() == {"probabilities"} and torch.allclose(targets["probabilities"], torch.tensor(q[3]).float())
    assert torch.equal(item, split.read(3)) and UNK not in item
    assert "label" in soft.split("valid").targets(0) and soft.classes == ["0", "1"]
