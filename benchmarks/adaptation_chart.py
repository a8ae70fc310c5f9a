"""Draw accuracy against trained parameters, and early exit's accuracy against speed-up, from the stored results of
benchmarks/adaptation.py: benchmarks/results/adaptation.png and exits.png."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
SETS = ("adaptation", "adaptation_more", "adaptation_digits", "adaptation_spoken")
DARK, LIGHT = "#7a1f1f", "#888888"


def results() -> list[dict]:
    """The results that are there."""
    paths = [HERE / "results" / f"{name}.json" for name in SETS]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def amount(shots: int | None) -> str:
    return "all labels" if shots is None else f"{shots} labels a class"


def panels(found: list[dict]) -> list[tuple[str, list[dict]]]:
    """(what is shown, its rows) of every task and number of labels with three methods or more."""
    groups: dict[str, list[dict]] = {}
    for row in (row for said in found for row in said["rows"] if row["test"]):
        groups.setdefault(f"{row['task']} ({row['metric']}), {amount(row['shots'])}", []).append(row)
    return [(title, rows) for title, rows in groups.items() if len(rows) > 2]


def parameters(axis, rows: list[dict]) -> None:
    """A dot a method, with its spread, over the parameters that it trains."""
    for row in rows:
        x, y = max(row["trained_parameters"]["mean"], 1), 100 * row["test"]["mean"]
        axis.errorbar(x, y, 100 * (row["test"]["spread"] or 0), fmt="o", ms=4, color=DARK, lw=0.8)
        axis.annotate(row["entry"], (x, y), (4, 4), textcoords="offset points", fontsize=7)
    if rows[0]["chance"] is not None:
        axis.axhline(100 * rows[0]["chance"], ls=":", lw=0.7, color=LIGHT)
    axis.set_xscale("log")
    axis.margins(x=0.25)


def curves(found: list[dict]) -> list[tuple[str, list[list[dict]]]]:
    """(what is shown, the points of each seed) of every early exit."""
    groups: dict[str, list] = {}
    for run in (run for said in found for run in said["runs"] if run["result"] and run["result"].get("exits")):
        title = f"{run['entry']}, {run['task']}, {amount(run['shots'])}"
        groups.setdefault(title, []).append(run["result"]["exits"]["test"])
    return list(groups.items())


def speed_up(axis, seeds: list[list[dict]]) -> None:
    """Score over measured speed-up, a line a seed, in batches of 1 and of 32."""
    for size, colour in ((1, DARK), (32, LIGHT)):
        for number, points in enumerate(seeds):
            of_size = sorted((p[f"speedup_{size}"], 100 * p["score"]) for p in points)
            axis.plot(*zip(*of_size), "o-", ms=3, lw=0.8, color=colour, label=None if number else f"batches of {size}")
    axis.legend(fontsize=7, frameon=False)


def draw(name: str, shown: list, put, label: str) -> None:
    """One picture of all panels; none without any."""
    if not shown:
        return
    lines = -(-len(shown) // 3)
    figure, axes = plt.subplots(lines, 3, figsize=(12, 3.2 * lines), squeeze=False)
    for axis, (title, what) in zip(axes.flat, shown):
        put(axis, what)
        axis.set_title(title, fontsize=10, loc="left", family="serif", style="italic")
        axis.set_facecolor("none")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    figure.text(0.01, 0.005, label, fontsize=8)
    figure.tight_layout(h_pad=2, w_pad=2, rect=(0, 0.02, 1, 1))
    figure.savefig(HERE / "results" / f"{name}.png", dpi=90, facecolor="#fffff8")
    print(f"wrote {HERE / 'results' / name}.png")


if __name__ == "__main__":
    there = results()
    draw(
        "adaptation",
        panels(there),
        parameters,
        "score on test against trained parameters, with its spread; dots: chance",
    )
    draw("exits", curves(there), speed_up, "score on test against the full model's seconds over those of leaving early")
