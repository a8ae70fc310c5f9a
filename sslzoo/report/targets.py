"""Runs that predict targets: how the targets were made, their agreement with phones, and the accuracy on masked
frames. Purity and PNMI are of the validation split (HuBERT, Hsu et al. 2021, section V-A)."""

import re
from dataclasses import dataclass
from html import escape

from sslzoo.report.record import Record, at, number
from sslzoo.report.tables import Score, figure, pipe, safe, score

SPLIT = "valid"
MEASURES = ("purity", "pnmi", "inertia", "accuracy")


def measured(record: Record) -> dict[str, float | None]:
    """One run's phone purity, PNMI and inertia of its targets, and its accuracy at the last step."""
    of = at(record.targets, "splits", SPLIT)
    values = {name: at(of, key) for name, key in (("purity", "phone_purity"), ("pnmi", "pnmi"), ("inertia", "inertia"))}
    values["accuracy"] = at(record.summary, "logs", "accuracy")
    return {name: number(value) for name, value in values.items()}


@dataclass(frozen=True)
class TargetRow:
    """The targets of one entry's runs. iteration: see `Record`."""

    entry: str
    iteration: int
    source: str
    clusters: int | None
    expected: int
    scores: dict[str, Score]

    def json(self) -> dict:
        known = {"entry": self.entry, "iteration": self.iteration, "source": self.source, "clusters": self.clusters}
        return known | {name: self.scores[name].json() if name in self.scores else None for name in MEASURES}


def target_rows(groups: dict[str, list[Record]]) -> list[TargetRow]:
    """A row for each group with a run that has targets."""
    table_rows = []
    for entry, records in groups.items():
        learned = [r for r in records if r.targets]
        if not learned:
            continue
        first, scores = learned[0], {}
        for name in MEASURES:
            if known := score(measured(r)[name] for r in learned):
                scores[name] = known
        clusters = first.targets.get("clusters")
        table_rows.append(TargetRow(entry, first.iteration, _source(first.targets), clusters, len(records), scores))
    return table_rows


def _source(info: dict) -> str:
    """ "mfcc", or "hubert_1 layer 2"."""
    source = info.get("source")
    source = source if isinstance(source, dict) else {}
    run = re.sub(r"-s\d+$", "", str(source.get("run", "")))
    return f"{run} {source.get('source', '')}".strip() or "not known"


HEADINGS = ("run", "iteration", "targets of", "clusters", "purity", "PNMI", "masked accuracy")
NOTE = (
    "Purity and PNMI are of the targets and the phones of the validation split, the accuracy is of the last "
    "batch's masked frames; all times 100."
)


def cells(row: TargetRow) -> list[str]:
    scores = [figure(row.scores.get(name), row.expected) for name in ("purity", "pnmi", "accuracy")]
    return [row.entry, str(row.iteration), row.source, str(row.clusters or "—"), *scores]


def markdown(table_rows: list[TargetRow]) -> str:
    """A pipe table, or "" without rows."""
    if not table_rows:
        return ""
    lines = [pipe(HEADINGS), "|---|---:|---|" + "---:|" * 4, *(pipe(map(safe, cells(row))) for row in table_rows)]
    return "\n".join(["", *lines, "", NOTE]) + "\n"


def terminal(table_rows: list[TargetRow]):
    """The same as a `rich` table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text("targets"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("run", "targets of") else "right")
    for row in table_rows:
        table.add_row(*(Text(cell) for cell in cells(row)))
    return table


def html(table_rows: list[TargetRow]) -> str:
    """The same for the page."""
    if not table_rows:
        return ""
    kinds = [{"run": "left", "targets of": "gap"}.get(heading, "") for heading in HEADINGS]
    head = "".join(f'<th class="{kind}">{text}</th>' for kind, text in zip(kinds, HEADINGS, strict=True))
    lines = []
    for row in table_rows:
        body = (f'<td class="{kind}">{escape(text)}</td>' for kind, text in zip(kinds, cells(row), strict=True))
        lines.append(f'<tr class="first alone">{"".join(body)}</tr>')
    table = f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'<h3>Targets</h3><div class="scroll">{table}</div><p class="key">{NOTE}</p>'
