"""Scatter plots of a probe's test features, coloured by class, from what `sslzoo.probe.projections` stored.

An older run's probe has `features` {xy: [N][2], label: [N]} instead, a PCA.
"""

import json
from collections import Counter
from dataclasses import dataclass
from html import escape

import numpy as np

from sslzoo.report.record import Record, at, number
from sslzoo.report.svg import short, svg
from sslzoo.report.tables import KINDS, percent

PLANE = 200  # side of a plot
COLOURS, SHADES = 10, 5
NAMES = {  # projection -> title and description
    "probe": ("the probe’s own", "the plane in which the linear head, fitted on train, tells classes apart"),
    "tsne": ("t-SNE", "neighbours stay neighbours; distances between groups mean little"),
    "pca": ("PCA", "the two directions of the most variance, whatever they are about"),
}


@dataclass(frozen=True)
class Points:
    """planes: {projection: [N, 2]}. label, predicted: [N] names of classes, or values; predicted may be empty."""

    planes: dict[str, np.ndarray]
    label: list
    predicted: list


def points(part) -> Points | None:
    """The points of one kind of features, or None if none are stored. Raises ValueError if damaged."""
    shown, old = at(part, "projections"), at(part, "features")
    if not isinstance(shown, dict) and not isinstance(old, dict):
        return None
    try:
        if not isinstance(shown, dict):
            shown = {"planes": {"pca": old["xy"]}, "label": old["label"]}
        planes = {name: np.asarray(xy, float).reshape(-1, 2) for name, xy in shown["planes"].items() if name in NAMES}
        label, predicted = list(shown["label"]), list(shown.get("predicted", []))
        if isinstance(classes := at(part, "classes"), list) and at(part, "projections"):
            label, predicted = ([str(classes[place]) for place in some] for some in (label, predicted))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks or misuses {error}") from error
    for plane in planes.values():
        if len(plane) != len(label):
            raise ValueError(f"{len(plane)} points have {len(label)} labels")
    return Points(planes, label, predicted if len(predicted) == len(label) else [])


def colours(labels: list) -> dict[str, int]:
    """{class: colour}, for the most frequent if there are too many; {} for values."""
    if any(isinstance(label, float) for label in labels):
        return {}
    names = [name for name, _ in sorted(Counter(map(str, labels)).items(), key=lambda item: (-item[1], item[0]))]
    return {name: place for place, name in enumerate(sorted(names[:COLOURS], key=lambda n: (len(n), n)))}


def _edges(values: np.ndarray) -> np.ndarray:
    return np.nanquantile(values, np.arange(1, SHADES) / SHADES) if len(values) else np.array([])


def plane(xy: np.ndarray, shown: Points, chosen: dict[str, int], told: str) -> str:
    """Points [N, 2] as SVG: classes in their colours, others grey; values from blue (low) to red (high)."""
    if chosen:
        kinds = [f"c{chosen.get(str(label), 'x')}" for label in shown.label]
    else:
        values = np.asarray(shown.label, float)
        kinds = [f"s{shade}" for shade in np.searchsorted(_edges(values), values)]
    finite = np.isfinite(xy).all(1)
    if not finite.any():
        raise ValueError("no point is finite")
    low, high = np.percentile(xy[finite], [0.5, 99.5], axis=0)  # clip outliers
    # scale each axis to fill the plot: the variances differ by orders of magnitude
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 1e-9 + (high - low).max() / 200)
    places = np.clip((xy - middle) / half, -1.06, 1.06) * (PLANE / 2 - 10) + PLANE / 2
    names = list(dict.fromkeys(map(str, [*shown.label, *shown.predicted]))) if chosen else []
    number_of = {name: n for n, name in enumerate(names)}
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(finite).tolist():
        groups.setdefault(kinds[row], []).append(row)
    body = []
    for kind, rows in sorted(groups.items(), reverse=True):
        # one path per class: zero-length lines with round caps are dots, in a tenth of the bytes of circles
        path = "".join(f"M{places[r, 0]:.1f} {PLANE - places[r, 1]:.1f}h0" for r in rows)
        told_of = [(shown.label, "l"), (shown.predicted, "p")]
        if chosen:
            data = "".join(
                f' data-{key}="{" ".join(str(number_of[str(column[r])]) for r in rows)}"'
                for column, key in told_of
                if column
            )
        else:
            data = "".join(
                f' data-{key}="{" ".join(f"{column[r]:.4g}" for r in rows)}"' for column, key in told_of if column
            )
        body.append(f'<path d="{path}" class="{kind}"{data}/>')
    data = f'data-names="{escape(json.dumps(names, ensure_ascii=False))}"'
    return svg(body, PLANE, PLANE, told, "plane", data)


def _cell(shown: Points | None | str, name: str, chosen: dict[str, int], told: str) -> str:
    if shown is None:
        return '<p class="absent">no features were kept</p>'
    if isinstance(shown, str):
        return f'<p class="absent">cannot be drawn: {escape(shown)}</p>'
    if name not in shown.planes:
        return '<p class="absent">too few or too alike for it</p>'
    try:
        return plane(shown.planes[name], shown, chosen, told)
    except (ValueError, TypeError) as error:
        return f'<p class="absent">cannot be drawn: {escape(str(error))}</p>'


def _read(part) -> Points | None | str:
    try:
        return points(part)
    except ValueError as error:
        return str(error)


def legend(labels: list, chosen: dict[str, int]) -> str:
    """A button for each coloured class, with which the script highlights it; or the values' range."""
    if not chosen and labels:
        values = np.asarray(labels, float)
        marks = "".join(f'<i class="s{shade}">●</i>' for shade in range(SHADES))
        return f"{short(float(np.nanmin(values)))} {marks} {short(float(np.nanmax(values)))}"
    names = "".join(f'<button type="button" class="c{c}">{escape(name)}</button> ' for name, c in chosen.items())
    others = len(set(map(str, labels))) - len(chosen)
    return names + (f'<span class="others">and {others} more, grey</span>' if others > 0 else "")


def _score(probe: dict, kind: str) -> str:
    found = number(at(probe, kind, "linear", "test"))
    return f" <b>{percent(found)}</b>" if found is not None else ""


def _task(task: str, probe: dict) -> str:
    """The plots of one task: a row per projection, a column per kind of features."""
    found = {kind: _read(probe.get(kind)) for kind in KINDS}
    held = [shown for shown in found.values() if isinstance(shown, Points)]
    names = [name for name in NAMES if any(name in shown.planes for shown in held)] or ["pca"]
    labels = next((shown.label for shown in held), [])
    chosen = colours(labels)
    cells = [f'<div class="classes"><strong>{escape(task)}</strong>{legend(labels, chosen)}</div>']
    cells += [f'<p class="over">{kind}{_score(probe, kind)}</p>' for kind in KINDS]
    for name in names:
        title, about = NAMES[name]
        cells.append(f'<p class="side"><em>{title}</em> <span>{about}</span></p>')
        cells += [_cell(found[kind], name, chosen, f"{task}, {kind}: {title}") for kind in KINDS]
    return f'<div class="planes">{"".join(cells)}</div>'


def html(record: Record) -> str:
    """The plots of all tasks of a run."""
    tasks = "".join(_task(task, probe) for task, probe in record.probes.items())
    key = "Frozen features of items of the test split, coloured by what the task asks; above them the linear head's score."
    return f'<h3>Features</h3>{tasks}<p class="key">{key}</p>' if tasks else ""
