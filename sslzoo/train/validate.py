"""The loss and accuracy on the validation split: as a run goes on, and at its last step."""

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

AUTO_TIMES, AUTO_BATCHES = 10, 8  # trainer.val_every=auto: how often in a run, and on how much each time


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside, a module is in eval mode; then each part is in the mode that it was in."""
    training = [part for part in module.modules() if part.training]  # not all: a teacher may be at rest
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def some_items(lengths: np.ndarray, batching, total_steps: int, smallest: int, shortest: int, seed: int) -> np.ndarray:
    """Places in a validation split, drawn by the seed, of the items that `trainer.val_every=auto` measures: a batch
    for fifty steps of the run, up to eight, so that validation costs a few per cent of the training.

    lengths [N]: as training reads them. smallest: the fewest items of a batch. shortest: the length that the
    training split's items have at least, and so an objective can use. Empty where there are fewer than `smallest`.
    """
    usable = np.flatnonzero(lengths >= shortest)
    if len(usable) < max(smallest, 1):
        return usable[:0]
    usable = usable[rng.permutation(seed, "valid items", n=len(usable))]
    units = batching.units(lengths) * min(max(total_steps // 50, 1), AUTO_BATCHES)
    count = int(np.searchsorted(np.cumsum(lengths[usable]), units, side="right"))
    return usable[: max(count, smallest)]


class Validate(StepCallback):
    """Every so often, and at the last step, the mean loss over the validation split's items is logged as `val_loss`,
    and the accuracy, if the objective logs one, as `val_accuracy`: without dropout, and with the same draws every time.
    (Lightning's own validation leaves out a last step that its interval does not divide, and adds one where a signal
    stops the run.)

    indices: the places of the items that are measured, None for all.

    A batch is a whole one of training, and one rank measures it by itself: so a loss that compares a batch's rows
    has as many to compare with, whatever the number of ranks, and none is left out.
    """

    def __init__(self, data, split, seed: int, every: Cadence, workers: int = 0, indices: np.ndarray | None = None):
        self.data, self.split, self.seed, self.workers, self.indices = data, split, seed, workers, indices
        self.timer, self.since = Timer(every), 0.0

    def state_dict(self) -> dict:
        return {"since": self.timer.since}

    def load_state_dict(self, state: dict) -> None:
        self.since = state["since"]  # or a run that is stopped more often than it is measured never would be

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
        with evaluating(module), torch.no_grad(), trainer.precision_plugin.val_step_context():
            module.logged |= self.measure(module)

    def measure(self, module) -> dict[str, float]:
        """val_loss and, where the objective logs an accuracy, val_accuracy."""
        units, seed = self.data.batch.units(self.split.cut_lengths), rng.derive_seed(self.seed, "valid")
        batches = ordered_loader(
            self.split, units, seed, self.workers, self.indices,
            rank=distributed.rank(), world=distributed.world_size(), smallest=module.objective.min_batch,
        )  # fmt: skip
        # of losses and of what they are over; of accuracies and of what those are over
        sums = torch.zeros(4, dtype=torch.float64, device=module.device)
        with distributed.alone():
            for batch in batches:
                sums += self.sums(module.objective(module.encoder, batch.to(module.device), module.global_step))
        total, items, right, asked = distributed.all_reduce_sum(sums).tolist()
        if not items:
            if self.indices is not None:  # nobody asked for it
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
