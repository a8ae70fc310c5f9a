"""Counting and reporting items that could not be read and were replaced by others."""

from sslzoo import distributed
from sslzoo.train.callback import StepCallback


class SkippedItems(StepCallback):
    """Counts skipped items over all ranks and resumed parts of a run, for its summary, and warns at the first logged
    step after one and at the end of the run, naming three at most. Ranks exchange counts when a step is logged or
    saved."""

    def __init__(self, say):
        self.say = say
        self.count, self.errors = 0, []  # of all ranks
        self.new: tuple[int, list[str]] = (0, [])  # of this rank, not shared yet

    def state_dict(self) -> dict:
        self.share()  # state_dict runs on every rank, and the first rank's is saved
        return {"count": self.count, "errors": self.errors}

    def load_state_dict(self, state: dict) -> None:
        self.count, self.errors = state["count"], list(state["errors"])

    def share(self) -> None:
        for count, errors in distributed.gather_objects(self.new):
            self.count += count
            self.errors = list(dict.fromkeys(self.errors + errors))[:3]
        self.new = (0, [])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        count, errors = self.new
        self.new = (count + batch.skipped, (errors + batch.errors)[:3])
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def after_step(self, trainer, module) -> None:
        if not module.logged:
            return
        before = self.count
        self.share()
        if self.count and not before and trainer.is_global_zero:
            self.say(f"an item that cannot be read is skipped for another: {self.errors[0]}")

    def on_fit_end(self, trainer, module) -> None:
        module.skipped = self.count
        if self.count and trainer.is_global_zero and trainer.global_step >= module.total_steps:
            self.say(f"{self.count} times another item was read for one that cannot be: {'; '.join(self.errors)}")
