"""Between two logged steps nothing is read from the device (see tests/waits.py)."""

from contextlib import nullcontext

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of, ready
from waits import CountWaits

from sslzoo.pretrain import Pretrain


def module_of(job, log_every: int):
    """As Lightning has it at a step that is not logged."""
    module = Pretrain(job.encoder, job.objective, job.optim, 0, 100, log_every)
    module.train()
    return module


def test_a_step_reads_nothing_from_the_device(objective, monkeypatch):
    job = ready(tiny(objective))
    module, batch = module_of(job, log_every=10), batch_of(job, 3)
    monkeypatch.setattr(Pretrain, "global_step", property(lambda self: 3))
    [optimizer] = [module.optim.build(module)]
    for _ in range(2):  # the first may make what is kept, such as a table of positions
        with CountWaits() as waits:
            value = module.training_step(batch, 0)
            value.backward()
            module.on_before_optimizer_step(optimizer)
            job.objective.after_step(job.encoder, 3, 100)
        module.part = 0
        optimizer.step()
    assert not waits.found


def test_logs_are_made_at_logged_steps_alone(objective, monkeypatch):
    """They are many small sums over ranks, and reads."""
    job = ready(tiny(objective))
    module, batch = module_of(job, log_every=10), batch_of(job, 3)
    for step, logged in ((3, False), (10, True), (99, True)):
        monkeypatch.setattr(Pretrain, "global_step", property(lambda self, step=step: step))
        module.training_step(batch, 0).backward()
        module.part = 0
        assert bool(module.sums) is logged
        module.on_before_optimizer_step(None)
        found = module.look()
        assert ("loss" in found) is logged and found["gradient_norm"] > 0


@pytest.mark.parametrize(
    "inner",
    [
        torch.tensor(1.0).item,
        lambda: torch.arange(3)[torch.arange(3) > 1],
        lambda: bool(torch.ones(2).all()),
        lambda: torch.ones(3).nonzero(),
    ],
    ids=["item", "boolean index", "bool", "nonzero"],
)
def test_what_waits_is_counted(inner):
    with CountWaits() as waits:
        inner()
    assert waits.found


def test_a_whole_step_runs_where_nothing_can_be_read(objective, monkeypatch):
    """On torch's `meta` device tensors have no values: whoever asks for one is refused."""
    job = ready(tiny(objective))
    batch = batch_of(job, 3).to("meta")
    module = module_of(job, log_every=10).to("meta")
    real = torch.autocast  # which knows no such device
    monkeypatch.setattr(torch, "autocast", lambda kind, **more: nullcontext() if kind == "meta" else real(kind, **more))
    monkeypatch.setattr(Pretrain, "global_step", property(lambda self: 3))
    module.training_step(batch, 0).backward()
    module.on_before_optimizer_step(None)
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)
