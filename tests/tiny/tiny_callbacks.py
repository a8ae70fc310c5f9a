"""Callbacks and a logger of a user's."""

import lightning as L
from lightning.pytorch.loggers import Logger

SEEN = []


class Count(L.Callback):
    """Counts steps, and keeps the count."""

    def __init__(self, stop_at: int | None = None):
        self.steps, self.stop_at = 0, stop_at

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.steps += 1
        if self.steps == self.stop_at:
            trainer.should_stop = True

    def on_train_end(self, trainer, module):
        SEEN.append(self.steps)


class Odd(Count):
    """Keeps what no checkpoint can hold."""

    def state_dict(self):
        return {"steps": [object()]}


class Lines(Logger):
    """Writes lines to a file."""

    name, version = "lines", "0"

    def __init__(self, save_dir, prefix: str = ""):
        self.path, self.prefix = save_dir / "lines.txt", prefix

    def log_hyperparams(self, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        with open(self.path, "a") as file:
            file.write(f"{self.prefix}{step} {metrics['loss']}\n")
