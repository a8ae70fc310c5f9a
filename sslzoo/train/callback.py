"""A callback that is told of steps: updates of the weights, however many batches they are made of."""

from typing import Any

import lightning as L


class StepCallback(L.Callback):
    """Lightning calls back for every batch; with gradient accumulation a step has several."""

    def before_step(self, trainer: L.Trainer, module: Any) -> None:
        """Before the first batch of a step."""

    def after_step(self, trainer: L.Trainer, module: Any) -> None:
        """Once the weights were updated; `trainer.global_step` counts that step."""

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if module.part == 0:
            self.before_step(trainer, module)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if module.part == 0:
            self.after_step(trainer, module)
