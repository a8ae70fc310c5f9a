"""Draw quality against cost for every kind of objective, from the stored results: benchmarks/results/kinds.png."""

import json
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
SETS = {
    "kinds_cifar10": "CIFAR-10",
    "kinds_mnist": "MNIST",
    "kinds_spoken": "spoken",
    "kinds_speech": "speech",
    "kinds_text": "WikiText",
}


def panels() -> list[tuple[str, list[dict]]]:
    """(what is shown, its rows) of every task of every comparison that was run."""
    found = []
    for name, title in SETS.items():
        path = HERE / "results" / f"{name}.json"
        rows = json.loads(path.read_text())["rows"] if path.exists() else []
        for task in dict.fromkeys(row["task"] for row in rows):
            found.append((f"{title}: {task}", [r for r in rows if r["task"] == task and r["minutes"]]))
    return found


def draw(axis, title: str, rows: list[dict]) -> None:
    """A dot an objective, with its spread; a ring for its encoder before the first step; dashes for raw input."""
    axis.set_title(title, fontsize=10, loc="left", family="serif", style="italic")
    placed = []
    for row in sorted(rows, key=lambda r: -r["linear"]["pretrained"]["mean"]):
        trained, untrained = (row["linear"][kind] for kind in ("pretrained", "untrained"))
        x, y = row["minutes"]["mean"], 100 * trained["mean"]
        axis.errorbar(x, y, 100 * (trained["spread"] or 0), fmt="o", ms=4, color="#7a1f1f", lw=1)
        axis.plot(0, 100 * untrained["mean"], "o", ms=4, mfc="none", mec="#888888", clip_on=False)
        placed.append([x, y, y, row["entry"]])
    for value in {round(100 * row["linear"]["raw"]["mean"], 6) for row in rows}:
        axis.axhline(value, ls="--", lw=0.7, color="#888888")
    low, high = axis.get_ylim()
    gap = (high - low) / 14
    for above, below in pairwise(placed):  # names that would lie on each other move down
        below[2] = min(below[2], above[2] - gap)
    axis.set_ylim(min(low, *(p[2] - gap for p in placed)), high)
    right = max((p[0] for p in placed), default=1)
    for x, y, at, name in placed:
        axis.annotate(
            name,
            (x, y),
            (right * 1.12, at),
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "lw": 0.3, "color": "#aaaaaa"},
        )
    axis.set_facecolor("none")
    axis.set_xlim(0, right * 1.75)
    axis.set_xticks([0, right], ["0", f"{right:.1f} min"], fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    shown = panels()
    columns = 3
    lines = -(-len(shown) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(12, 3.3 * lines), squeeze=False)
    for axis, panel in zip(axes.flat, shown):
        draw(axis, *panel)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    figure.text(
        0.01,
        0.005,
        "dot: pretrained, with its spread; ring: its encoder before the first step; dashes: raw input",
        fontsize=8,
    )
    figure.tight_layout(h_pad=2, w_pad=2, rect=(0, 0.02, 1, 1))
    figure.savefig(HERE / "results" / "kinds.png", dpi=90, facecolor="#fffff8")
