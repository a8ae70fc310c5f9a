"""A callback with hooks per optimiser step, however many batches are accumulated in it."""

from typing import Any

import lightning as L


class StepCallback(L.Callback):
    """Lightning's hooks run per batch; with gradient accumulation a step has several batches."""

    def before_step(self, trainer: L.Trainer, module: Any) -> None:
        """Before the first batch of a step."""

    def after_step(self, trainer: L.Trainer, module: Any) -> None:
        """After the update of the weights; `trainer.global_step` counts this step."""

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if module.part == 0:
            self.before_step(trainer, module)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if module.part == 0:
            self.after_step(trainer, module)
