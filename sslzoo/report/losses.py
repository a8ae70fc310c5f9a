"""Validation losses of runs as rows, to compare language models that are not probed. Lower is better."""

from dataclasses import dataclass

from sslzoo.report import tables
from sslzoo.report.record import Record
from sslzoo.report.tables import Score, pipe, quantity, safe, score

NOTE = (
    "The loss is the mean over the validation split after the last step, in nats, of what an objective asks: those of "
    "two objectives are not compared; ± is the standard deviation over seeds."
)
HEADINGS = ("run", "validation loss", "steps", "minutes", "GB")


@dataclass
class Row:
    """One entry. expected: the planned number of runs."""

    entry: str
    expected: int
    loss: Score
    steps: Score | None
    minutes: Score | None
    memory_gb: Score | None

    def figure(self) -> str:
        """ "1.769 ± 0.004", with the number of seeds if some are missing."""
        text = f"{self.loss.mean:.3f}" + ("" if self.loss.spread is None else f" ± {self.loss.spread:.3f}")
        found = len(self.loss.values)
        return text if found == self.expected else f"{text} ({found}/{self.expected})"

    def cells(self) -> list[str]:
        cost = [quantity(self.steps, 0), quantity(self.minutes), quantity(self.memory_gb)]
        return [self.entry, self.figure(), *cost]

    def json(self) -> dict:
        figures = {
            "val_loss": self.loss,
            "steps": self.steps,
            "minutes": self.minutes,
            "peak_memory_gb": self.memory_gb,
        }
        return {"entry": self.entry, **{name: s and s.json() for name, s in figures.items()}}


def rows(groups: dict[str, list[Record]]) -> list[Row]:
    """A row for each entry with a validation loss, lowest first."""
    table_rows = []
    for entry, records in groups.items():
        if loss := score(r.val_loss for r in records):
            cost = (score(r.number(key) for r in records) for key in ("steps", "minutes", "peak_memory_gb"))
            table_rows.append(Row(entry, len(records), loss, *cost))
    return sorted(table_rows, key=lambda row: row.loss.mean)


def summary(probed: list[tables.Row], table_rows: list[Row]) -> str:
    """A sentence on the probes and one on the validation losses."""
    lost = f"Validation loss: {', '.join(f'{row.entry} {row.figure()}' for row in table_rows)}." if table_rows else ""
    return " ".join([*([tables.summary(probed)] if probed or not table_rows else []), *([lost] if table_rows else [])])


def note(probed: list[tables.Row], table_rows: list[Row]) -> str:
    said = [tables.NOTE] if probed or not table_rows else []
    return " ".join([*said, *filter(None, [tables.outdated(probed)]), *([NOTE] if table_rows else [])])


def markdown(probed: list[tables.Row], table_rows: list[Row]) -> str:
    """The table of probes, then that of losses."""
    texts = [tables.markdown(probed)] if probed or not table_rows else []
    if table_rows:
        lines = [pipe(HEADINGS), "|---|" + "---:|" * 4, *(pipe(map(safe, row.cells())) for row in table_rows)]
        texts.append("\n".join([*lines, "", NOTE]) + "\n")
    return "\n".join(texts)
