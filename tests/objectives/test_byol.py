"""BYOL: its loss against lightly and a slow loop, and its teacher."""

import copy
import math

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of, gradients

from sslzoo.build import build
from sslzoo.nn.teacher import Teacher, ema_update, frozen_copy
from sslzoo.objectives.byol import regression_loss


def test_regression_is_the_slow_loop_and_lightlys():
    torch.manual_seed(0)
    guess, target = torch.randn(6, 5), torch.randn(6, 5)
    slow = []
    for g, z in zip(guess.double(), target.double(), strict=True):
        slow.append(float(((g / g.norm() - z / z.norm()) ** 2).sum()))
    assert regression_loss(guess, target).tolist() == pytest.approx(slow, abs=1e-5)
    lightly = pytest.importorskip("lightly.loss")
    theirs = lightly.NegativeCosineSimilarity()(guess, target)  # -cos
    assert float(regression_loss(guess, target).mean()) == pytest.approx(2 + 2 * float(theirs), abs=1e-5)


def test_the_loss_is_both_directions_of_the_papers_networks():
    job = build(tiny("byol"))
    batch, objective = batch_of(job, 0), job.objective
    a, b = objective.views.draw(job.encoder, batch).views
    loss = objective(job.encoder, batch, 0)
    total = 0.0
    for one, other in ((a, b), (b, a)):
        q = objective.predictor(objective.projector(job.encoder(one, batch.lengths).pooled)).double()
        z = objective.teacher.projector(objective.teacher.encoder(other, batch.lengths).pooled).double()
        for x, y in zip(q, z, strict=True):
            total += 2 - 2 * float(x @ y) / float(x.norm() * y.norm())
    assert float(loss.value) == pytest.approx(total / len(a), abs=1e-5)


def test_the_teacher_follows_and_takes_no_gradient():
    job = build(tiny("byol"))
    objective, before = job.objective, copy.deepcopy(job.objective.teacher.encoder)
    _, grads = gradients(job, batch_of(job, 0))
    assert not any("teacher" in name for name in grads)
    with torch.no_grad():
        for p in job.encoder.parameters():
            p.add_(1.0)
    objective.after_step(job.encoder, 25, 100)
    tau = 1 - (1 - 0.996) * (math.cos(math.pi * 25 / 100) + 1) / 2
    old, new, now = before.parameters(), objective.teacher.encoder.parameters(), job.encoder.parameters()
    for p, q, r in zip(old, new, now, strict=True):
        torch.testing.assert_close(q, tau * p + (1 - tau) * r)


def test_the_momentum_rises_to_one_or_stays():
    rises, stays = (Teacher(torch.nn.Linear(1, 1), torch.nn.Identity(), 0.99, end) for end in (1.0, 0.99))
    assert [rises.momentum_at(step, 10) for step in (0, 5, 10)] == pytest.approx([0.99, 0.995, 1.0])
    assert [stays.momentum_at(step, 10) for step in (0, 5, 10)] == [0.99] * 3


def test_following_with_momentum_zero_is_a_copy():
    student = torch.nn.Linear(3, 3)
    teacher = frozen_copy(torch.nn.Linear(3, 3))
    ema_update(teacher, student, 0.0)
    assert torch.equal(teacher.weight, student.weight) and not teacher.weight.requires_grad
