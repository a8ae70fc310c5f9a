"""The validation loss: what it is the mean of, when it is taken, and that taking it changes nothing."""

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny
from test_contracts import ready
from tiny_sets import TinyText
from two_ranks import on_ranks

from sslzoo import rng
from sslzoo.build import build, write_config
from sslzoo.data.base import Split
from sslzoo.data.loader import collate, ordered_loader
from sslzoo.data.sampler import ByCount
from sslzoo.errors import UserError
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import launch
from sslzoo.train.cadence import Cadence
from sslzoo.train.validate import Validate, evaluating, some_items


def train(folder: Path, objective: str, *overrides: str):
    config = tiny(objective, "trainer.max_steps=6", "trainer.log_every=10", *overrides)
    config = {k: v for k, v in config.items() if k not in ("name", "root")}
    run, job = Run(folder), build(config)
    write_config(run, config)
    launch.pretrain(job, run)
    with open(run.metrics, newline="") as file:
        return run, job, list(csv.DictReader(file))


@pytest.mark.parametrize("objective", ["gpt", "bert"])
def test_it_is_the_mean_over_every_item_of_the_split_at_the_last_step(objective, tmp_path):
    """`val_every` does not divide the steps, nor the batch the split; items count by what is asked of them."""
    run, job, rows = train(tmp_path, objective, "trainer.val_every=4", "data.batch.size=7")
    assert [(r["step"], bool(r["val_loss"])) for r in rows] == [("0", False), ("3", True), ("5", True)]
    split, total, count = job.data.split("valid"), 0.0, 0
    job.encoder.eval()
    job.objective.eval()
    for i in range(len(split)):
        with torch.no_grad():
            loss = job.objective(
                job.encoder, collate([split.item(i, rng.derive_seed(rng.derive_seed(0, "valid"), i))]), 5
            )
        if loss.count:
            total, count = total + float(loss.value) * loss.count, count + loss.count
    assert float(rows[-1]["val_loss"]) == pytest.approx(total / count, abs=1e-5)
    logs = json.loads(run.summary.read_text())["logs"]
    assert logs["val_loss"] == pytest.approx(total / count, abs=1e-5) and "loss" in logs


def test_by_default_a_run_validates_a_little_and_learns_the_same(tmp_path):
    """Every tenth of the run, ten steps at least, on some items of the split; and at its last step."""
    how = ["+encoder.trunk.dropout=0.3", "trainer.log_every=8", "trainer.max_steps=24", "data.batch.size=4"]
    plain, _, _ = train(tmp_path / "plain", "gpt", *how)
    auto, _, rows = train(tmp_path / "auto", "gpt", *how, "trainer.val_every=auto")
    assert [int(r["step"]) for r in rows if r["val_loss"]] == [9, 19, 23]
    assert all(0 <= float(r["val_accuracy"]) <= 1 for r in rows if r["val_loss"])
    assert plain.weights.read_bytes() == auto.weights.read_bytes()
    assert compose_default("trainer.val_every") == "auto"


def compose_default(key: str):
    from conftest import compose

    node = compose("objective=gpt", "data=tiny_text", "encoder=tiny_gpt")
    for word in key.split("."):
        node = node[word]
    return node


def test_some_items_fill_a_batch_for_fifty_steps():
    lengths = np.arange(1, 1001)
    few = some_items(lengths, ByCount(4), 100, 1, 1, seed=0)
    assert lengths[few].sum() <= 2 * 4 * 1000, "two batches, padded"
    assert len(np.unique(few)) == len(few) > 8
    assert few.tolist() == some_items(lengths, ByCount(4), 100, 1, 1, seed=0).tolist()
    assert few.tolist() != some_items(lengths, ByCount(4), 100, 1, 1, seed=1).tolist()
    most = some_items(np.ones(1000, int), ByCount(4), 10**6, 1, 1, seed=0)
    assert len(most) == 8 * 4
    assert (lengths[some_items(lengths, ByCount(4), 10**6, 1, 990, seed=0)] >= 990).all()
    assert len(some_items(lengths, ByCount(4), 100, 12, 990, seed=0)) == 0, "eleven items, and a loss needs twelve"
    assert len(some_items(np.ones(9, int), ByCount(4), 10, 8, 1, seed=0)) == 8, "as many as the loss needs"


def test_a_split_that_cannot_be_measured_is_said_and_no_reason_to_stop(tmp_path, monkeypatch, capsys):
    def absent(self, name):
        if name == "valid":
            raise UserError("there is no valid split here")
        return split(self, name)

    split = TinyText.split
    monkeypatch.setattr(TinyText, "split", absent)
    run, _, rows = train(tmp_path / "run", "gpt", "trainer.val_every=auto")
    assert run.done and "val_loss" not in rows[0]
    assert "no validation in this run: there is no valid split here" in capsys.readouterr().err


def test_an_item_that_cannot_be_read_is_replaced_where_the_run_skips(tmp_path):
    class Holed(First):
        on_error = "skip"

        def __init__(self, split, items):
            super().__init__(split, items)
            whole, self.item = self.item, self.holed
            self.whole = whole

        def holed(self, index, seed=None):
            if index == 1:
                raise UserError("item 1 is bad")
            return self.whole(index, seed)

    data = build({k: v for k, v in tiny("gpt").items() if k not in ("name", "root")}).data
    batches = list(ordered_loader(Holed(data.split("valid"), 6), 10**6, seed=0))
    assert sum(map(len, batches)) == 6 and sum(b.skipped for b in batches) == 1


def test_taking_it_changes_nothing(tmp_path):
    """Not even what dropout draws."""
    how = ["+encoder.trunk.dropout=0.3", "trainer.log_every=1"]
    plain, _, a = train(tmp_path / "plain", "gpt", *how)
    watched, _, b = train(tmp_path / "watched", "gpt", *how, "trainer.val_every=2")
    assert [r["loss"] for r in a] == [r["loss"] for r in b] and len(a) == 6
    assert plain.weights.read_bytes() == watched.weights.read_bytes()


def test_a_stopped_run_measures_where_the_whole_one_does(tmp_path, monkeypatch):
    how = ["trainer.val_every=2", "trainer.save_every=2"]
    _, _, whole = train(tmp_path / "whole", "gpt", *how)
    step = Pretrain.optimizer_step

    def signalled(self, *args, **kwargs):
        if self.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Pretrain, "optimizer_step", signalled)
    with pytest.raises(UserError, match="at step 3"):
        train(tmp_path / "parts", "gpt", *how)
    monkeypatch.setattr(Pretrain, "optimizer_step", step)
    assert train(tmp_path / "parts", "gpt", *how)[2] == whole


def test_what_was_at_rest_stays_so(tmp_path, monkeypatch):
    """A part that was in eval mode during training, such as a teacher, is so again."""
    seen = []
    measure = Validate.measure

    def watching(self, module):
        seen.append({name: m.training for name, m in module.named_modules()})
        return measure(self, module)

    monkeypatch.setattr(Validate, "measure", watching)
    training = Pretrain.training_step

    def at_rest(self, batch, batch_idx):
        modes = {name: m.training for name, m in self.named_modules()}
        assert modes["encoder"] and (self.global_step == 0 or not modes["encoder.trunk.drop"])
        self.encoder.trunk.drop.eval()
        return training(self, batch, batch_idx)

    monkeypatch.setattr(Pretrain, "training_step", at_rest)
    train(tmp_path, "gpt", "trainer.val_every=3")
    assert len(seen) == 2 and not any(any(modes.values()) for modes in seen)


def test_a_split_with_nothing_to_measure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sslzoo.train.validate.ordered_loader", lambda *args, **how: [])
    with pytest.raises(UserError, match="too small to measure a loss on: set trainer.val_every=null"):
        train(tmp_path, "gpt", "trainer.val_every=3")


class First(Split):
    """The first items of a split."""

    def __init__(self, split, items: int):
        self.lengths, self.cut, self.item = split.lengths[:items], split.cut, split.item


def test_the_number_of_ranks_changes_nothing(objective, tmp_path, monkeypatch):
    """Of an odd number of items, of which one makes a batch alone where the loss may be of one; and of so few that
    not every rank has some. What a loss compares a row with is the same too."""
    job = ready(tiny(objective))
    units = (3 if job.data.modality == "image" else 1.9) * job.data.split("valid").cut_lengths.max()
    monkeypatch.setattr(job.data.batch, "units", lambda lengths: units)
    least = job.objective.min_batch
    splits = [First(job.data.split("valid"), items) for items in (25, max(least, 2))]
    many, few = ([len(batch) for batch in ordered_loader(split, units, 0, smallest=least)] for split in splits)
    assert len(many) >= 3 and sum(many) == 25 and (min(many) == 1 if least == 1 else min(many) >= least)
    assert len(few) < 3

    def work(rank):
        module = Pretrain(job.encoder, job.objective, job.optim, 0, 10)
        with evaluating(module), torch.no_grad():
            return torch.tensor(
                [Validate(job.data, split, 0, Cadence(steps=1)).measure(module)["val_loss"] for split in splits]
            ).double()

    one = work(0)
    assert one.isfinite().all() and one.all()
    for found in on_ranks(work, tmp_path / "three", 3):
        torch.testing.assert_close(found, one, rtol=1e-6, atol=0)


def test_a_split_with_too_few_items_is_refused_before_the_first_step(tmp_path, monkeypatch):
    class One(Validate):
        def __init__(self, data, split, *how):
            super().__init__(data, First(split, 1), *how)

    monkeypatch.setattr("sslzoo.build.Validate", One)
    with pytest.raises(UserError, match=r"has 1 items, fewer than the 2 .* needs: set trainer.val_every=null"):
        train(tmp_path, "simclr", "trainer.val_every=3")
    assert not Run(tmp_path).metrics.exists()
