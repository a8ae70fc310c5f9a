"""metrics.csv: a row every few steps, continued where a run is."""

import csv
import os

import lightning as L

from sslzoo.run import Run


class MetricsFile(L.Callback):
    """Writes the module's logs, every so many steps, where there is a validation loss, and at the last. A continued
    run drops the rows that the lost steps had written."""

    def __init__(self, run: Run, every: int):
        self.path, self.every = run.metrics, every
        self.columns: list[str] = []

    def on_train_start(self, trainer, module) -> None:
        if not trainer.is_global_zero or not self.path.exists():
            return
        with open(self.path, newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) < trainer.global_step]
        self.columns = list(rows[0]) if rows else []
        self.rewrite(rows)

    def rewrite(self, rows: list[dict]) -> None:
        beside = self.path.with_suffix(".tmp")
        with open(beside, "w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(beside, self.path)

    def write(self, row: dict) -> None:
        new = [name for name in row if name not in self.columns]
        if new:
            rows = []
            if self.columns:
                with open(self.path, newline="") as file:
                    rows = list(csv.DictReader(file))
            self.columns += new
            self.rewrite(rows)
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        step = trainer.global_step - 1
        last = trainer.global_step == module.total_steps
        if trainer.is_global_zero and (step % self.every == 0 or last or "val_loss" in module.logged):
            self.write({"step": step, **{name: f"{value:.6g}" for name, value in module.logged.items()}})
            for logger in trainer.loggers:
                logger.log_metrics(module.logged, step)
