"""Figures of `sslzoo analyze`: matrices, lines over layers, and the legends of their rows."""

from html import escape

import numpy as np

from sslzoo.report import planes
from sslzoo.report.record import Record
from sslzoo.report.svg import labels, line, path, short, svg, text, tip

NUMBERED = 16  # columns up to which cells show their numbers
SIDE = 108  # of a matrix without names, at most
LONGEST = 14  # characters of a row's or column's name
DARKEST = 0.85


def html(record: Record) -> str:
    """All figures of a run's analyses, in the order of the analyses' names."""
    parts = []
    for name, found in record.analyses.items():
        try:
            parts += [figure(f) for f in found["figures"]]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            told = f"analysis/{name}.json cannot be drawn: it lacks or misuses {error}"
            parts.append(f'<p class="missing">{escape(told)}</p>')
    return f"<h3>Analyses</h3>{''.join(parts)}" if parts else ""


def figure(found: dict) -> str:
    """Matrices side by side with a common scale, then line charts, then the numbered legend of the rows."""
    matrices = [(m, np.asarray(m["values"], float)) for m in found["matrices"]]
    drawn, scale = [], ""
    if matrices:
        finite = np.concatenate([values[np.isfinite(values)] for _, values in matrices])
        if not len(finite) or any(values.ndim != 2 or not values.size for _, values in matrices):
            raise ValueError("a matrix without numbers")
        low, high = float(finite.min()), float(finite.max())
        drawn = [matrix(m, values, low, high) for m, values in matrices]
        scale = f" The lightest is {short(low)}, the darkest {short(high)}."
    drawn += [lines(one) for one in found["lines"]]
    if scattered := found.get("planes"):
        names = [label for one in scattered for label in one["label"]]
        chosen = planes.colours(names)
        drawn += [scatter(one, chosen) for one in scattered]
        scale += f' <span class="legend">{planes.legend(names, chosen)}</span>'
    title, said = escape(str(found["title"])), escape(str(found["said"]))
    listed = "".join(f"<li>{escape(str(row))}</li>" for row in found["legend"])
    return f'<p class="asked"><strong>{title}.</strong> {said}{scale}</p><div class="maps">{"".join(drawn)}</div>' + (
        f'<ol class="key">{listed}</ol>' if listed else ""
    )


def scatter(found: dict, chosen: dict[str, int]) -> str:
    """Points in the colours of their classes."""
    shown = planes.Points({}, list(found["label"]), [])
    drawn = planes.plane(np.asarray(found["points"], float).reshape(-1, 2), shown, chosen, str(found["title"]))
    return f'<figure class="map">{drawn}<figcaption>{escape(str(found["title"]))}</figcaption></figure>'


def matrix(found: dict, values: np.ndarray, low: float, high: float) -> str:
    """A heat map, darker for higher values; with numbers in hundredths if rows have names and columns are few."""
    rows, columns = ([str(name) for name in found[key]] for key in ("rows", "columns"))
    named = bool(rows)
    if named and values.shape != (len(rows), len(columns)):
        raise ValueError(f"{values.shape[0]} rows and {values.shape[1]} columns with other names")
    numbered = named and values.shape[1] <= NUMBERED
    size = 26.0 if numbered else max(3.0, min(13.0, SIDE / max(values.shape)))
    left, top = (10 + 6.2 * max(len(name[:LONGEST]) for name in rows), 18.0) if named else (0.0, 0.0)
    body, middle = [], size / 2
    if named:
        body += [
            text(left - 5, top + i * size + middle + 4, name[:LONGEST], "tick", "end") for i, name in enumerate(rows)
        ]
        every = max(1, -(-7 * max(map(len, columns)) // int(size)))  # so that names do not overlap
        body += [
            text(left + i * size + middle, top - 5, name[:LONGEST], "tick", "middle")
            for i, name in enumerate(columns)
            if i % every == 0
        ]
    width, height = size * values.shape[1], size * values.shape[0]
    body.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" class="ground"/>')
    for (i, j), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        share = DARKEST * (value - low) / ((high - low) or 1) * (0.5 if numbered else 1)
        x, y, wide = left + j * size, top + i * size, size - (1 if size > 6 else 0)
        told = f"{rows[i] if named else i + 1}, {columns[j] if named else j + 1}: {value:.3f}"
        place = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{wide:.1f}"'
        body.append(f'<rect {place} class="hit" fill-opacity="{max(share, 0):.2f}"{tip(told)}/>')
        if numbered:
            body.append(text(x + middle - 0.5, y + middle + 3.5, f"{100 * value:.0f}", "count", "middle"))
    title = str(found["title"]) or "a matrix"
    chart = svg(
        body, left + width + 2, top + height + 2, f"{title}, from {values.min():.2f} to {values.max():.2f}", "confusion"
    )
    caption = f"<figcaption>{escape(str(found['title']))}</figcaption>" if found["title"] else ""
    return f'<figure class="map"><div class="scroll">{chart}</div>{caption}</figure>'


def lines(found: dict) -> str:
    """Series over a named axis, each labelled at its end."""
    names, series = [str(x) for x in found["x"]], {str(k): np.asarray(v, float) for k, v in found["series"].items()}
    if not series or any(values.shape != (len(names),) or not np.isfinite(values).all() for values in series.values()):
        raise ValueError("series that are not as long as their axis, or not finite")
    longest = max(map(len, series))
    height, left, right, top, bottom = 170, 36, 300, 24, 146
    every = np.concatenate(list(series.values()))
    low, high = float(every.min()), float(every.max())

    def px(place):
        return left + place / max(1, len(names) - 1) * (right - left)

    def py(value):
        return bottom - (value - low) / ((high - low) or 1) * (bottom - top)

    body = [text(0, 11, str(found["title"]), "name"), line(left - 4, py(low), left - 4, py(high))]
    body += [line(left, bottom + 4, right, bottom + 4), text(left - 8, py(high) + 4, short(high), "tick", "end")]
    body += [text(left - 8, py(low) + 4, short(low), "tick", "end")] if high > low else []
    step = max(1, len(names) // 12)
    body += [text(px(i), height - 6, name, "tick", "middle") for i, name in enumerate(names) if i % step == 0]
    wanted: list[tuple[float, float, str, str]] = []
    for number, (name, values) in enumerate(series.items()):
        look, places = f"c{number % 10}", np.arange(len(names))
        told = ", ".join(f"{n}: {v:.3f}" for n, v in zip(names, values, strict=True))
        drawn = path(px(places), py(values), "line") if len(names) > 1 else ""
        dots = "".join(
            f'<circle cx="{px(i):.1f}" cy="{py(v):.1f}" r="3" class="dot"{tip(f"{name}, {names[i]}: {v:.3f}")}/>'
            for i, v in enumerate(values)
        )
        body.append(f'<g class="series {look}" aria-label="{escape(f"{name}: {told}")}">{drawn}{dots}</g>')
        wanted.append((right + 7, float(py(values[-1])), f"{short(float(values[-1]))} {name}", f"last {look}"))
    body += labels(wanted)
    return f"<figure class=map>{svg(body, right + 60 + 6 * longest, height, str(found['title']), 'curve')}</figure>"
