"""Curves over steps as inline SVG, for one run, its seeds, or several runs together.

Each series also has its numbers in data-* attributes, which the page's script shows at the pointer.
"""

from dataclasses import dataclass
from html import escape

import numpy as np

from sslzoo.report.healthy import Healthy
from sslzoo.report.svg import dot, labels, line, path, short, svg, text

WIDTH, HEIGHT = 300, 150
MOST = 400  # points of one line
FEWEST = 8  # points below which there is no running mean
SET = (
    "lr",
    "learning_rate",
    "momentum",
    "weight_decay",
    "temperature",
    "chance",
    "epoch",
    "batch_items",
)  # set, not measured


@dataclass(frozen=True)
class Series:
    """One column of one run. look: CSS class of a colour, "" for the text colour. dashed: of the validation split."""

    name: str
    steps: list[int]
    values: list[float]
    look: str = ""
    dashed: bool = False

    def finite(self) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.asarray(self.steps, float), np.asarray(self.values, float)
        return x[np.isfinite(y)], y[np.isfinite(y)]

    @property
    def lost(self) -> int:
        return int((~np.isfinite(np.asarray(self.values, float))).sum())


def is_set(name: str) -> bool:
    """Whether a column holds a setting, such as a learning rate, which has no noise to smooth."""
    return name in SET or name.startswith("lr")


def running_mean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gaussian-weighted running mean of the values y [N] over the steps x [N]; its standard deviation is 1/60 of the
    range of x (1/N if N < 60). In steps, not points, as validation adds points at irregular steps."""
    width = float(np.ptp(x)) / min(60, len(x)) or 1.0
    weights = np.exp(-0.5 * ((x[:, None] - x) / width) ** 2)
    return weights @ y / weights.sum(1)


def is_smoothed(name: str, series: Series) -> bool:
    return not series.dashed and not is_set(name) and len(series.finite()[0]) >= FEWEST


def binned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) averaged over at most `MOST` bins of neighbouring points."""
    if len(x) <= MOST:
        return x, y
    parts = np.array_split(np.arange(len(x)), MOST)
    return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])


def curve(name: str, series: list[Series], level: float | None = None, band: Healthy | None = None) -> str:
    """A chart of one column of metrics.csv: each measured series as a faint line with its running mean in bold;
    settings, short series and the validation split without smoothing.

    level: a reference value, such as chance. band: the range of healthy runs. Non-finite values are left out of the
    line and counted beside the name.
    """
    lost = sum(s.lost for s in series)
    known = [(s, *s.finite()) for s in series]
    known = [(s, x, y) for s, x, y in known if len(x)]
    body = [text(0, 11, name, "name")]
    if not any(not s.dashed for s, *_ in known):
        return svg([*body, text(0, 40, "nothing finite was logged", "faint")], WIDTH, HEIGHT, name)
    every_x = np.concatenate([x for _, x, _ in known])
    every_y = np.concatenate([*(y for *_, y in known), [] if level is None else [level]])
    (x0, x1), (y0, y1) = (every_x.min(), every_x.max()), (every_y.min(), every_y.max())
    within = _within(band, x0, x1)
    if within is not None:
        y0, y1 = min(y0, within[1].min()), max(y1, within[2].max())
    left, right, top, bottom = 36, WIDTH - 44, 24, HEIGHT - 18

    def px(x):
        return left + (x - x0) / ((x1 - x0) or 1) * (right - left)

    def py(y):
        return bottom - (y - y0) / (y1 - y0) * (bottom - top) if y1 > y0 else 0 * y + (top + bottom) / 2

    # a range frame (Tufte): the axes span the range of the data
    body += [line(left - 4, py(y0), left - 4, py(y1)), line(left, bottom + 4, right, bottom + 4)]
    body += [text(left - 8, py(y1) + 4, short(y1), "tick", "end")]
    if y1 > y0:
        body += [text(left - 8, py(y0) + 4, short(y0), "tick", "end")]
    body += [text(left, HEIGHT - 2, short(x0), "tick"), text(right, HEIGHT - 2, short(x1), "tick", "end")]
    if within is not None:
        steps, low, high = within
        around = zip(np.concatenate([steps, steps[::-1]]), np.concatenate([low, high[::-1]]), strict=True)
        body.append(f'<polygon class="band" points="{" ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in around)}"/>')
    if level is not None:
        body.append(line(left, py(level), right, py(level), "level chance"))
    ends: dict[str, list[float]] = {}
    for s, x, y in known:
        drawn, end = _series(name, s, x, y, px, py)
        body.append(drawn)
        if not s.dashed:
            ends.setdefault(s.look, []).append(end)
    means = {look: float(np.mean(values)) for look, values in ends.items()}
    body += labels([(right + 5, py(mean), short(mean), f"last {look}") for look, mean in means.items()])
    if lost:
        body.append(text(WIDTH, 11, f"{lost} not finite", "warn", "end"))
    told = f"{name} over steps, at the end {', '.join(map(short, means.values()))}"
    frame = f'tabindex="0" data-x="{x0:g} {x1:g} {left} {right}" data-y="{y0:.8g} {y1:.8g} {top} {bottom}"'
    return svg(body, WIDTH, HEIGHT, told, "curve", frame)


def _within(band: Healthy | None, x0: float, x1: float) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(steps, low, high) of the band between steps x0 and x1; None if they do not overlap."""
    if band is None or band.steps[-1] <= x0 or band.steps[0] >= x1:
        return None
    inside = band.steps[(band.steps > x0) & (band.steps < x1)]
    steps = np.array([max(x0, band.steps[0]), *inside, min(x1, band.steps[-1])])
    return steps, np.interp(steps, band.steps, band.low), np.interp(steps, band.steps, band.high)


def _series(name: str, s: Series, x: np.ndarray, y: np.ndarray, px, py) -> tuple[str, float]:
    """(one series as an SVG group, its last value)."""
    smooth = is_smoothed(name, s)
    x, y = binned(x, y)
    drawn, mean = "", y
    if smooth:
        mean = running_mean(x, y)
        drawn = path(px(x), py(y), "noise")
    if len(x) > 1:
        drawn += path(px(x), py(mean), "line dashed" if s.dashed else "line")
    else:
        drawn += dot(px(x[0]), py(y[0]), "dot")
    values = f' data-v="{_numbers(y)}"' + (f' data-m="{_numbers(mean)}"' if smooth else "")
    label = f"{s.name} validation".strip() if s.dashed else s.name
    head = f'<g class="series {s.look}" data-name="{escape(label)}" data-s="{_numbers(x, 8)}"{values}>'
    return f"{head}{drawn}</g>", float(mean[-1])


def _numbers(values: np.ndarray, digits: int = 4) -> str:
    return " ".join(f"{v:.{digits}g}" for v in values)
