"""A teacher's update over lists of tensors is the loop, bit for bit."""

import pytest
import torch
from torch import nn

from sslzoo.nn.teacher import ema_update, frozen_copy


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
