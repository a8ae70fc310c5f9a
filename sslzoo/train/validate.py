"""The loss and accuracy on the validation split, during a run and at its last step."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from sslzoo import distributed, rng
from sslzoo.data.loader import ordered_loader
from sslzoo.errors import UserError
from sslzoo.train.cadence import Cadence, Timer
from sslzoo.train.callback import StepCallback

AUTO_TIMES, AUTO_BATCHES = 10, 8  # trainer.val_every=auto: times per run, and batches each time at most


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """A context with a module in eval mode; afterwards each submodule is in its former mode."""
    training = [part for part in module.modules() if part.training]  # not all: a teacher may be in eval mode
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def some_items(lengths: np.ndarray, batching, total_steps: int, smallest: int, shortest: int, seed: int) -> np.ndarray:
    """Indices of the validation items that `trainer.val_every=auto` measures, drawn by the seed: one batch per fifty
    steps of the run, eight at most, so that validation costs a few per cent of the training.

    lengths [N]: of the items, cut as in training. smallest: the fewest items of a batch. shortest: the smallest length
    in the training split, which the objective can use. Empty if fewer than `smallest` items are long enough.
    """
    usable = np.flatnonzero(lengths >= shortest)
    if len(usable) < max(smallest, 1):
        return usable[:0]
    usable = usable[rng.permutation(seed, "valid items", n=len(usable))]
    units = batching.units(lengths) * min(max(total_steps // 50, 1), AUTO_BATCHES)
    count = int(np.searchsorted(np.cumsum(lengths[usable]), units, side="right"))
    return usable[: max(count, smallest)]


class Validate(StepCallback):
    """At the given cadence and at the last step, logs the mean loss over the validation split's items as `val_loss`,
    and the accuracy, if the objective logs one, as `val_accuracy`: in eval mode, with the same random draws every time.
    (Lightning's own validation skips a last step that its interval does not divide, and adds one when a signal stops
    the run.)

    indices: of the items that are measured, None for all.

    A batch has the size of a global training batch and is measured by one rank alone, so that a loss that compares the
    rows of a batch does not depend on the number of ranks.
    """

    def __init__(self, data, split, seed: int, every: Cadence, workers: int = 0, indices: np.ndarray | None = None):
        self.data, self.split, self.seed, self.workers, self.indices = data, split, seed, workers, indices
        self.timer, self.since = Timer(every), 0.0

    def state_dict(self) -> dict:
        return {"since": self.timer.since}

    def load_state_dict(self, state: dict) -> None:
        self.since = state["since"]  # else a run that is stopped often would never validate

    def on_train_start(self, trainer, module) -> None:
        self.timer.start(self.since)

    def on_fit_start(self, trainer, module) -> None:
        if len(self.split) < (least := module.objective.min_batch):
            raise UserError(
                f"the validation split has {len(self.split)} items, fewer than the {least} that this objective's loss "
                "needs: set trainer.val_every=null"
            )

    def after_step(self, trainer, module) -> None:
        step = trainer.global_step
        if not self.timer.due(step, module) and step != module.total_steps:
            return
        context = trainer.precision_plugin.val_step_context()
        with evaluating(module), torch.no_grad(), module.gathered(), context:
            module.logged |= self.measure(module)

    def measure(self, module) -> dict[str, float]:
        """val_loss and, if the objective logs an accuracy, val_accuracy."""
        units, seed = self.data.batch.units(self.split.cut_lengths), rng.derive_seed(self.seed, "valid")
        batches = ordered_loader(
            self.split, units, seed, self.workers, self.indices,
            rank=distributed.rank(), world=distributed.world_size(), smallest=module.objective.min_batch,
        )  # fmt: skip
        # sum of losses, their count, sum of accuracies, their count
        sums = torch.zeros(4, dtype=torch.float64, device=module.device)
        with distributed.alone():
            for batch in batches:
                sums += self.sums(module.objective(module.encoder, batch.to(module.device), module.global_step))
        total, items, right, asked = distributed.all_reduce_sum(sums).tolist()
        if not items:
            if self.indices is not None:  # val_every=auto
                return {}
            raise UserError("the validation split is too small to measure a loss on: set trainer.val_every=null")
        return {"val_loss": total / items} | ({"val_accuracy": right / asked} if asked else {})

    def sums(self, loss) -> Tensor:
        count = torch.as_tensor(loss.count, dtype=torch.float64, device=loss.value.device)
        accuracy = loss.logs().get("accuracy")
        means = [loss.value, torch.zeros_like(loss.value) if accuracy is None else accuracy]
        counts = [count, torch.zeros_like(count) if accuracy is None else count]
        # a mean over nothing may be NaN
        found = [
            torch.where(n > 0, torch.as_tensor(x, device=n.device).double() * n, 0.0)
            for x, n in zip(means, counts, strict=True)
        ]
        return torch.stack([found[0], counts[0], found[1], counts[1]])
