"""Steps whose items have nothing to mask or to predict."""

from dataclasses import replace

import pytest
import torch
from conftest import tiny
from test_contracts import ready

from sslzoo.data.loader import read_rows
from sslzoo.data.sampler import StepSampler
from sslzoo.errors import UserError
from sslzoo.pretrain import Pretrain


def steps(monkeypatch, empty: list[bool], total: int = 100) -> list[dict]:
    """What is logged of steps of BERT, some of whose batches are of items without a word piece."""
    job = ready(tiny("bert"))
    split = job.data.split("train")
    [rows] = StepSampler(job.data.batch, split.cut_lengths, 0, 0, 1, 0, 1, 1, 1)
    batch = read_rows(split, rows)
    module, found = Pretrain(job.encoder, job.objective, job.optim, 0, total), []
    for step, nothing in enumerate(empty):
        monkeypatch.setattr(Pretrain, "global_step", property(lambda self, step=step: step))
        lengths = torch.ones_like(batch.lengths) if nothing else batch.lengths
        module.training_step(replace(batch, lengths=lengths), 0).backward()
        module.on_before_optimizer_step(None)
        module.part, module.steps = 0, module.steps + 1
        found.append(module.look())
    return found


def test_a_step_with_nothing_to_learn_logs_no_loss(monkeypatch):
    first, second, third = steps(monkeypatch, [True, False, True])
    assert list(first) == list(third) == ["gradient_norm"] and first["gradient_norm"] == 0
    assert second["loss"] > 0


@pytest.mark.parametrize("total, after", [(3, 3), (100, 50)])
def test_a_run_with_nothing_to_learn_ends_and_says_so(monkeypatch, total, after):
    steps(monkeypatch, [True] * (after - 1), total)
    with pytest.raises(UserError, match=f"in {after} steps no item had anything that BERT could learn from"):
        steps(monkeypatch, [True] * after, total)
