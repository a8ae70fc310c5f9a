"""A whole run on two ranks ends where one rank ends, and leaves one folder."""

import csv
import json

import pytest
from conftest import tiny
from safetensors.torch import load_file

from sslzoo.build import build, settle
from sslzoo.run import Run, check_signed
from sslzoo.train import launch

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
    settle(run, config)
    launch.pretrain(job, run)
    return run


def test_two_ranks_follow_one(objective, tmp_path):
    one, two = start(Run(tmp_path / "one"), objective), start(Run(tmp_path / "two"), objective, *TWO)
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
