"""Small charts of scores as inline SVG: a row's scores on a line, quality against cost, layer weights."""

import math

import numpy as np

from sslzoo.report.svg import dot, labels, line, svg, text, tip
from sslzoo.report.tables import KINDS, Row, figure, percent

WIDTH, HEIGHT = 300, 150
FEW = 3  # entries of one task that fit in a small chart
FEWEST = 3  # entries below which there is no chart of cost


def strip(row: Row) -> str:
    """A row's scores on a line from 0 to 100: a filled dot for pretrained, an open one for untrained, a tick for
    raw."""
    width, height, pad = 132, 14, 5
    middle = height / 2

    def px(value: float) -> float:
        return pad + min(max(value, 0.0), 1.0) * (width - 2 * pad)

    body = [line(pad, middle, width - pad, middle, "axis faint")]
    if row.chance is not None:
        body.append(line(px(row.chance), middle - 2.5, px(row.chance), middle + 2.5, "axis"))
    if raw := row.score("raw"):
        body.append(line(px(raw.mean), middle - 5, px(raw.mean), middle + 5, "rawtick"))
    for kind in ("untrained", "pretrained"):
        if score := row.score(kind):
            low, high = map(px, score.range)
            body.append(line(low, middle, high, middle, "whisker"))
            body.append(dot(px(score.mean), middle, kind, 3.4, f"{kind} {figure(score)}"))
    scores = ", ".join(f"{k} {percent(s.mean)}" for k in KINDS if (s := row.score(k)))
    return svg(body, width, height, scores or "no scores", "strip")


def costed(made: list[Row]) -> list[Row]:
    """The entries of one task with a score and a cost."""
    return [row for row in made if row.score("pretrained") and row.minutes]


def cost(task: str, made: list[Row]) -> str:
    """Quality against cost for one task: a line from the untrained encoder, at no cost, to the pretrained one; "" below
    `FEWEST` entries, for which the table is enough.

    Raw features are a dashed line, chance a dotted one if near; whiskers are the spread.
    """
    known = costed(made)
    if len(known) < FEWEST:
        return ""
    title = f"{task}, {known[0].metric}" if known[0].metric else task
    body = [text(0, 11, title, "name")]
    width, height = (WIDTH, HEIGHT) if len(known) <= FEW else (460, 260)
    left, right, top, bottom = 36, width - 86, 26, height - 18
    values = [m for r in known for k in KINDS if (s := r.score(k)) for m in s.range]
    low, high = min(values), max(values)
    chances = {r.chance for r in known if r.chance is not None and low - r.chance < (high - low) / 2}
    low = min([low, *chances])
    longest = max(r.minutes.mean for r in known)

    def px(minutes: float) -> float:
        return left + minutes / (longest or 1) * (right - left)

    def py(value: float) -> float:
        return bottom - (value - low) / ((high - low) or 1) * (bottom - top)

    body += [line(left - 4, py(low), left - 4, py(high)), line(left, bottom + 4, right, bottom + 4)]
    body += [text(left - 8, py(v) + 4, percent(v), "tick", "end") for v in sorted({low, high})]
    body.append(text(left, height - 2, "0", "tick"))
    body.append(text(right, height - 2, f"{longest:.1f} min", "tick", "end"))
    raws = [s.mean for r in known if (s := r.score("raw"))]
    levels = [(float(np.mean(raws)), "raw")] if raws else []
    levels += [(chance, "chance") for chance in chances]
    wanted = [(right + 9, py(value), name, "tick") for value, name in levels]
    body += [line(left, py(value), right, py(value), f"level {name}") for value, name in levels]
    dots = []
    for row in known:
        trained, before = row.score("pretrained"), row.score("untrained")
        x, y = px(row.minutes.mean), py(trained.mean)
        if before:
            body.append(line(px(0), py(before.mean), x, y, "line" if len(known) <= FEW else "noise"))
            dots.append(dot(px(0), py(before.mean), "untrained", 3, f"{row.entry}, untrained: {figure(before)}"))
        lowest, highest = trained.range
        told = f"{row.entry}: {figure(trained, row.expected)} after {row.minutes.mean:.1f} minutes"
        dots += [line(x, py(lowest), x, py(highest), "whisker"), dot(x, y, "pretrained", 3.4, told)]
        wanted.append((x + 9, y, row.entry, "last"))
    body += [*dots, *labels(wanted)]
    return svg(body, width, height, f"{task}: quality against minutes of pretraining")


def bars(weights: list[float]) -> str:
    """The learned weight of each layer, from the trunk's input on, as small bars; the largest is labelled."""
    known = [w if isinstance(w, int | float) and math.isfinite(w) else 0.0 for w in weights]
    high, step, tall = max([*known, 1e-9]), 9, 26
    width = step * len(known) - 2
    body = []
    for place, weight in enumerate(known):
        size = max(weight / high, 0) * tall
        kind = "bar top" if weight == high else "bar"
        at = f'x="{place * step}" y="{tall - size:.1f}" width="{step - 2}" height="{size:.1f}"'
        body.append(f'<rect {at} class="{kind}"{tip(f"layer {place}: {weight:.2f}")}/>')
    body.append(line(0, tall + 0.5, width, tall + 0.5))
    top = known.index(max(known)) if known else 0
    body.append(text(top * step + 3.5, tall + 12, str(top), "tick", "middle"))
    return svg(body, width, tall + 14, f"weights of layers 0 to {len(known) - 1}, most on {top}", "bars")
