"""A teacher's update over lists of tensors is the loop, bit for bit."""

import pytest
import torch
from conftest import tiny
from torch import nn

from sslzoo.build import build
from sslzoo.nn.batchnorm import BatchNorm1d
from sslzoo.nn.teacher import Teacher, ema_update, frozen_copy


@pytest.mark.parametrize("momentum", [0.0, 0.99, 0.999, 1.0])
def test_the_update_is_the_loop(momentum):
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(5, 300)).to(
        memory_format=torch.channels_last
    )
    teacher, slow = frozen_copy(student), frozen_copy(student)
    for _ in range(3):
        with torch.no_grad():
            for p in student.parameters():
                p.add_(torch.randn_like(p))
            student[1].running_mean.add_(1.0)
            for a, b in zip(slow.parameters(), student.parameters(), strict=True):
                a.lerp_(b, 1 - momentum)
        ema_update(teacher, student, momentum)
        for a, b in zip(teacher.parameters(), slow.parameters(), strict=True):
            assert torch.equal(a, b) and not a.requires_grad
    assert torch.equal(teacher[1].running_mean, torch.zeros(8)), "running statistics are the teacher's own"


def test_a_student_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="a teacher of 2 parameters cannot follow a student of 1"):
        ema_update(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.5)


def test_a_teacher_has_no_dropout_but_the_batchs_norm():
    encoder = nn.Sequential(nn.Linear(4, 8), BatchNorm1d(8), nn.Dropout(0.5))
    teacher, x = Teacher(encoder, nn.Identity(), 0.9, 1.0).train(), 3 + torch.randn(64, 4)
    found = teacher.encoder(x)
    assert torch.equal(found, teacher.encoder(x)) and bool((found != 0).all())
    assert float(found.mean(0).abs().max()) < 1e-5, "batch norm is by the batch"
    assert float(teacher.encoder[1].running_mean.abs().max()) > 0
    assert not torch.equal(found, teacher.eval().encoder(x)), "in evaluation it is by running statistics"


@pytest.mark.parametrize(
    "objective", ["byol", "moco", "moco_v3", "dino", "ibot", "ijepa", "data2vec", "data2vec_image", "data2vec2"]
)
def test_no_objectives_teacher_is_in_training_mode(objective):
    """Except for batch norm, whichever objective owns it."""
    owner = build(tiny(objective)).objective.train()
    training = [module for module in owner.teacher.modules() if module.training]
    assert all(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in training)
    assert bool(training) == (objective in ("byol", "moco", "moco_v3"))
