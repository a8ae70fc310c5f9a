"""metrics.csv: a row per logged step, continued when a run is resumed."""

import csv

from sslzoo.run import Run, write_atomic
from sslzoo.train.callback import StepCallback


class MetricsFile(StepCallback):
    """Writes the module's logs of each logged step. A resumed run drops the rows of steps after its checkpoint."""

    def __init__(self, run: Run):
        self.path = run.metrics
        self.columns: list[str] = []

    def on_train_start(self, trainer, module) -> None:
        if not trainer.is_global_zero or not self.path.exists():
            return
        with open(self.path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if self.before(row, trainer.global_step)]
        self.columns = list(rows[0]) if rows else []
        self.rewrite(rows)

    @staticmethod
    def before(row: dict, step: int) -> bool:
        """Whether a row belongs to an earlier step."""
        said = row.get("step") or ""
        return said.isdecimal() and int(said) < step

    def rewrite(self, rows: list[dict]) -> None:
        def write(beside) -> None:
            with open(beside, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self.columns, restval="")
                writer.writeheader()
                writer.writerows(rows)

        write_atomic(self.path, write)

    def write(self, row: dict) -> None:
        new = [name for name in row if name not in self.columns]
        if new:
            rows = []
            if self.columns:
                with open(self.path, newline="", encoding="utf-8") as file:
                    rows = list(csv.DictReader(file))
            self.columns += new
            self.rewrite(rows)
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def after_step(self, trainer, module) -> None:
        step = trainer.global_step - 1
        if trainer.is_global_zero and module.logged:
            self.write({"step": step, **{name: f"{value:.6g}" for name, value in module.logged.items()}})
            for logger in trainer.loggers:
                logger.log_metrics(module.logged, step)
