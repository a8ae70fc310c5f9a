"""Checks that losses and gradients are finite, without a device synchronization at every step."""

import math

import torch
from torch import Tensor

from sslzoo.errors import UserError


class FiniteCheck:
    """Keeps losses and gradient norms of steps on the device until `read` copies them all at once."""

    def __init__(self):
        self.steps: list[tuple[int, list[int], Tensor, Tensor]] = []

    def add(self, step: int, items: list[int], loss: Tensor, gradient_norm: Tensor) -> None:
        """items: indices in the split of a few items of the step, for the error message."""
        self.steps.append((step, items, loss.float(), gradient_norm.float()))

    def read(self, more: Tensor, scaled: bool = False) -> tuple[float, list[float]]:
        """The last gradient norm, and the values of `more` [N], copied together. Raises UserError, naming the first
        step that was not finite, and its items. scaled: gradients may overflow, which the gradient scaler handles."""
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
