"""Charts as inline SVG: curves over steps, quality against cost, a row's scores on one line, layer weights.

Colours come from the page's style sheet by class, so that one drawing serves light and dark. Text that
comes from a run is escaped here, where it enters the drawing.
"""

import math
from html import escape

import numpy as np

from sslzoo.report.tables import KINDS, Row, percent

WIDTH, HEIGHT = 300, 150
FEW = 3  # entries of one task that fit in a small chart


def short(value: float) -> str:
    """A number in few characters: three figures, thousands as k."""
    if not math.isfinite(value):
        return "—"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    if size >= 1e4:
        return f"{value / 1000:.0f}k"
    text = f"{value:.3g}" if size < 100 else f"{value:.0f}"
    return text.replace("-", "−")


def _svg(body: list[str], width: float, height: float, label: str, kind: str = "") -> str:
    head = f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img"'
    return f'{head} class="{kind}" aria-label="{escape(label)}">{"".join(body)}</svg>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _dot(x: float, y: float, kind: str, radius: float = 3) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}"/>'


def _path(x: np.ndarray, y: np.ndarray, kind: str) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline points="{points}" class="{kind}"/>'


def _labels(wanted: list[tuple[float, float, str, str]]) -> list[str]:
    """Texts (x, y, text, look), each to the right of its place or as near above or below as is free."""
    taken: list[tuple[float, float, float]] = []  # left, right, middle
    drawn = []
    for x, y, text, look in wanted:
        end = x + 6 * len(text)
        shifts = (step * sign for step in range(0, 200, 4) for sign in (1, -1))
        free = (y + s for s in shifts if all(abs(y + s - m) >= 11 or end < lo or x > hi for lo, hi, m in taken))
        place = next(free, y)
        taken.append((x, end, place))
        if abs(place - y) > 6:
            drawn.append(_line(x - 5, y, x - 1, place, "axis"))
        drawn.append(_text(x, place + 4, text, look))
    return drawn


def _binned(x: np.ndarray, y: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over at most `most` bins of neighbouring points."""
    if len(x) <= most:
        return x, y
    parts = np.array_split(np.arange(len(x)), most)
    return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])


def _smooth(y: np.ndarray) -> np.ndarray:
    """A running mean over a twentieth of the points, and over what there is of them at the ends."""
    half, places = len(y) // 40, np.arange(len(y))
    total = np.concatenate([[0.0], np.cumsum(y)])
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(y))
    return (total[last] - total[first]) / (last - first)


def curve(name: str, series: list, dashed: list = (), level: float | None = None) -> str:
    """One column of metrics.csv, (steps, values) a seed: its points faint, their running mean dark.

    dashed: the same on the validation split. level: a value to compare with, such as chance. Values that
    are not finite are left out of the line and counted beside the name.
    """

    def clean(pair):
        x, y = np.asarray(pair[0], float), np.asarray(pair[1], float)
        return x[np.isfinite(y)], y[np.isfinite(y)]

    lost = sum(int((~np.isfinite(np.asarray(y, float))).sum()) for _, y in series)
    drawn = [p for p in map(clean, series) if len(p[0])]
    dashed = [p for p in map(clean, dashed) if len(p[0])]
    body = [_text(0, 11, name, "name")]
    if not drawn:
        return _svg([*body, _text(0, 40, "nothing finite was logged", "faint")], WIDTH, HEIGHT, name)
    every_x = np.concatenate([p[0] for p in drawn + dashed])
    every_y = np.concatenate([*(p[1] for p in drawn + dashed), [] if level is None else [level]])
    (x0, x1), (y0, y1) = (every_x.min(), every_x.max()), (every_y.min(), every_y.max())
    left, right, top, bottom = 36, WIDTH - 44, 24, HEIGHT - 18

    def px(x):
        return left + (x - x0) / ((x1 - x0) or 1) * (right - left)

    def py(y):
        return bottom - (y - y0) / (y1 - y0) * (bottom - top) if y1 > y0 else 0 * y + (top + bottom) / 2

    # a range frame (Tufte): the axes go no further than the data, and their ends are its extremes
    body += [_line(left - 4, py(y0), left - 4, py(y1)), _line(left, bottom + 4, right, bottom + 4)]
    body += [_text(left - 8, py(y1) + 4, short(y1), "tick", "end")]
    if y1 > y0:
        body += [_text(left - 8, py(y0) + 4, short(y0), "tick", "end")]
    body += [_text(left, HEIGHT - 2, short(x0), "tick"), _text(right, HEIGHT - 2, short(x1), "tick", "end")]
    for x, y in drawn:
        x, y = _binned(x, y, 400)
        if len(x) > 40:
            body.append(_path(px(x), py(y), "noise"))
            y = _smooth(y)
        body.append(_path(px(x), py(y), "line") if len(x) > 1 else _dot(px(x[0]), py(y[0]), "dot"))
    body += [_path(px(x), py(y), "line dashed") for x, y in dashed]
    if level is not None:
        body.append(_line(left, py(level), right, py(level), "level chance"))
    ends = [_smooth(y)[-1] if len(y) > 40 else y[-1] for _, y in drawn]
    body.append(_text(right + 5, py(np.mean(ends)) + 4, short(float(np.mean(ends))), "last"))
    if lost:
        body.append(_text(WIDTH, 11, f"{lost} not finite", "warn", "end"))
    return _svg(body, WIDTH, HEIGHT, f"{name} over steps")


def strip(row: Row) -> str:
    """A row's scores on a line from 0 to 100: filled pretrained, open untrained, a tick for raw."""
    width, height, pad = 132, 14, 5
    middle = height / 2

    def px(value: float) -> float:
        return pad + min(max(value, 0.0), 1.0) * (width - 2 * pad)

    body = [_line(pad, middle, width - pad, middle, "axis faint")]
    if row.chance is not None:
        body.append(_line(px(row.chance), middle - 2.5, px(row.chance), middle + 2.5, "axis"))
    if raw := row.score("raw"):
        body.append(_line(px(raw.mean), middle - 5, px(raw.mean), middle + 5, "rawtick"))
    for kind in ("untrained", "pretrained"):
        if score := row.score(kind):
            low, high = map(px, score.range)
            body.append(_line(low, middle, high, middle, "whisker"))
            body.append(_dot(px(score.mean), middle, kind, 3.4))
    scores = ", ".join(f"{k} {percent(s.mean)}" for k in KINDS if (s := row.score(k)))
    return _svg(body, width, height, scores or "no scores", "strip")


def cost(task: str, made: list[Row]) -> str:
    """Quality against cost for one task: from the untrained encoder, at no cost, to the pretrained one.

    Raw features are a dashed line, and chance a dotted one where it is near; whiskers are the spread.
    """
    known = [r for r in made if r.score("pretrained")]
    costed = [r for r in known if r.minutes]
    title = f"{task}, {known[0].metric}" if known and known[0].metric else task
    body = [_text(0, 11, title, "name")]
    if not costed:
        return _svg([*body, _text(0, 40, "no time or no score is known yet", "faint")], WIDTH, HEIGHT, task)
    width, height = (WIDTH, HEIGHT) if len(costed) <= FEW else (460, 260)
    left, right, top, bottom = 36, width - 86, 26, height - 18
    values = [m for r in costed for k in KINDS if (s := r.score(k)) for m in s.range]
    low, high = min(values), max(values)
    chances = {r.chance for r in costed if r.chance is not None and low - r.chance < (high - low) / 2}
    low = min([low, *chances])
    longest = max(r.minutes.mean for r in costed)

    def px(minutes: float) -> float:
        return left + minutes / (longest or 1) * (right - left)

    def py(value: float) -> float:
        return bottom - (value - low) / ((high - low) or 1) * (bottom - top)

    body += [_line(left - 4, py(low), left - 4, py(high)), _line(left, bottom + 4, right, bottom + 4)]
    body += [_text(left - 8, py(v) + 4, percent(v), "tick", "end") for v in sorted({low, high})]
    body.append(_text(left, height - 2, "0", "tick"))
    body.append(_text(right, height - 2, f"{longest:.1f} min", "tick", "end"))
    raws = [s.mean for r in costed if (s := r.score("raw"))]
    levels = [(float(np.mean(raws)), "raw")] if raws else []
    levels += [(chance, "chance") for chance in chances]
    wanted = [(right + 9, py(value), name, "tick") for value, name in levels]
    body += [_line(left, py(value), right, py(value), f"level {name}") for value, name in levels]
    dots = []
    for row in costed:
        trained, before = row.score("pretrained"), row.score("untrained")
        x, y = px(row.minutes.mean), py(trained.mean)
        if before:
            body.append(_line(px(0), py(before.mean), x, y, "line" if len(costed) <= FEW else "noise"))
            dots.append(_dot(px(0), py(before.mean), "untrained"))
        lowest, highest = trained.range
        dots += [_line(x, py(lowest), x, py(highest), "whisker"), _dot(x, y, "pretrained", 3.4)]
        wanted.append((x + 9, y, row.entry, "last"))
    body += [*dots, *_labels(wanted)]
    return _svg(body, width, height, f"{task}: quality against minutes of pretraining")


def bars(weights: list[float]) -> str:
    """The learned weight of each layer, from the trunk's input on, as small bars; the largest is named."""
    known = [w if isinstance(w, int | float) and math.isfinite(w) else 0.0 for w in weights]
    high, step, tall = max([*known, 1e-9]), 9, 26
    width = step * len(known) - 2
    body = []
    for place, weight in enumerate(known):
        size = max(weight / high, 0) * tall
        kind = "bar top" if weight == high else "bar"
        at = f'x="{place * step}" y="{tall - size:.1f}" width="{step - 2}" height="{size:.1f}"'
        body.append(f'<rect {at} class="{kind}"/>')
    body.append(_line(0, tall + 0.5, width, tall + 0.5))
    top = known.index(max(known)) if known else 0
    body.append(_text(top * step + 3.5, tall + 12, str(top), "tick", "middle"))
    return _svg(body, width, tall + 14, f"weights of layers 0 to {len(known) - 1}, most on {top}", "bars")
