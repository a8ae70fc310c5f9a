"""The loss on the validation split: as a run goes on, and at its last step."""

import torch

from sslzoo import draws
from sslzoo.data.loader import ordered_loader
from sslzoo.errors import UserError
from sslzoo.parts import ranks
from sslzoo.train.callback import StepCallback


class Validate(StepCallback):
    """Every `every` steps, and at the last, the mean loss over the validation split's items is logged as
    `val_loss`: without dropout, and with the same draws every time. (Lightning's own validation leaves out a last
    step that `every` does not divide, and adds one where a signal stops the run.)"""

    def __init__(self, data, split, seed: int, every: int, workers: int = 0):
        self.data, self.split, self.seed, self.every, self.workers = data, split, seed, every, workers

    def after_step(self, trainer, module) -> None:
        step = trainer.global_step
        if step % self.every and step != module.total_steps:
            return
        training = [part for part in module.modules() if part.training]  # not all: a teacher may be at rest
        module.eval()
        try:
            with torch.no_grad(), trainer.precision_plugin.val_step_context():
                module.logged["val_loss"] = self.loss(module)
        finally:
            for part in training:
                part.training = True

    def loss(self, module) -> float:
        units, key = self.data.batch.units(self.split.cut_lengths), draws.key(self.seed, "valid")
        total, items = 0.0, 0
        for batch in ordered_loader(self.split, units, key, self.workers, rank=ranks.rank(), world=ranks.world()):
            loss = module.objective(module.encoder, batch.to(module.device), module.global_step)
            if count := int(loss.count):
                total, items = total + count * float(loss.value), items + count
        total, items = ranks.total(torch.tensor([total, items], dtype=torch.float64, device=module.device)).tolist()
        if not items:
            raise UserError("the validation split is too small to measure a loss on: set trainer.val_every=null")
        return total / items
