"""NPID: its loss against a slow loop, its memory, and what is easily got wrong."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from test_contracts import batch_of, gradients, ready
from two_ranks import on_two_ranks

from sslzoo.errors import UserError

ITEMS = 48


@pytest.mark.parametrize(("encoder", "proximal"), [("tiny_resnet", 0.0), ("tiny_image", 3.0)])
def test_the_loss_is_the_slow_loop(encoder, proximal):
    job = ready(tiny("npid", f"encoder={encoder}", f"objective.proximal={proximal}"))
    objective, batch = job.objective, batch_of(job, 0)
    memory, noise = objective.memory.double().clone(), objective.noise(batch)
    view = objective.views(batch.inputs, batch.row_seeds, "view")
    v = F.normalize(objective.projector(job.encoder(view, batch.lengths).pooled).double(), dim=1)
    value = objective(job.encoder, batch, 0).value
    every = [[float(v[b] @ memory[j]) / 0.07 for j in noise[b]] for b in range(8)]
    z = ITEMS * sum(math.exp(x) for row in every for x in row) / (8 * 12)
    assert float(objective.log_z) == pytest.approx(math.log(z), rel=1e-5)
    total, noises = 0.0, 12 / (ITEMS - 1)
    for b in range(8):
        f = memory[batch.index[b]]
        p = torch.exp(v[b] @ f / 0.07) / z
        total = total - torch.log(p / (p + noises)) + proximal * (v[b] - f).square().sum()
        for j in noise[b]:
            p = torch.exp(v[b] @ memory[j] / 0.07) / z
            total = total - torch.log(1 - p / (p + noises))
    expected = total / 8
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    weight = objective.projector.weight
    ours, theirs = (torch.autograd.grad(x, weight, retain_graph=True)[0] for x in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4 * float(theirs.abs().max()))


def test_no_negative_is_the_positive():
    job = ready(tiny("npid", "objective.negatives=2000"))
    batch = batch_of(job, 0)
    noise = job.objective.noise(batch)
    assert not (noise == batch.index[:, None]).any()
    for row, index in zip(noise, batch.index.tolist(), strict=True):
        assert set(row.tolist()) == set(range(ITEMS)) - {index}, "every other image is drawn"


def test_the_memory_is_sized_by_the_data_and_moves_half_way():
    job = ready(tiny("npid"))
    objective, batch = job.objective, batch_of(job, 0)
    before = objective.memory.clone()
    assert before.shape == (ITEMS, 16)
    torch.testing.assert_close(before.norm(dim=1), torch.ones(ITEMS))
    view = objective.views(batch.inputs, batch.row_seeds, "view")
    v = objective.embed(job.encoder, view, batch)[1]
    objective(job.encoder, batch, 0)
    moved = F.normalize((before[batch.index] + v) / 2, dim=1)
    torch.testing.assert_close(objective.memory[batch.index], moved, atol=1e-5, rtol=0)
    rest = torch.ones(ITEMS, dtype=torch.bool)
    rest[batch.index] = False
    assert torch.equal(objective.memory[rest], before[rest])


def test_z_is_estimated_once():
    job = ready(tiny("npid"))
    found = []
    for step in range(3):
        job.objective(job.encoder, batch_of(job, step), step)
        found.append(float(job.objective.log_z))
    assert math.isfinite(found[0]) and found == [found[0]] * 3


def test_validation_changes_nothing_and_has_positives():
    job = ready(tiny("npid"))
    objective, batch = job.objective.eval(), batch_of(job, 0)
    batch.index = batch.index + 1000  # of a larger split than the training one
    before = objective.memory.clone()
    assert objective(job.encoder.eval(), batch, 0).value.isfinite()
    assert torch.equal(objective.memory, before) and objective.log_z.isinf()
    whole = objective.embed(job.encoder, objective.views.whole(batch.inputs), batch)[1]
    torch.testing.assert_close(objective.positive(job.encoder, batch), whole)


def test_two_ranks_have_one_memory_and_one_z(tmp_path):
    config = tiny("npid", "data.batch.size=9")

    def work(rank, world=2):
        job = ready(config)
        for step in range(3):
            gradients(job, batch_of(job, step, rank, world), step)
        return {"memory": job.objective.memory, "log_z": job.objective.log_z}

    first, second = on_two_ranks(work, tmp_path)
    one = work(0, 1)
    assert torch.equal(first["memory"], second["memory"]) and torch.equal(first["log_z"], second["log_z"])
    torch.testing.assert_close(first["memory"], one["memory"], atol=1e-5, rtol=0)
    torch.testing.assert_close(first["log_z"], one["log_z"], atol=1e-5, rtol=1e-5)


def test_a_single_image_cannot_be_told_apart():
    objective = ready(tiny("npid")).objective
    with pytest.raises(UserError, match="the training split has 1"):
        objective.prepare(1, 1, 0)
