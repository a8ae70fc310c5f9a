"""Scores and costs of ways of adapting one encoder, as rows, and rows as tables: a table for each number of labels,
with a column a task, and one of costs.

Made from `results.json` of `sslzoo compare` alone. Spread and `beats` are those of `report.tables`.
"""

from dataclasses import dataclass, field

from sslzoo.report.record import at, number
from sslzoo.report.stale import code_changed, explained, marked
from sslzoo.report.tables import Score, beats, figure, pipe, safe, score
from sslzoo.tasks.metrics import ERRORS

OTHER_CODE = ["other code"]
BASELINES = ("full", "head")  # entries beside which the others are put
SEEN = "of test in the pretraining set"  # a line of a table
COSTS = {  # {cost: where result.json has it}
    "trained_parameters": ("trained_parameters",),
    "head_parameters": ("head_parameters",),
    "bytes_stored": ("bytes_stored",),
    "peak_memory_gb": ("peak_memory_gb",),
    "latency_ms_1": ("latency_ms", "1"),
    "latency_ms_32": ("latency_ms", "32"),
    "seconds": ("seconds",),
}
NOTE = (
    "Scores on test are times 100, of what validation chose; ± is the standard deviation over seeds, which draw the labels "
    "and the first weights. One is above another if they differ by more than the larger spread and, of two seeds or more "
    "each, by Welch's t-test (one-sided, p < 0.05)."
)


@dataclass
class Row:
    """An entry on a task with so many labels a class. shots: None for all labels. expected: the planned number of
    seeds. beats: whether it beats the entries full and head, where there are seeds enough for a spread. exits: early
    exit's curves, of each seed that has them. stale: why its runs would not be made so today. leakage: what the first
    run found of test items in the pretraining set (`probe.leakage`)."""

    entry: str
    task: str
    shots: int | None
    expected: int
    metric: str = ""
    chance: float | None = None
    n_train: int | None = None
    n_test: int | None = None
    test: Score | None = None
    valid: Score | None = None
    costs: dict[str, Score] = field(default_factory=dict)
    beats: dict[str, bool] = field(default_factory=dict)
    exits: list[dict] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    leakage: dict | None = None

    def json(self) -> dict:
        said = {key: value for key, value in vars(self).items() if key not in ("test", "valid", "costs", "exits")}
        scores = {part: s and s.json() for part, s in (("test", self.test), ("valid", self.valid))}
        return {**said, **scores, **{name: cost.json() for name, cost in self.costs.items()}}


def rows(runs: list[dict]) -> list[Row]:
    """A row for each entry, task and number of labels, in the order of `runs`. runs: those of results.json: {entry,
    task, shots, seed, result}, result being that of `sslzoo adapt` or None."""
    groups: dict[tuple, list[dict]] = {}
    for run in runs:
        groups.setdefault((run["entry"], run["task"], run["shots"]), []).append(run)
    found = []
    for (entry, task, shots), members in groups.items():
        row, results = Row(entry, task, shots, len(members)), [run["result"] for run in members if run["result"]]
        if results:
            row.metric, row.chance = str(results[0]["metric"]), number(results[0].get("chance"))
            row.n_train, row.n_test = results[0].get("n_train"), results[0].get("n_test")
            row.test, row.valid = (score(number(at(r, p, row.metric)) for r in results) for p in ("test", "valid"))
            costs = {name: score(number(at(r, *place)) for r in results) for name, place in COSTS.items()}
            row.costs = {name: cost for name, cost in costs.items() if cost is not None}
            row.exits = [r["exits"] for r in results if r.get("exits")]
            row.stale = OTHER_CODE if any(code_changed(c) for r in results if (c := r.get("commit"))) else []
            row.leakage = results[0].get("leakage")
        found.append(row)
    tests = {(row.entry, row.task, row.shots): row.test for row in found}
    for row in found:
        for other in BASELINES:
            one, two = row.test, tests.get((other, row.task, row.shots))
            if row.entry != other and one and two and not (one.spread is None and two.spread is None):
                row.beats[other] = surpasses(row.metric, one, two)
    return found


def surpasses(metric: str, one: Score, other: Score) -> bool:
    """Whether a score beats another by more than the spread; of error rates, the lower is the better."""
    return bool(beats(other, one) if metric in ERRORS else beats(one, other))


def winners(some: list[Row]) -> set[tuple[str, str]]:
    """The (entry, task) pairs that no other of the same task beats, where there are several, and seeds for a spread."""
    found = set()
    for row in some:
        own = row.test
        others = [other.test for other in some if other.task == row.task and other is not row and other.test]
        if own is None or not others or all(score.spread is None for score in (own, *others)):
            continue
        if not any(surpasses(row.metric, other, own) for other in others):
            found.add((row.entry, row.task))
    return found


def verdict(of_entry: list[Row]) -> str:
    """Which of full fine-tuning and a linear head an entry beats by more than the spread, on how many tasks."""
    if not any(row.test for row in of_entry):
        return "not run"
    parts = []
    for other in BASELINES:
        said = [row.beats[other] for row in of_entry if other in row.beats]
        if said:
            parts.append(f"{other} on {sum(said)} of {len(said)}" if any(said) else f"not {other}")
    return ", ".join(parts) or "—"


@dataclass
class Table:
    """A table as texts. left: its first columns that are set left. bold: (line, column) of its cells in bold."""

    title: str
    headings: list[str]
    lines: list[list[str]]
    left: int = 1
    bold: frozenset[tuple[int, int]] = frozenset()


def tables(found: list[Row]) -> list[Table]:
    """One of scores for each number of labels, and one of costs."""
    made = []
    for shots in dict.fromkeys(row.shots for row in found):
        some = [row for row in found if row.shots == shots]
        tasks, entries = (list(dict.fromkeys(getattr(row, key) for row in some)) for key in ("task", "entry"))
        at_place = {(row.entry, row.task): row for row in some}
        metrics = {row.task: row.metric for row in some if row.metric not in ("", "accuracy")}
        lines = []
        for entry in entries:
            mine = [at_place.get((entry, task)) for task in tasks]
            scores = [
                ""
                if row is None
                else "not run"
                if not row.test
                else marked(figure(row.test, row.expected), bool(row.stale))
                for row in mine
            ]
            lines.append([entry, *scores, verdict([row for row in mine if row])])
        chances = [
            next((row.chance for row in some if row.task == task and row.chance is not None), None) for task in tasks
        ]
        lines.append(["chance", *("—" if c is None else f"{100 * c:.1f}" for c in chances), ""])
        if any(row.leakage for row in some):
            known = {row.task: row.leakage for row in some if row.leakage}
            lines.append([SEEN, *(seen(known.get(task)) for task in tasks), ""])
        names = [f"{task} ({metrics[task]})" if task in metrics else task for task in tasks]
        best = winners(some)
        bold = {(i, j + 1) for i, e in enumerate(entries) for j, t in enumerate(tasks) if (e, t) in best}
        made.append(Table(labels(shots), ["method", *names, "beats"], lines, 1, frozenset(bold)))
    return [*made, costs(found)]


def seen(leakage: dict | None) -> str:
    """How many test items lie in the pretraining set, in a cell."""
    if leakage is None:
        return "—"
    return f"{leakage['items']:,} of {leakage['of']:,}" if "items" in leakage else "not counted"


def costs(found: list[Row]) -> Table:
    """What each entry costs: its parameters, and means over tasks, labels and seeds of the rest."""
    lines = []
    for entry in dict.fromkeys(row.entry for row in found):
        mine = [row.costs for row in found if row.entry == entry and row.costs]

        def mean(name: str, digits: int, per: float = 1.0, mine=mine) -> str:
            values = [costs[name].mean / per for costs in mine if name in costs]
            return f"{sum(values) / len(values):,.{digits}f}" if values else "—"

        def span(pick, mine=mine) -> str:
            values = sorted({round(pick(costs)) for costs in mine})
            return " to ".join(f"{v:,}" for v in dict.fromkeys((values[0], values[-1]))) if values else "—"

        trained = span(lambda c: c["trained_parameters"].mean - c["head_parameters"].mean)
        head = span(lambda c: c["head_parameters"].mean)
        rest = [mean("bytes_stored", 2, 1e6), mean("peak_memory_gb", 2)]
        rest += [mean("latency_ms_1", 1), mean("latency_ms_32", 0), mean("seconds", 0)]
        lines.append([entry, trained, head, *rest])
    headings = [
        "method",
        "trained of the encoder",
        "of the head",
        "MB stored",
        "GB",
        "ms at batch 1",
        "at 32",
        "seconds",
    ]
    return Table("Costs, means over tasks, labels and seeds", headings, lines)


def labels(shots: int | None) -> str:
    return "All labels" if shots is None else f"{shots} labels a class"


def markdown(found: list[Row]) -> str:
    """Pipe tables under their titles, and the summary."""
    return f"{pipes(tables(found))}\n\n{' '.join(filter(None, [summary(found), NOTE, outdated(found)]))}\n"


def pipes(made: list[Table]) -> str:
    """Pipe tables under their titles."""
    parts = []
    for table in made:
        aligned = "---|" * table.left + "---:|" * (len(table.headings) - table.left)
        lines = [pipe(map(safe, table.headings)), f"|{aligned}"]
        for i, cells in enumerate(table.lines):
            lines.append(pipe(f"**{safe(c)}**" if (i, j) in table.bold else safe(c) for j, c in enumerate(cells)))
        parts.append(f"**{table.title}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def summary(found: list[Row]) -> str:
    """How many rows beat full fine-tuning and a linear head, in a sentence."""
    others = [row for row in found if row.entry not in BASELINES]
    parts = []
    for other in BASELINES:
        said = [row.beats[other] for row in others if other in row.beats]
        if said:
            parts.append(f"method={other} on {sum(said)} of {len(said)} rows")
    missing = sum(row.expected - len(row.test.values if row.test else ()) for row in found)
    end = f" {missing:,} of {sum(row.expected for row in found):,} adaptations are not run." if missing else ""
    if not parts:
        return f"No seeds to compare with those of method=full or method=head: one has no spread.{end}"
    return f"The other methods beat {' and '.join(parts)}, by more than the spread.{end}"


def outdated(found: list[Row]) -> str:
    """What the mark of stale scores means; "" if there are none."""
    return explained(reason for row in found for reason in row.stale)


def terminal(found: list[Row]) -> list:
    """The same as `rich` tables."""
    return drawn(tables(found))


def drawn(tables: list[Table]) -> list:
    """Tables as `rich` ones."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    made = []
    for table in tables:
        rich = RichTable(
            title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
        )
        for place, heading in enumerate(table.headings):
            rich.add_column(heading, justify="left" if place < table.left else "right")
        for i, cells in enumerate(table.lines):
            rich.add_row(*(Text(c, style="bold" if (i, j) in table.bold else "") for j, c in enumerate(cells)))
        made.append(rich)
    return made
