"""The batch of an update, over all ranks and parts: logged, and held to what was drawn."""

import torch

from sslzoo import distributed
from sslzoo.errors import UserError
from sslzoo.train.callback import StepCallback


class EffectiveBatch(StepCallback):
    """At logged steps logs the items of the update (`batch_items`) and, for speech and text, its seconds or tokens
    without padding (`batch_seconds`, `batch_tokens`). Raises UserError if the ranks did not together compute the rows
    of the step's global batch, as when some of them belong to another launch.

    rate: samples per second of speech.
    """

    def __init__(self, modality: str, rate: float | None):
        self.unit = {"speech": "batch_seconds", "text": "batch_tokens"}.get(modality)
        self.rate = rate if modality == "speech" and rate else 1.0

    def before_step(self, trainer, module) -> None:
        self.items = self.drawn = 0
        self.length = 0.0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.items += len(batch)
        self.drawn += len(batch) if batch.global_row_seeds is None else len(batch.global_row_seeds)
        self.length += float(batch.lengths.numpy().sum())
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def after_step(self, trainer, module) -> None:
        if not module.logged:
            return
        mine = torch.tensor([self.items, self.length], dtype=torch.float64, device=module.device)
        items, length = distributed.all_reduce_sum(mine).tolist()
        if items != self.drawn:
            raise UserError(
                f"step {trainer.global_step - 1} was computed on {items:.0f} items by {trainer.world_size} ranks, and its "
                f"batch has {self.drawn}: do the ranks belong to one launch?"
            )
        module.logged["batch_items"] = items
        if self.unit is not None:
            module.logged[self.unit] = length / self.rate
