"""Few-shot samples: K items a class of train and of validation, and all of test."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import compose
from test_tasks import labels, silent
from tiny_tasks import tiny_run, tiny_task
from worlds import Held, Items

from sslzoo.adapt.command import run_adapt
from sslzoo.config import fingerprint
from sslzoo.data.base import Intervals
from sslzoo.errors import ConfigError, UserError
from sslzoo.probe.splits import ByItem, Pool
from sslzoo.probe.tasks import Task

COLUMN = ["a"] * 30 + ["b"] * 20 + ["c"] * 50


def parts(shots, seed=13, column=COLUMN, **settings):
    return Task("t", "x", shots=shots, split_seed=seed, **settings).prepare(silent(column, column, column), 1)


def test_shots_are_of_each_class_in_train_and_validation_and_test_is_whole():
    few = parts(4)
    for part in ("train", "valid"):
        assert sorted(labels(few, part)) == sorted("abc" * 4)
    assert labels(few, "test") == COLUMN
    assert len(parts(None).parts["train"]) == 100


def test_shots_depend_on_the_split_seed_alone_and_more_of_them_hold_the_fewer():
    taken = {seed: parts(4, seed).parts["train"].items.tolist() for seed in (13, 21, 42, 87, 100)}
    assert len(set(map(tuple, taken.values()))) == 5
    assert parts(4, 21).parts["train"].items.tolist() == taken[21]
    assert set(taken[21]) < set(parts(9, 21).parts["train"].items.tolist())
    renamed = Task("another", "x", shots=4, split_seed=21).prepare(silent(COLUMN, COLUMN, COLUMN), 1)
    assert renamed.parts["train"].items.tolist() == taken[21]
    assert set(parts(4, split=ByItem()).parts["test"].items) == set(parts(None, split=ByItem()).parts["test"].items)


def test_shots_larger_than_a_class_name_it():
    with pytest.raises(UserError, match="task t: train has 20 items of class 'b', and task.shots=21.*to 20 or less"):
        parts(21)
    few = Task("t", "x", shots=9).prepare(silent(COLUMN, ["a"] * 3 + ["b"] * 12, COLUMN), 1)
    assert sorted(labels(few, "valid")) == ["a"] * 3 + ["b"] * 9  # a smaller validation split is kept whole
    with pytest.raises(ConfigError, match="task t: shots must be 1 or more, or null for all items; got 0"):
        parts(0)


def test_shots_of_values_are_as_many_above_the_median_of_train_as_not():
    values = [float(i**2) for i in range(40)]
    few = parts(5, column=values, kind="regression", metric="pearson")
    for part in ("train", "valid"):
        found = few.parts[part].labels
        assert (found > np.median(values)).sum() == (found <= np.median(values)).sum() == 5
    assert len(few.parts["test"]) == 40
    with pytest.raises(UserError, match="train has 20 items of class '380.5 or less'"):
        parts(21, column=values, kind="regression", metric="pearson")


def test_shots_of_frames_are_items():
    stretch = Intervals(np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array(["a", "b"]))
    pool = Pool(Held(*(Items([torch.zeros(20)] * 9, intervals={"phone": [stretch] * 9}) for _ in range(3))))
    task = Task("t", "phone", kind="frames", shots=3)
    _, items, _, _ = task.prepare_tags(pool)
    assert [len(items[part]) for part in ("train", "valid", "test")] == [3, 3, 9]
    assert set(task.prepare(pool, 5).parts["train"].items) == set(items["train"])
    assert task.some_items("valid", 50).size == 3 and task.some_items("test", 50).size == 50


def test_adaptations_to_few_labels_have_folders_of_their_own(tmp_path):
    run, found = tmp_path / "run", {}
    shutil.copytree(tiny_run("tiny_image", "image").folder, run)
    for shots, seed in ((None, 13), (2, 13), (2, 21)):
        config = tiny_task("image-full", "trainer.max_steps=2", f"seed={seed % 2}")
        config["task"] |= {"shots": shots, "split_seed": seed}
        found[shots, seed] = run_adapt({**config, "run": str(run), "name": None}, {"method": "full"})
    assert [path.parent.name for path in found.values()] == [
        "tiny-full-s1",
        "tiny-full-2shot-13-s1",
        "tiny-full-2shot-21-s1",
    ]
    results = [json.loads(path.read_text()) for path in found.values()]
    classes = len(results[0]["classes"])
    assert [r["n_train"] == 2 * classes for r in results] == [False, True, True]
    assert len({r["n_test"] for r in results}) == 1


def test_a_task_of_all_labels_is_named_as_before():
    task = compose("run=x", "task=sst2", "task.data.path=here", command="adapt")["task"]
    assert task["shots"] is None and task["split_seed"] == 13
    older = {key: value for key, value in task.items() if key not in ("shots", "split_seed")}
    assert fingerprint({"task": task}) == fingerprint({"task": older})
    assert fingerprint({"task": {**task, "shots": 16}}) != fingerprint({"task": older})


def test_a_share_of_train_is_the_same_of_each_class():
    few = Task("t", "x", share=0.1).prepare(silent(COLUMN, COLUMN, COLUMN), 1)
    assert sorted(labels(few, "train")) == ["a"] * 3 + ["b"] * 2 + ["c"] * 5
    assert labels(few, "valid") == labels(few, "test") == COLUMN
    least = Task("t", "x", share=0.01).prepare(silent(COLUMN, COLUMN, COLUMN), 1)
    assert sorted(labels(least, "train")) == ["a", "b", "c"], "one of each at least"
    assert set(least.parts["train"].items) < set(few.parts["train"].items)
    other = Task("t", "x", share=0.1, split_seed=21).prepare(silent(COLUMN, COLUMN, COLUMN), 1)
    assert set(other.parts["train"].items) != set(few.parts["train"].items)
    for settings in ({"share": 0.0}, {"share": 1.5}, {"share": 0.1, "shots": 3}):
        with pytest.raises(ConfigError, match="task t: share is a part of train above 0, at most 1, and without shots"):
            Task("t", "x", **settings)
