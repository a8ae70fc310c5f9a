"""The validation loss: what it is the mean of, when it is taken, and that taking it changes nothing."""

import csv
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import tiny
from test_contracts import ready
from two_ranks import on_ranks

from sslzoo import rng
from sslzoo.build import build, write_config
from sslzoo.data.base import Split
from sslzoo.data.loader import collate, ordered_loader
from sslzoo.errors import UserError
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import launch
from sslzoo.train.cadence import Cadence
from sslzoo.train.validate import Validate, evaluating


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
    measure = Validate.loss

    def watching(self, module):
        seen.append({name: m.training for name, m in module.named_modules()})
        return measure(self, module)

    monkeypatch.setattr(Validate, "loss", watching)
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
                [Validate(job.data, split, 0, Cadence(steps=1)).loss(module) for split in splits]
            ).double()

    one = work(0)
    assert one.isfinite().all() and one.all()
    for world in (2, 3):
        for found in on_ranks(work, tmp_path / f"{world}", world):
            torch.testing.assert_close(found, one, rtol=1e-6, atol=0)


def test_a_split_with_too_few_items_is_refused_before_the_first_step(tmp_path, monkeypatch):
    class One(Validate):
        def __init__(self, data, split, *how):
            super().__init__(data, First(split, 1), *how)

    monkeypatch.setattr(launch, "Validate", One)
    with pytest.raises(UserError, match=r"has 1 items, fewer than the 2 .* needs: set trainer.val_every=null"):
        train(tmp_path, "simclr", "trainer.val_every=3")
    assert not Run(tmp_path).metrics.exists()
