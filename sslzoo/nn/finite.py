"""Whether steps were finite, asked without waiting for a device at every one of them."""

import math

import torch
from torch import Tensor

from sslzoo.errors import UserError


class FiniteCheck:
    """Losses and gradient norms of steps stay on the device until `read`, which reads those of all steps at once."""

    def __init__(self):
        self.steps: list[tuple[int, list[int], Tensor, Tensor]] = []

    def add(self, step: int, items: list[int], loss: Tensor, gradient_norm: Tensor) -> None:
        """items: the places in their split of a few of the step's."""
        self.steps.append((step, items, loss.float(), gradient_norm.float()))

    def read(self, more: Tensor, scaled: bool = False) -> tuple[float, list[float]]:
        """The last gradient norm, and the values of `more` [N], read with it. Raises UserError naming the first step
        that was not finite, and its items. scaled: a scaled loss's gradient may overflow, and its scaler knows."""
        steps, self.steps = self.steps, []
        losses, norms = (torch.stack(x) for x in list(zip(*steps, strict=True))[2:])
        found = torch.cat([losses, norms, more]).tolist()
        losses, norms, more = found[: len(steps)], found[len(steps) : 2 * len(steps)], found[2 * len(steps) :]
        for (step, items, *_), loss, norm in zip(steps, losses, norms, strict=True):
            if not (math.isfinite(loss) and (scaled or math.isfinite(norm))):
                raise UserError(
                    f"the gradient is not finite at step {step} (loss {loss:.4g}, batch of items "
                    f"{', '.join(map(str, items))}, …): stopped, and nothing was saved since — "
                    "try a lower optim.lr or trainer.gradient_clip=1"
                )
        return norms[-1], more
