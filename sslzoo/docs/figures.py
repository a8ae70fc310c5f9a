"""The documentation's tables of scores and curves, from stored results."""

from dataclasses import dataclass
from pathlib import Path

from sslzoo.docs.sources import objective_of, results
from sslzoo.report import healthy, tables
from sslzoo.report.healthy import Healthy


@dataclass(frozen=True)
class Score:
    """The linear probe of an objective in a comparison, times 100, of the pretrained and the untrained encoder by seed;
    its place among all objectives of that comparison and task."""

    comparison: str
    task: str
    metric: str
    pretrained: tables.Score
    untrained: tables.Score
    place: int
    of: int

    @property
    def figure(self) -> str:
        """Mean and spread of the pretrained encoder."""
        spread = self.pretrained.spread
        return f"{self.pretrained.mean:.1f} " + ("(one seed)" if spread is None else f"± {spread:.1f}")

    @property
    def beyond(self) -> str:
        """Whether it is above the untrained encoder, in words."""
        if self.pretrained.spread is None:
            return f"{self.pretrained.mean - self.untrained.mean:+.1f} to the untrained encoder with one seed"
        above = tables.beats(self.pretrained, self.untrained, times=3)
        return f"{'above' if above else 'not clearly above'} the untrained encoder"


def scores() -> dict[str, list[Score]]:
    """The scores of every objective in the stored results, by its name; the best of its entries of a task."""
    found: dict[str, list[Score]] = {}
    for name, content in results():
        best: dict[str, dict[str, dict]] = {}
        for row in content["rows"]:
            objective, linear = objective_of(content, row["entry"]), row.get("linear") or {}
            if objective is None or not {"pretrained", "untrained"} <= linear.keys():
                continue
            own = best.setdefault(row["task"], {})
            if objective not in own or linear["pretrained"]["mean"] > own[objective]["linear"]["pretrained"]["mean"]:
                own[objective] = row
        for task, rows in best.items():
            order = sorted(rows, key=lambda o: -rows[o]["linear"]["pretrained"]["mean"])
            for place, objective in enumerate(order, 1):
                row = rows[objective]
                mine, before = (percent(row["linear"][kind]["values"]) for kind in ("pretrained", "untrained"))
                score = Score(name, task, row["metric"], mine, before, place, len(order))
                found.setdefault(objective, []).append(score)
    return found


def percent(values: list[float]) -> tables.Score:
    return tables.Score(tuple(100 * value for value in values))


def table(of: list[Score]) -> str:
    """Markdown: a row a comparison and task."""
    lines = ["| comparison | task | pretrained | untrained | place |", "|---|---|---:|---:|---:|"]
    for s in of:
        metric = "" if s.metric == "accuracy" else f" ({s.metric})"
        lines.append(
            f"| `{s.comparison}` | {s.task}{metric} | {s.figure} | {s.untrained.mean:.1f} | {s.place} of {s.of} |"
        )
    return "\n".join(lines)


def band_of(objective: str) -> Healthy | None:
    """The curve of healthy runs of an objective, which it is called by; configs of one class have their own."""
    return next((band for band in healthy.shipped() if band.name == objective), None)


def draw_band(band: Healthy, path: Path) -> None:
    """A picture of a healthy run's loss with its band over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(band.steps, band.low, band.high, alpha=0.25, label=f"band over {band.seeds} seeds")
    axes.plot(band.steps, band.mean, label="mean")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})
