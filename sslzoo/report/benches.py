"""What encoders scored in a bench, as rows, and rows as tables: scores, with a column a task and metric, and what was
asked on which data. Made from `results.json` of `sslzoo bench` alone;
spread and `beats` are those of `report.tables`."""

import statistics
from dataclasses import dataclass, field

from sslzoo.report.adaptations import OTHER_CODE, Table, drawn, pipes, seen
from sslzoo.report.record import at, number
from sslzoo.report.stale import code_changed, explained, marked
from sslzoo.report.tables import Score, beats, figure, score
from sslzoo.tasks.metrics import ERRORS

NOTE = (
    "Scores on test are times 100, of what validation chose; ± is the standard deviation over runs and seeds. Bold is the "
    "best of a column, and what spread cannot tell from it; ↓: lower is better."
)


@dataclass
class Row:
    """Encoders that differ in their seed alone. scores: of each task, by metric; expected: how many of each task are
    planned. stale: the tasks that other code than today's asked. leakage: of each task, what was found of test items in
    the pretraining set (`probe.leakage`)."""

    name: str
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    leakage: dict[str, dict] = field(default_factory=dict)

    def json(self) -> dict:
        return {
            "row": self.name,
            "scores": {task: {m: s.json() for m, s in found.items()} for task, found in self.scores.items()},
            "expected": self.expected,
            "stale": self.stale,
            "leakage": self.leakage,
        }


def rows(results: dict) -> list[Row]:
    """A row for each encoder in results.json. Of several folds the mean is a score, once all of them are there."""
    made = {step["row"]: Row(step["row"]) for step in results["steps"]}
    for task in results["tasks"]:
        groups: dict[tuple, list[dict]] = {}
        for step in results["steps"]:
            if step["task"] == task["name"]:
                groups.setdefault((step["row"], step["run"], step["seed"]), []).append(step)
        for metric, place in task["metrics"].items():
            for name, row in made.items():
                mine = [members for key, members in groups.items() if key[0] == name]
                if not mine:
                    continue
                row.expected[task["name"]] = len(mine)
                if found := score(_mean(members, place) for members in mine):
                    row.scores.setdefault(task["name"], {})[metric] = found
    for step in results["steps"]:
        row, task = made[step["row"]], step["task"]
        if step["result"] is not None and step.get("commit") and code_changed(step["commit"]) and task not in row.stale:
            row.stale.append(task)
        found = at(step["result"], "leakage") or at(step["result"], "pretrained", "leakage")
        if isinstance(found, dict):
            row.leakage.setdefault(task, found)
    return list(made.values())


def _mean(members: list[dict], place: str) -> float | None:
    values = [number(at(step["result"], *place.split("."))) for step in members]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def chances(results: dict, task: str) -> float | None:
    """The mean score of guessing that the commands of a task reported."""
    found = [number(at(step["result"], "chance")) for step in results["steps"] if step["task"] == task]
    found += [number(at(step["result"], "pretrained", "chance")) for step in results["steps"] if step["task"] == task]
    known = [value for value in found if value is not None]
    return statistics.fmean(known) if known else None


def lower(place: str) -> bool:
    """Whether a metric at this place of a result is an error rate."""
    return place.rsplit(".", 1)[-1].removesuffix("_as_published") in ERRORS


def tables(results: dict) -> list[Table]:
    """The table of scores, and the one of what was asked."""
    found, tasks = rows(results), results["tasks"]
    columns = [(task, metric, place) for task in tasks for metric, place in task["metrics"].items()]
    headings = ["encoder", *(f"{t['name']} {metric}{' ↓' if lower(place) else ''}" for t, metric, place in columns)]
    lines, bold = [], set()
    for i, row in enumerate(found):
        cells = []
        for task, metric, _ in columns:
            own, planned = row.scores.get(task["name"], {}).get(metric), row.expected.get(task["name"])
            said = "" if planned is None else "not run" if own is None else figure(own, planned)
            cells.append(marked(said, own is not None and task["name"] in row.stale))
        lines.append([row.name, *cells])
        for j, (task, metric, place) in enumerate(columns, 1):
            own = row.scores.get(task["name"], {}).get(metric)
            others = [s for r in found if r is not row and (s := r.scores.get(task["name"], {}).get(metric))]
            if own and others and not any(beats(*((own, s) if lower(place) else (s, own))) for s in others):
                bold.add((i, j))
    guessed = []
    for task, _, place in columns:
        first = next(iter(task["metrics"].values()))
        chance = chances(results, task["name"]) if place == first else None
        guessed.append("—" if chance is None else f"{100 * chance:.1f}")
    lines.append(["chance", *guessed])
    scores = Table("Scores on test", headings, lines, 1, frozenset(bold))
    asked = [
        [
            t["name"],
            t["what"],
            t["data"],
            t["note"] or "",
            "; ".join(t["smaller"]) or "as published",
            sizes(results, t["name"]),
        ]
        for t in tasks
    ]
    titles = ["task", "asks", "data", "where it stands for another", "protocol", "train / valid / test"]
    return [scores, *seen_before(found, tasks), Table("What was asked", titles, asked, 5)]


def seen_before(found: list[Row], tasks: list[dict]) -> list[Table]:
    """The table of test items in each encoder's pretraining set, if any were counted."""
    if not any(row.leakage for row in found):
        return []
    lines = [[row.name, *(seen(row.leakage.get(task["name"])) for task in tasks)] for row in found]
    return [Table("Of test in the pretraining set", ["encoder", *(task["name"] for task in tasks)], lines)]


def notes(results: dict) -> list[str]:
    """What the tables' marks mean."""
    return [*filter(None, [NOTE, explained(OTHER_CODE if any(row.stale for row in rows(results)) else [])])]


def sizes(results: dict, task: str) -> str:
    """Numbers of items in train, valid and test, of the first result that says them."""
    for step in results["steps"]:
        for said in (step["result"], at(step["result"], "pretrained")):
            counts = [at(said, f"n_{part}") for part in ("train", "valid", "test")]
            if step["task"] == task and all(count is not None for count in counts):
                return " / ".join(f"{count:,}" for count in counts)
    return ""


def terminal(results: dict) -> list:
    """The tables as `rich` ones."""
    return drawn(tables(results))


def markdown(results: dict) -> str:
    """Pipe tables under their titles, and what was left out."""
    return "\n\n".join([pipes(tables(results)), *results["missing"], *notes(results)]) + "\n"
