"""The loss on the validation split: as a run goes on, and at its last step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sslzoo import distributed, rng
from sslzoo.data.loader import ordered_loader
from sslzoo.errors import UserError
from sslzoo.train.cadence import Cadence, Timer
from sslzoo.train.callback import StepCallback


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


class Validate(StepCallback):
    """Every so often, and at the last step, the mean loss over the validation split's items is logged as `val_loss`:
    without dropout, and with the same draws every time. (Lightning's own validation leaves out a last
    step that its interval does not divide, and adds one where a signal stops the run.)

    A batch is a whole one of training, and one rank measures it by itself: so a loss that compares a batch's rows
    has as many to compare with, whatever the number of ranks, and none is left out.
    """

    def __init__(self, data, split, seed: int, every: Cadence, workers: int = 0):
        self.data, self.split, self.seed, self.workers = data, split, seed, workers
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
            module.logged["val_loss"] = self.loss(module)

    def loss(self, module) -> float:
        units, seed = self.data.batch.units(self.split.cut_lengths), rng.derive_seed(self.seed, "valid")
        batches = ordered_loader(
            self.split, units, seed, self.workers,
            rank=distributed.rank(), world=distributed.world_size(), smallest=module.objective.min_batch,
        )  # fmt: skip
        sums = torch.zeros(2, dtype=torch.float64, device=module.device)  # of losses, and of what they are over
        with distributed.alone():
            for batch in batches:
                sums += self.sums(module.objective(module.encoder, batch.to(module.device), module.global_step))
        total, items = distributed.all_reduce_sum(sums).tolist()
        if not items:
            raise UserError("the validation split is too small to measure a loss on: set trainer.val_every=null")
        return total / items

    def sums(self, loss) -> Tensor:
        count = torch.as_tensor(loss.count, dtype=torch.float64, device=loss.value.device)
        # a mean over nothing may be NaN
        return torch.stack([torch.where(count > 0, loss.value.double() * count, 0.0), count])
