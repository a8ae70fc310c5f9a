"""A whole run on two ranks ends where one rank ends, and leaves one folder."""

import csv
import json
import os
import signal

import pytest
import torch
from conftest import tiny
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from safetensors.torch import load_file
from test_contracts import assert_equal
from torch.multiprocessing import ProcessRaisedException

from sslzoo.build import build, write_config
from sslzoo.errors import Stopped, UserError
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run, check_signed
from sslzoo.train import launch
from sslzoo.train.checkpoint import latest_checkpoint
from sslzoo.train.finish import GracefulStop

TWO = ["trainer=ddp", "trainer.strategy=ddp_fork", "trainer.accelerator=cpu", "trainer.devices=2"]


def start(run: Run, objective: str, *overrides: str) -> Run:
    # SGD, in whose steps rounding stays as small as it is; Adam makes much of it
    small = [
        "optim=sgd",
        "trainer.max_steps=4",
        "trainer.save_every=2",
        "trainer.log_every=1",
        "trainer.val_every=4",
    ]
    config = tiny(objective, *small, *overrides)
    config = {k: v for k, v in config.items() if k not in ("name", "root")}
    if objective == "wav2vec2":
        config["objective"]["feature_dropout"] = 0.0  # ranks draw dropout for themselves
    job = build(config)
    write_config(run, config)
    launch.pretrain(job, run)
    return run


def test_two_ranks_follow_one(objective, tmp_path, monkeypatch):
    one = start(Run(tmp_path / "one"), objective)

    def note(self):
        assert not self.trainer.strategy.model.broadcast_buffers
        torch.save(self.state_dict(), tmp_path / f"rank{self.global_rank}.pt")

    monkeypatch.setattr(Pretrain, "on_train_end", note)
    two = start(Run(tmp_path / "two"), objective, *TWO)
    states = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert_equal(*states)  # every buffer, without being broadcast; and a teacher, which no gradient reaches
    assert two.done and json.loads(two.summary.read_text())["ranks"] == 2
    check_signed(two.weights)
    a, b = load_file(one.weights), load_file(two.weights)
    for name in a:
        assert a[name].float().allclose(b[name].float(), atol=2e-4, rtol=1e-3), name

    def rows(run):
        with open(run.metrics, newline="") as file:
            return list(csv.DictReader(file))

    first, second = rows(one), rows(two)
    assert [r["step"] for r in first] == [r["step"] for r in second]
    for x, y in zip(first, second, strict=True):
        for name in ("loss", "lr", "val_loss"):
            if x[name]:
                assert float(y[name]) == pytest.approx(float(x[name]), rel=2e-3, abs=1e-4), (name, x["step"])
    assert sorted(p.name for p in one.checkpoints.iterdir()) == sorted(p.name for p in two.checkpoints.iterdir())


@pytest.mark.parametrize("name", [n for n in StrategyRegistry.available_strategies() if n.startswith("ddp")])
def test_no_strategy_broadcasts_buffers(name):
    made, plain = launch.strategy_of(name), StrategyRegistry.get(name)
    assert isinstance(made, DDPStrategy) and made._start_method == plain._start_method
    assert made._ddp_kwargs == plain._ddp_kwargs | {"broadcast_buffers": False, "gradient_as_bucket_view": True}


def test_other_strategies_are_lightnings():
    for name in ("auto", "deepspeed", "no such"):
        assert launch.strategy_of(name) == name


def test_a_nan_in_one_ranks_batch_stops_all_and_is_named(tmp_path, monkeypatch):
    """The second rank's pixels at step 2 are not numbers: both ranks say so, and which items they were."""
    step, look = Pretrain.training_step, Pretrain.look

    def broken(self, batch, batch_idx):
        if self.global_step == 2 and self.global_rank == 1:
            batch.inputs = torch.full_like(batch.inputs, torch.nan, dtype=torch.float32)
            (tmp_path / "items").write_text(", ".join(map(str, batch.index.tolist())))
        return step(self, batch, batch_idx)

    def noted(self):
        try:
            return look(self)
        except UserError as error:
            (tmp_path / f"said{self.global_rank}").write_text(str(error))
            raise

    monkeypatch.setattr(Pretrain, "training_step", broken)
    monkeypatch.setattr(Pretrain, "look", noted)
    run = Run(tmp_path / "run")
    with pytest.raises(ProcessRaisedException, match="not finite at step 2"):
        start(run, "mae", "trainer.log_every=3", *TWO)
    said = [(tmp_path / f"said{rank}").read_text() for rank in (0, 1)]
    assert said[0] == said[1] and "\n" not in said[0]
    assert f"at step 2 (rank 1: loss nan, batch of items {(tmp_path / 'items').read_text()}, …)" in said[0]
    assert not run.weights.exists() and latest_checkpoint(run).name == "step=00000002.ckpt"


def test_a_signal_to_one_rank_stops_all_who_say_so(tmp_path, monkeypatch):
    step = Pretrain.training_step

    def signalled(self, batch, batch_idx):
        if self.global_step == 1 and self.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    def note(self):
        [stop] = [callback for callback in self.trainer.callbacks if isinstance(callback, GracefulStop)]
        (tmp_path / f"rank{self.global_rank}").write_text(f"{self.global_step} {stop.stopped_by}")

    monkeypatch.setattr(Pretrain, "training_step", signalled)
    monkeypatch.setattr(Pretrain, "on_train_end", note)
    run = Run(tmp_path / "run")
    with pytest.raises(Stopped):
        start(run, "mae", *TWO)
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == [f"2 {int(signal.SIGTERM)}"] * 2
    assert latest_checkpoint(run).name == "step=00000002.ckpt"
