"""SUPERB's classifications: balanced classes, several classes at once, folds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import compose
from test_contracts import batch_of
from tiny_tasks import tiny_task

from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import build_adapt
from sslzoo.cli.sweep_scores import Reached, over_seeds
from sslzoo.data.builtin.spoken import slots
from sslzoo.errors import ConfigError, UserError
from sslzoo.probe.splits import Fold
from sslzoo.run import Run


def job_of(config: dict):
    return build_adapt(config, Run(Path(config["run"])))


@pytest.mark.parametrize("name, count", [("ks", 32), ("sid", 32), ("ic", 32), ("er", 32), ("asr", 32), ("pr", 32)])
def test_a_protocol_is_a_frozen_encoder_with_adam_at_a_level_rate(name, count):
    config = compose("run=x", f"protocol=superb_{name}", command="adapt")
    assert config["method"]["_target_"].endswith("Head") and config["task"]["name"] == name
    assert config["batch"]["size"] == count and config["optim"]["schedule"]["_target_"].endswith("Constant")
    assert config["optim"]["weight_decay"] == 0 and config["trainer"]["gradient_clip"] == 1
    assert config["trainer"]["max_steps"] % config["trainer"]["val_every"] == 0
    assert config["objective"]["projection_dim"] == (1024 if name == "asr" else 256)
    assert config["objective"]["features"] == "layers"


def test_balanced_training_draws_each_class_equally_often(tmp_path):
    config = tiny_task(
        "speech-full", "objective.projection_dim=6", "batch={_target_:sslzoo.data.sampler.ByCount,size:8}"
    )
    config["task"] |= {"balanced": True}
    job = job_of(config)
    assert job.objective.chosen_by == "balanced_accuracy" and job.objective.head.in_features == 6
    split = job.data.split("train")
    assert (np.diff(split.labels) >= 0).all()
    drawn = np.bincount(split.labels[split.mixture.items(0, 0)], minlength=4)
    assert drawn.max() - drawn.min() <= 1 < np.ptp(np.bincount(split.labels))
    assert job.data.split("test").mixture is None and split.names.parts == job.data.classes
    found = run_adapt({**config, "trainer": {**config["trainer"], "max_steps": 1}, "name": "ks"}, {"method": "full"})
    assert "balanced_accuracy" in json.loads(found.read_text())["test"]
    with pytest.raises(ConfigError, match="balanced is for kind=classification"):
        job_of(tiny_task("speech-tags") | {"task": tiny_task("speech-tags")["task"] | {"balanced": True}})


@pytest.fixture(scope="module")
def several():
    config = tiny_task("speech-full", "head=classes", "objective.projection_dim=6", "trainer.max_steps=2")
    config["task"] |= {"kind": "classes", "label": "label+digits", "metric": "accuracy"}
    return config


def test_several_classes_are_right_only_together(several):
    job = job_of(several)
    task, batch = job.objective, batch_of(job, 0)
    assert task.sizes == [4, 4] and job.data.classes[:5] == ["label=0", "label=1", "label=2", "label=3", "digits=0"]
    labels = batch.targets["label"]
    assert labels.shape == (len(batch), 2) and torch.equal(labels[:, 0], labels[:, 1])
    logits = torch.randn(len(batch), 8, generator=torch.Generator().manual_seed(0))
    slow = [
        -sum(logits[b, 4 * k : 4 * k + 4].log_softmax(0)[labels[b, k]] for k in range(2)) for b in range(len(batch))
    ]
    torch.testing.assert_close(task.losses(logits, labels), torch.stack(slow))
    loss = task(job.encoder, batch, 0)
    loss.value.backward()
    assert loss.count == len(batch) and task.head.weight.grad.abs().sum() > 0
    train = job.data.split("train")
    assert task.chance(train, train) == np.bincount(train.labels[:, 0]).max() / len(train)
    numbers = np.array(task.eval().predict(job.encoder.eval(), batch))
    assert (numbers[:, 0] < 4).all() and (numbers[:, 1] >= 4).all()


def test_several_classes_from_command_to_result(several, capsys):
    found = json.loads(run_adapt({**several, "name": "ic"}, {"method": "full"}).read_text())
    assert {"accuracy", "accuracy_label", "accuracy_digits", "loss"} == set(found["test"])
    assert found["test"]["accuracy"] <= min(found["test"]["accuracy_label"], found["test"]["accuracy_digits"])
    several["task"]["label"] = "label+nothing"
    with pytest.raises(UserError, match="no labels 'nothing'"):
        run_adapt({**several, "name": "none"}, {"method": "full"})
    several["task"]["label"] = "label+digits"


def test_folds_hold_each_group_out_once():
    class Pool:
        part = np.repeat("train", 40)

        def column(self, name):
            return [f"s{i % 5}" for i in range(40)]

        def names(self):
            return [f"item {i}" for i in range(40)]

    places, seen = np.arange(40), []
    for fold in range(1, 6):
        parts = Fold("session", fold)(Pool(), places, None)
        assert sorted(np.concatenate(list(parts.values()))) == list(range(40))
        assert len({i % 5 for i in parts["test"]}) == 1 and len(parts["valid"]) == 6
        seen += parts["test"].tolist()
    assert sorted(seen) == list(range(40))
    with pytest.raises(UserError, match="5 groups of 'session' cannot be put in 6 folds"):
        Fold("session", 1, 6)(Pool(), places, None)
    with pytest.raises(ConfigError, match="fold is 1 to"):
        Fold("session", 6)


def test_a_sweep_over_folds_ends_with_their_mean(tmp_path):
    jobs = []
    for fold in range(1, 6):
        path = tmp_path / f"{fold}.json"
        said = {"metric": "accuracy", "valid": {"accuracy": 0.5}, "test": {"accuracy": fold / 10}, "chance": 0.25}
        path.write_text(json.dumps({**said, "trained_parameters": 1, "seconds": 1.0}))
        jobs.append(([f"task.split.fold={fold}"], Reached(0.5, str(path))))
    table = over_seeds(jobs)
    assert "over seeds and folds" in table and "30.0 ± 15.8" in table


def test_slots_of_spoken():
    found = slots(np.array(["on light", ""]), np.array(["turn on the kitchen light", "hall"]))
    assert [found[k].tolist() for k in ("action", "object", "location")] == [["on", ""], ["light", ""], ["kitchen", ""]]
