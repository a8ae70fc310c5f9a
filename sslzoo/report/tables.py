"""Scores of runs as rows, and rows as text: mean and spread over seeds, with untrained and raw baselines.

For every metric higher is better; scores are shown times 100. Spread is the sample standard deviation over seeds
(denominator n - 1), undefined for one seed. A score `beats` another if the difference of their means exceeds the
larger of their spreads, and, of two seeds or more each, Welch's t-test has p < 0.05.
"""

import math
import statistics
from collections import Counter
from dataclasses import dataclass, field

from sslzoo.report import significance
from sslzoo.report.record import Record, at, number
from sslzoo.report.stale import code_changed, explained, marked

KINDS = ("pretrained", "untrained", "raw")
HEADS = ("linear", "knn")


@dataclass(frozen=True)
class Score:
    """One score or cost, with a value per seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def range(self) -> tuple[float, float]:
        """(mean - spread, mean + spread)."""
        return self.mean - (self.spread or 0.0), self.mean + (self.spread or 0.0)

    def json(self) -> dict:
        return {"mean": self.mean, "spread": self.spread, "values": list(self.values)}


def beats(one: Score | None, other: Score | None, times: float = 1.0) -> bool | None:
    """Whether `one` is above `other` by more than `times` the larger spread, and by Welch's t-test where both have two
    values or more; None if either is None."""
    if one is None or other is None:
        return None
    p = significance.welch(one.values, other.values)
    apart = one.mean - other.mean > times * max(one.spread or 0.0, other.spread or 0.0)
    return apart and (p is None or p < significance.LEVEL)


@dataclass
class Row:
    """One task, for the runs of one entry: scores[head][kind], costs and chance.

    expected: the planned number of runs; some may not be probed yet. tuned: the score on test of the run adapted to the
    task as a whole (`adapted/<task>`), where a comparison adapts. stale: see `report.stale`.
    """

    entry: str
    task: str
    expected: int
    metric: str = ""
    chance: float | None = None
    n_test: int | None = None
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    minutes: Score | None = None
    memory_gb: Score | None = None
    tuned: Score | None = None
    stale: list[str] = field(default_factory=list)  # why its runs would not be made so today

    def score(self, kind: str, head: str = "linear") -> Score | None:
        return self.scores.get(head, {}).get(kind)

    def beaten(self) -> list[str]:
        """The baselines, of untrained and raw, that the pretrained encoder beats."""
        return [k for k in ("untrained", "raw") if beats(self.score("pretrained"), self.score(k))]

    def json(self) -> dict:
        scores = {h: {k: s.json() for k, s in kinds.items()} for h, kinds in self.scores.items()}
        cost = {"minutes": self.minutes, "peak_memory_gb": self.memory_gb}
        known = {"entry": self.entry, "task": self.task, "metric": self.metric, "chance": self.chance}
        return {
            **known,
            "n_test": self.n_test,
            **scores,
            **{name: score and score.json() for name, score in cost.items()},
            "beats": self.beaten(),
            "stale": self.stale,
            **({} if self.tuned is None else {"fine_tuned": self.tuned.json()}),
        }


def score(values) -> Score | None:
    """A `Score` of the values that are not None, or None if there are none."""
    known = tuple(v for v in values if v is not None)
    return Score(known) if known else None


def rows(groups: dict[str, list[Record]], tasks: dict[str, list[str]] | None = None) -> list[Row]:
    """A row for each entry and task, grouped by task, the best entry first.

    tasks: {entry: its planned tasks}; one that is not probed yet gets a row without scores. None: all probed tasks.
    """
    table_rows: list[Row] = []
    protocols: dict[str, list[tuple[Row, set[str]]]] = {}
    for entry, records in groups.items():
        found_in = dict.fromkeys(task for record in records for task in record.probes)
        for task in found_in if tasks is None else tasks[entry]:
            row = Row(entry, task, len(records))
            probes = [r.probes[task] for r in records if task in r.probes]
            first = [at(p, kind) for p in probes for kind in KINDS if isinstance(at(p, kind), dict)]
            if first:
                row.metric = str(first[0].get("metric") or "")
                row.chance, count = number(first[0].get("chance")), number(first[0].get("n_test"))
                row.n_test = int(count) if count is not None else None
            for head in HEADS:
                found = {k: score(number(at(p, k, head, "test")) for p in probes) for k in KINDS}
                if known := {k: s for k, s in found.items() if s is not None}:
                    row.scores[head] = known
            tuned = [r.adapted[task] for r in records if task in r.adapted]
            row.tuned = score(number(at(found, "test", at(found, "metric"))) for found in tuned)
            if tuned and not first:
                row.metric, row.chance = str(tuned[0].get("metric") or ""), number(tuned[0].get("chance"))
            row.minutes = score(r.minutes for r in records)
            row.memory_gb = score(r.number("peak_memory_gb") for r in records)
            if any(code_changed(str(c)) for r in records if (c := r.summary.get("commit"))):
                row.stale.append("other code")
            held = {str(p) for found in probes if (p := at(found, "pretrained", "protocol"))}
            protocols.setdefault(task, []).append((row, held))
            table_rows.append(row)
    for of_task in protocols.values():  # of a task's rows, those that most were not measured as
        common = Counter(p for _, held in of_task for p in held).most_common(1)
        for row, held in of_task:
            if held - {p for p, _ in common}:
                row.stale.append("other settings of the probe")
    order = list(dict.fromkeys(row.task for row in table_rows))

    def place(row: Row):
        score = row.score("pretrained")
        return order.index(row.task), -score.mean if score else math.inf

    return sorted(table_rows, key=place)


def winners(table_rows: list[Row], head: str = "linear") -> set[tuple[str, str]]:
    """The (task, entry) pairs whose pretrained score no other entry's beats, several per task if they are within the
    spread. The only entry of a task is included if neither untrained nor raw features beat it."""
    found = set()
    for row in table_rows:
        own = row.score("pretrained", head)
        others = [r.score("pretrained", head) for r in table_rows if r.task == row.task and r is not row]
        others = others or [row.score(kind, head) for kind in ("untrained", "raw")]
        if own and not any(beats(other, own) for other in others):
            found.add((row.task, row.entry))
    return found


def percent(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.1f}"


def figure(score: Score | None, expected: int = 1) -> str:
    """ "93.4 ± 0.3", with the number of seeds if some are missing."""
    if score is None:
        return "—"
    text = percent(score.mean) + ("" if score.spread is None else f" ± {percent(score.spread)}")
    return text if len(score.values) >= expected else f"{text} ({len(score.values)}/{expected})"


def quantity(score: Score | None, digits: int = 1) -> str:
    return "—" if score is None else f"{score.mean:.{digits}f}"


def verdict(row: Row) -> str:
    """The baselines that the pretrained encoder beats, in a word."""
    if row.score("pretrained") is None:
        return "not probed"
    return {0: "neither", 2: "both"}.get(len(row.beaten())) or row.beaten()[0]


def summary(table_rows: list[Row]) -> str:
    """The whole table in one sentence."""
    counts = []
    thing = "task" if len({r.task for r in table_rows}) == len(table_rows) else "row"
    for kind, name in (("untrained", "the untrained encoder"), ("raw", "raw features")):
        known = [v for r in table_rows if (v := beats(r.score("pretrained"), r.score(kind))) is not None]
        if known:
            counts.append(f"{name} on {sum(known)} of {len(known)} {thing}{'' if len(known) == 1 else 's'}")
    if not counts:
        return "No task has been probed yet."
    seeds = {len(r.score("pretrained").values) for r in table_rows if r.score("pretrained")}
    if seeds == {1}:
        by = "by any margin: one seed has no spread"
    else:
        of = (
            f"the spread of {min(seeds)} seeds"
            if len(seeds) == 1
            else "the seeds' spread, where there is more than one"
        )
        by = f"by more than {of}"
    return f"A linear probe of the pretrained encoder beats {' and '.join(counts)}, {by}."


NOTE = (
    "Scores are times 100, accuracy where no other metric is named; ± is the standard deviation over seeds. One is above "
    "another if they differ by more than the larger spread and, of two seeds or more each, by Welch's t-test (one-sided, "
    "p < 0.05)."
)
HEADINGS = ("task", "run", "pretrained", "untrained", "raw", "chance", "minutes", "GB", "beats")
PRETRAINED, TUNED = HEADINGS.index("pretrained"), "fine-tuned"


def headings(table_rows: list[Row]) -> list[str]:
    """`HEADINGS`, and after those of probes that of adapted runs, where there are any."""
    place = HEADINGS.index("chance")
    return [*HEADINGS[:place], *([TUNED] if any(row.tuned for row in table_rows) else []), *HEADINGS[place:]]


def cells(row: Row, tuned: bool = False) -> list[str]:
    """The cells of a row, under `headings`, without markup. tuned: whether there is a column of adapted runs."""
    scores = [figure(row.score(kind), row.expected) for kind in KINDS]
    scores += [figure(row.tuned, row.expected)] if tuned else []
    cost = [quantity(row.minutes), quantity(row.memory_gb)]
    task = row.task if row.metric in ("", "accuracy") else f"{row.task} ({row.metric})"
    return [task, named(row), *scores, percent(row.chance), *cost, verdict(row)]


def named(row: Row) -> str:
    """The entry, marked if it is stale."""
    return marked(row.entry, bool(row.stale))


def outdated(table_rows: list[Row]) -> str:
    """What the mark means, with the reasons of the rows that have it; "" if none has."""
    return explained(reason for row in table_rows for reason in row.stale)


def pipe(cells) -> str:
    """A line of a pipe table."""
    return f"| {' | '.join(cells)} |"


def safe(cell: str) -> str:
    """A cell's text, escaped for a pipe table."""
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def markdown(table_rows: list[Row]) -> str:
    """A pipe table, with the best runs of each task in bold, and the summary."""
    names, best = headings(table_rows), winners(table_rows)
    lines = [pipe(names), "|" + "---|" * 2 + "---:|" * (len(names) - 3) + "---|"]
    for row in table_rows:
        texts = [safe(cell) for cell in cells(row, TUNED in names)]
        if (row.task, row.entry) in best:
            texts[PRETRAINED] = f"**{texts[PRETRAINED]}**"
        lines.append(pipe(texts))
    return "\n".join([*lines, "", summary(table_rows), NOTE, *filter(None, [outdated(table_rows)])]) + "\n"


def terminal(table_rows: list[Row], title: str):
    """The same as a `rich` table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    names = headings(table_rows)
    for place, heading in enumerate(names):
        table.add_column(heading, justify="right" if 2 <= place < len(names) - 1 else "left")
    best = winners(table_rows)
    for place, row in enumerate(table_rows):
        bold = {PRETRAINED} if (row.task, row.entry) in best else set()
        texts = [Text(c, style="bold" if i in bold else "") for i, c in enumerate(cells(row, TUNED in names))]
        last = place + 1 == len(table_rows) or table_rows[place + 1].task != row.task
        table.add_row(*texts, end_section=last and len(table_rows) > len({r.task for r in table_rows}))
    return table
