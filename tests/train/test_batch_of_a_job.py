"""The batch is the job's: parts follow from ranks and from what fits,
and a run goes on with another number of ranks."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import compose, tiny
from safetensors.torch import load_file
from test_contracts import train
from test_ddp import TWO, start

from sslzoo.build import build, write_config
from sslzoo.cli.naming import run_name
from sslzoo.data.sampler import ByCount, BySeconds, StepSampler, parts_that_fit
from sslzoo.errors import ConfigError, UserError
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train.optim import SGD
from sslzoo.train.schedule import Constant
from sslzoo.train.settings import Settings

LENGTHS = np.array([10] * 40 + [20] * 40 + [40] * 40)


def most_at_once(batching, parts: int, world: int) -> float:
    """The largest share of a part, with padding, over an epoch."""
    found = 0.0
    for rank in range(world):
        sampler = StepSampler(batching, LENGTHS, 0, 0, 1, rank, world, parts=parts)
        sampler.stop = sampler.steps_per_epoch
        per_row = np.array([batching.row_units(LENGTHS[rows.index]) for rows in sampler])
        found = max(found, float((per_row * [len(rows) for rows in sampler]).max()))
    return found


@pytest.mark.parametrize("batching", [ByCount(30), BySeconds(400, buckets=3)], ids=["items", "seconds"])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("most", [80, 150, 1000])
def test_the_fewest_parts_that_fit(batching, world, most):
    parts = parts_that_fit(batching, LENGTHS, most, world)
    assert most_at_once(batching, parts, world) <= most
    if parts > 1:
        assert most_at_once(batching, parts - 1, world) > most


def test_what_cannot_fit_is_said():
    with pytest.raises(
        UserError, match=r"an item of 40 seconds does not fit in trainer.max_units_per_rank=30: set it to 40"
    ):
        parts_that_fit(BySeconds(400, buckets=3), LENGTHS, 30, 1)
    with pytest.raises(ConfigError, match="leave out trainer.accumulate=2"):
        Settings(max_units_per_rank=4, accumulate=2)
    with pytest.raises(ConfigError, match="above 0; got 0"):
        Settings(max_units_per_rank=0)
    with pytest.raises(ConfigError, match="a batch of 4 is too small: this objective on these ranks needs at least 8"):
        build(tiny("mae", "data.batch.size=4", "trainer=ddp", "trainer.devices=8", "trainer.accelerator=cpu"))


def test_the_rate_follows_a_stated_rule():
    def rate(rule):
        return SGD(Constant(), 0.1, scale_from=32, scale_rule=rule).scaled(128).lr

    assert [rate(rule) for rule in ("linear", "sqrt", "none")] == pytest.approx([0.4, 0.2, 0.1])


def test_a_run_is_found_whatever_its_ranks(tmp_path):
    def config(*words):
        return {k: v for k, v in compose(*words).items() if k not in ("root", "name")}

    one, two, other = config(TWO[2]), config(*TWO), config("trainer.max_steps=7", *TWO)
    name = run_name("simclr-s0", one, tmp_path)
    assert name != run_name("simclr-s0", two, tmp_path)  # each by its own config, as long as there is none
    (tmp_path / name).mkdir()
    write_config(Run(tmp_path / name), one)
    assert run_name("simclr-s0", two, tmp_path) == name == run_name("simclr-s0", one, tmp_path)
    write_config(Run(tmp_path / name), two)  # and it is not refused
    assert run_name("simclr-s0", other, tmp_path) != name
    with pytest.raises(ConfigError, match="trainer.max_steps"):
        write_config(Run(tmp_path / name), other)


def rows(run: Run) -> list[dict]:
    with open(run.metrics, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path, monkeypatch):
    """Begun by one rank, which takes each batch in three parts, and ended by two: the same items, the same losses."""
    fits, seen, training = (
        ["data.batch.size=7", "trainer.max_units_per_rank=3", TWO[2]],
        tmp_path / "seen",
        Pretrain.training_step,
    )

    def noted(self, batch, batch_idx):
        with open(seen, "a", encoding="utf-8") as file:
            file.writelines(f"{self.global_step} {i}\n" for i in batch.index.tolist())
        return training(self, batch, batch_idx)

    def items(path: Path) -> list[str]:
        found = sorted(path.read_text().splitlines())
        path.unlink()
        return found

    monkeypatch.setattr(Pretrain, "training_step", noted)
    whole = start(Run(tmp_path / "whole"), "bert", *fits)
    of_one = items(seen)
    assert len(of_one) == 4 * 7

    def killed(self, batch, batch_idx):
        if self.global_step == 2:
            raise KeyboardInterrupt
        return noted(self, batch, batch_idx)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Pretrain, "training_step", killed)
        start(Run(tmp_path / "changed"), "bert", *fits)
    changed = start(Run(tmp_path / "changed"), "bert", *fits, *TWO)
    assert items(seen) == of_one
    a, b = rows(whole), rows(changed)
    assert [row["batch_items"] for row in b] == ["7"] * 4 and [r["batch_tokens"] for r in a] == [
        r["batch_tokens"] for r in b
    ]
    assert [float(r["loss"]) for r in b] == pytest.approx([float(r["loss"]) for r in a], rel=1e-4)
    ends = load_file(whole.weights), load_file(changed.weights)
    assert all(torch.allclose(ends[1][name], w, atol=1e-4, rtol=1e-3) for name, w in ends[0].items())


def test_a_batch_that_ranks_compute_only_in_part_is_refused(tmp_path, monkeypatch):
    training = Pretrain.training_step

    def lost(self, batch, batch_idx):
        found = training(self, batch, batch_idx)
        batch.global_row_seeds = torch.cat([batch.global_row_seeds] * 2)  # as if a rank were missing
        return found

    monkeypatch.setattr(Pretrain, "training_step", lost)
    with pytest.raises(UserError, match="step 0 was computed on 8 items by 1 ranks, and its batch has 16"):
        train(tiny("mae", "trainer.max_steps=2"), tmp_path / "run")
