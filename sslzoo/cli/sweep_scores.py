"""Scores of the jobs of a sweep of `sslzoo adapt`, and their means over seeds."""

import json
from pathlib import Path

from sslzoo.cli.sweep_names import bare, short
from sslzoo.report.runs import aligned
from sslzoo.report.tables import Score

FOLD = "task.split.fold"
REPEATED = ("seed", "task.split_seed", FOLD)  # settings over which means are taken


class Reached(float):
    """A job's validation score, a float for the sweeper, with the path of its result file."""

    result: str

    def __new__(cls, value: float, result: str):
        self = super().__new__(cls, value)
        self.result = result
        return self

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]  # for pickling between processes
        return float(self), self.result


def on_test(reached: Reached) -> float:
    """The job's test score."""
    found = json.loads(Path(reached.result).read_text(encoding="utf-8"))
    return found["test"][found["metric"]]


def over_seeds(jobs: list[tuple[list[str], float | None]]) -> str:
    """The table of mean ± spread over seeds and folds, on validation and test, a row per combination of the other
    settings. jobs: (varied settings, score) of each; "" if no two jobs differ only in these."""
    groups: dict[tuple[str, ...], list[dict]] = {}
    for words, value in jobs:
        if isinstance(value, Reached):
            key = tuple(word for word in words if bare(word) not in REPEATED)
            groups.setdefault(key, []).append(json.loads(Path(value.result).read_text(encoding="utf-8")))
    if all(len(found) < 2 for found in groups.values()):
        return ""
    folds = any(bare(word) == FOLD for words, _ in jobs for word in words)
    names = short([word for key in groups for word in key])
    columns = {
        shown: [next((w.partition("=")[2].strip("'\"") for w in key if bare(w) == name), "") for key in groups]
        for name, shown in names.items()
    }
    columns["metric"] = [found[0]["metric"] for found in groups.values()]
    columns["folds" if folds else "seeds"] = [str(len(found)) for found in groups.values()]
    for part in ("valid", "test"):
        columns[part] = [shown([one[part][one["metric"]] for one in found]) for found in groups.values()]
    columns["chance"] = [f"{100 * found[0]['chance']:.1f}" for found in groups.values()]
    columns["trained"] = [f"{found[0]['trained_parameters']:,}" for found in groups.values()]
    columns["seconds"] = [f"{sum(one['seconds'] for one in found) / len(found):.0f}" for found in groups.values()]
    return f"mean ± standard deviation over {'seeds and folds' if folds else 'seeds'}:\n" + aligned(
        columns, left=(*names.values(), "metric")
    )


def shown(values: list[float]) -> str:
    score = Score(tuple(100 * value for value in values))
    return f"{score.mean:.1f}" if score.spread is None else f"{score.mean:.1f} ± {score.spread:.1f}"
