"""A teacher that follows a student."""

import copy
import math

import torch
from torch import nn


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy whose weights take no gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """teacher <- decay * teacher + (1 - decay) * student, weight by weight. Running statistics stay the
    teacher's own."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


def cosine_decay(start: float, step: int, total: int) -> float:
    """From `start` at the first step to 1 at the last (BYOL, section 3.3)."""
    return 1 - (1 - start) * (math.cos(math.pi * step / total) + 1) / 2
