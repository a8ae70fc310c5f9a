"""Validation and checkpoints every so many steps, seconds or epochs."""

import csv
from types import SimpleNamespace

import pytest
from conftest import tiny
from test_contracts import train
from two_ranks import on_two_ranks

from sslzoo.build import build
from sslzoo.errors import ConfigError
from sslzoo.run import Run
from sslzoo.train import cadence, checkpoint, plan
from sslzoo.train.cadence import Cadence, Timer

FEW = ["trainer.max_steps=6", "trainer.log_every=2"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (500, Cadence(steps=500)),
        ("500", Cadence(steps=500)),
        ("30s", Cadence(seconds=30)),
        ("10m", Cadence(seconds=600)),
        ("1.5h", Cadence(seconds=5400)),
        (".5s", Cadence(seconds=0.5)),
        ("2ep", Cadence(steps=14)),
        ("2 ep", Cadence(steps=14)),
        ("0.5ep", Cadence(steps=4)),
        ("0.01ep", Cadence(steps=1)),
    ],
)
def test_what_is_understood(said, meant):
    assert Cadence.parse(said, "trainer.save_every", epoch_steps=7) == meant


@pytest.mark.parametrize("said", [0, -3, "0s", "0ep", "2.5", "10 days", "s", "", "m10", "1e3", "-1h", "ep", True, None])
def test_nonsense_is_refused(said):
    with pytest.raises(
        ConfigError, match=r"^trainer.x must be a number of steps \(500\), a time .* epochs .*"
    ) as found:
        Cadence.parse(said, "trainer.x")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["val_every", "save_every"])
def test_nonsense_is_refused_before_any_data_is_read(name):
    with pytest.raises(ConfigError, match=f"trainer.{name} must be a number of steps"):
        build(tiny("gpt", f"trainer.{name}=2days"))
    with pytest.raises(ConfigError, match=f"trainer.{name} must be .*got 2.5"):
        build(tiny("gpt", f"trainer.{name}=2.5"))


def clocked(monkeypatch):
    """A clock that tells what it is told to."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(cadence, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_seconds_are_looked_at_where_a_step_is_logged(monkeypatch):
    clock, timer = clocked(monkeypatch), Timer(Cadence(seconds=10))
    module = SimpleNamespace(device="cpu", logged={})
    clock.now = 111
    assert not timer.due(1, module)
    module.logged = {"loss": 1.0}
    assert timer.due(2, module) and not timer.due(3, module)
    clock.now = 120.5
    assert not timer.due(4, module) and timer.since == 9.5
    clock.now = 121
    assert timer.due(5, module)
    timer.start(since=9.0)
    clock.now = 122
    assert timer.due(6, module)


def test_the_first_ranks_clock_decides(tmp_path):
    def work(rank):
        timer = Timer(Cadence(seconds=50))
        timer.start(since=[99, 0][rank])
        one = timer.due(1, SimpleNamespace(device="cpu", logged={"loss": 1.0}))
        timer.start(since=[0, 99][rank])
        return {"due": [one, timer.due(2, SimpleNamespace(device="cpu", logged={"loss": 1.0}))]}

    assert [found["due"] for found in on_two_ranks(work, tmp_path)] == [[True, False]] * 2


def rows(run: Run) -> list[dict]:
    with open(run.metrics, newline="") as file:
        return list(csv.DictReader(file))


def test_validation_by_seconds_changes_nothing_that_is_learned(tmp_path, monkeypatch):
    """Of a trunk with dropout and layer drop, whose draws depend on the step alone. The clock moves on a second
    whenever it is asked."""
    clock = clocked(monkeypatch)

    def later():
        clock.now += 1
        return clock.now

    monkeypatch.setattr(cadence.time, "monotonic", later)
    how = [*FEW, "+encoder.trunk.dropout=0.3", "+encoder.trunk.layer_drop=0.3"]
    plain = train(tiny("gpt", *how), tmp_path / "plain")
    watched = train(tiny("gpt", *how, "trainer.val_every=1s", "trainer.save_every=1s"), tmp_path / "watched")
    assert plain.weights.read_bytes() == watched.weights.read_bytes()
    assert [(r["step"], bool(r["val_loss"])) for r in rows(watched)] == [(n, True) for n in "0245"]
    assert [r["loss"] for r in rows(watched)] == [r["loss"] for r in rows(plain)]
    assert [p.name for p in sorted(watched.checkpoints.glob("*.ckpt"))] == ["step=00000005.ckpt", "step=00000006.ckpt"]


def test_a_long_time_is_the_last_step_alone(tmp_path):
    run = train(tiny("gpt", *FEW, "trainer.val_every=3h", "trainer.save_every=3h"), tmp_path / "run")
    assert [bool(r["val_loss"]) for r in rows(run)] == [False, False, False, True]
    assert [p.name for p in run.checkpoints.glob("*.ckpt")] == ["step=00000006.ckpt"]


def test_epochs_are_those_of_the_training_split(tmp_path):
    """48 items in batches of 16 are 3 steps."""
    how = ["data.batch.size=16", "trainer.max_steps=7", "trainer.log_every=10", "trainer.keep=9"]
    run = train(tiny("gpt", *how, "trainer.val_every=1ep", "trainer.save_every=0.7ep"), tmp_path / "run")
    assert [r["step"] for r in rows(run) if r["val_loss"]] == ["2", "5", "6"]
    saved = [checkpoint.load(p)["global_step"] for p in sorted(run.checkpoints.glob("*.ckpt"))]
    assert saved == [2, 4, 6, 7]
    parts = train(tiny("gpt", *how, "trainer.val_every=1ep", "trainer.accumulate=3"), tmp_path / "parts")
    assert [r["step"] for r in rows(parts) if r["val_loss"]] == ["2", "5", "6"]
    split = build(tiny("gpt", *how)).data
    assert plan.epoch_steps(split.split("train"), split.batch, 1, parts=3) == 3
