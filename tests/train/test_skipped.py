"""Items that cannot be read: counted over a run, its parts and its ranks, and said at the first and at the end."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
from conftest import tiny
from test_contracts import train
from tiny_sets import TinyImages, TinySplit
from two_ranks import on_two_ranks

from sslzoo.errors import UserError
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import checkpoint
from sslzoo.train.skipped import SkippedItems

CONFIG = ["encoder=tiny_resnet", "trainer.max_steps=14", "trainer.log_every=3", "trainer.save_every=4"]


def spoil(monkeypatch, bad: set[int]) -> None:
    """Some items of the training split cannot be read, and are skipped."""
    split, read = TinyImages.split, TinySplit.read

    def opened(self, name):
        found = split(self, name)
        found.on_error, found.bad = "skip", bad if name == "train" else set()
        return found

    def gone(self, index, key=None):
        if index in self.bad:
            raise UserError(f"item {index} is gone — fetch it again")
        return read(self, index, key)

    monkeypatch.setattr(TinyImages, "split", opened)
    monkeypatch.setattr(TinySplit, "read", gone)


def skipped(run: Run) -> int:
    return json.loads(run.summary.read_text())["skipped"]


def test_they_are_counted_and_said_twice(tmp_path, monkeypatch, capsys):
    spoil(monkeypatch, {1, 9, 23, 30, 41})
    run = train(tiny("rotation", *CONFIG, "trainer.workers=1"), tmp_path / "run")
    steps = 14 / (48 // 8)  # epochs
    assert 5 * 2 <= skipped(run) <= 5 * 3 and 2 < steps < 3
    lines = [line for line in capsys.readouterr().err.splitlines() if "cannot be" in line]
    assert len(lines) == 2 and "for another: item " in lines[0] and lines[0].endswith(" is gone")
    assert f"run: {skipped(run)} times another item was read" in lines[1] and lines[1].count(" is gone") == 3

    # a run that is stopped between two logged steps counts on
    step = Pretrain.optimizer_step

    def signalled(self, *args, **kwargs):
        if self.global_step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretrain, "optimizer_step", signalled)
        with pytest.raises(UserError, match="at step 8"):
            train(tiny("rotation", *CONFIG), tmp_path / "parts")
    assert (
        0 < checkpoint.load(checkpoint.latest_checkpoint(Run(tmp_path / "parts")))["callbacks"]["SkippedItems"]["count"]
    )
    assert skipped(train(tiny("rotation", *CONFIG), tmp_path / "parts")) == skipped(run)


def test_nothing_is_said_of_nothing(tmp_path, monkeypatch, capsys):
    spoil(monkeypatch, set())
    assert skipped(train(tiny("rotation", *CONFIG), tmp_path / "run")) == 0
    assert "cannot be" not in capsys.readouterr().err


def test_ranks_count_together(tmp_path):
    def work(rank):
        counter, module = SkippedItems(print), SimpleNamespace(logged={}, part=0)
        trainer = SimpleNamespace(is_global_zero=False)
        batch = SimpleNamespace(skipped=1 + rank, errors=[f"item {rank} is gone"])
        counter.on_train_batch_end(trainer, module, None, batch, 0)
        unknown = counter.count
        module.logged = {"loss": 1.0}
        counter.on_train_batch_end(trainer, module, None, batch, 1)
        return {"unknown": unknown, **counter.state_dict(), "again": counter.state_dict()}

    for found in on_two_ranks(work, tmp_path):
        state = {"count": 6, "errors": ["item 0 is gone", "item 1 is gone"]}
        assert found == {"unknown": 0, **state, "again": state}
