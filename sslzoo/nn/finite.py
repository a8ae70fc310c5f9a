"""Checks that losses and gradients are finite, without a device synchronization at every step."""

import math

import torch
from torch import Tensor

from sslzoo import distributed
from sslzoo.errors import UserError

SHOWN = 2  # ranks whose batches are named


class FiniteCheck:
    """Keeps losses and gradient norms of steps on the device until `read` copies them all at once."""

    def __init__(self):
        self.steps: list[tuple[int, list[int], Tensor, Tensor]] = []

    def add(self, step: int, items: list[int], loss: Tensor, gradient_norm: Tensor) -> None:
        """items: indices in the split of a few items of the step, for the error message."""
        self.steps.append((step, items, loss.float(), gradient_norm.float()))

    def read(self, more: Tensor, scaled: bool = False) -> tuple[float, list[float]]:
        """The last gradient norm, and the values of `more` [N], copied together. Raises UserError, naming the first
        step that was not finite, and its items; of several ranks, all raise it, and name those whose loss it was.
        scaled: gradients may overflow, which the gradient scaler handles."""
        steps, self.steps = self.steps, []
        losses, norms = (torch.stack(x) for x in list(zip(*steps, strict=True))[2:])
        count, world = len(steps), distributed.world_size()
        losses, _ = distributed.all_gather(losses, [count] * world)  # of each rank
        found = torch.cat([losses, norms, more]).tolist()
        norms, more = found[world * count :][:count], found[(world + 1) * count :]
        for number, (step, items, *_) in enumerate(steps):
            of_ranks = found[number : world * count : count]
            if not (all(map(math.isfinite, of_ranks)) and (scaled or math.isfinite(norms[number]))):
                raise UserError(
                    f"the gradient is not finite at step {step} ({_where(of_ranks, items)}): stopped, and nothing was saved "
                    "since — try a lower optim.lr or trainer.gradient_clip=1"
                )
        return norms[-1], more


def _where(losses: list[float], items: list[int]) -> str:
    """The losses of ranks at a step, and the first items of their batches: of those that are not finite,
    or else of all.
    items: of this rank. To be called by every rank."""
    batches = distributed.gather_objects(items)
    bad = [rank for rank, loss in enumerate(losses) if not math.isfinite(loss)] or list(range(len(losses)))
    said = [
        f"{f'rank {rank}: ' if len(losses) > 1 else ''}loss {losses[rank]:.4g}, batch of items "
        f"{', '.join(map(str, batches[rank]))}, …"
        for rank in bad[:SHOWN]
    ]
    return "; ".join([*said, *([f"and {len(bad) - SHOWN} more ranks"] if len(bad) > SHOWN else [])])
