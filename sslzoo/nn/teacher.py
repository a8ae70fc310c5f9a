"""A teacher: an exponential moving average (EMA) of a student, without gradient."""

import copy
import math
from typing import Any, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sslzoo.errors import ConfigError


class Teacher(nn.Module):
    """A copy of an encoder and its projector (nn.Identity for none), whose weights are the EMA of theirs:

    teacher <- m teacher + (1 - m) student        (MoCo, 1911.05722, eq. 2; BYOL, 2006.07733, eq. 1)

    m goes from `momentum` at the first step to `momentum_end` at the last by half a cosine (BYOL, section 3.3); if
    equal, it is constant. ramp: the share of the steps in which m rises in a straight line instead, and then stays
    (data2vec, 2202.03555, section 3.2).

    Its targets have no noise: in training too it is in eval mode (no dropout, layer drop or drop path), except for
    batch norm, which normalises by the batch and whose running statistics are the teacher's own. Of the authors' codes,
    those of data2vec and DINOv2 set the teacher to eval mode, those of DINO, iBOT and I-JEPA build it without drop path
    or have none, and those of BYOL and MoCo keep batch norm in training mode and have nothing else that is random.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        momentum: float,
        momentum_end: float,
        ramp: float | None = None,
    ):
        super().__init__()
        if ramp is not None and not 0 <= ramp <= 1:
            raise ConfigError(f"objective.ramp is a share of the steps between 0 and 1, got {ramp}")
        if not (0 <= momentum <= 1 and 0 <= momentum_end <= 1):
            raise ConfigError(
                f"objective.momentum and objective.momentum_end must be between 0 and 1, got {momentum} and "
                f"{momentum_end}"
            )
        self.momentum, self.momentum_end, self.ramp = momentum, momentum_end, ramp
        self.encoder = frozen_copy(encoder)
        self.projector: Any = frozen_copy(projector)
        self.train(encoder.training)

    def train(self, mode: bool = True) -> Self:
        super().train(False)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.training = mode  # not .train(): a norm fused with an activation may have dropout within
        return self

    def momentum_at(self, step: int, total_steps: int) -> float:
        if self.ramp is not None:
            risen = min(1.0, step / max(1.0, self.ramp * total_steps))
            return self.momentum + (self.momentum_end - self.momentum) * risen
        fall = (math.cos(math.pi * step / total_steps) + 1) / 2
        return self.momentum_end - (self.momentum_end - self.momentum) * fall

    def update(self, encoder: nn.Module, projector: nn.Module, step: int, total_steps: int) -> None:
        """Update from the student, after the optimizer step."""
        momentum = self.momentum_at(step, total_steps)
        ema_update(self.encoder, encoder, momentum)
        ema_update(self.projector, projector, momentum)


def frozen_copy(module: nn.Module) -> nn.Module:
    """A deep copy with requires_grad=False."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, for all parameters in one call."""
    slow, fast = list(teacher.parameters()), list(student.parameters())
    if len(slow) != len(fast):
        raise ValueError(f"a teacher of {len(slow)} parameters cannot follow a student of {len(fast)}")
    if slow:
        torch._foreach_lerp_(slow, fast, 1 - momentum)
