"""Confusion matrices of probes: a heat map, and the pairs of classes that are confused most often."""

from collections.abc import Iterator
from html import escape

import numpy as np

from sslzoo.report.record import Record, at
from sslzoo.report.svg import svg, text, tip
from sslzoo.report.tables import percent

NUMBERED = 12  # classes up to which cells show their numbers
MOST = 48  # classes that are drawn; of more, those with the most errors
NAMED = 5  # confused pairs to list
LONGEST = 14  # characters of a class's name beside the map
FAINT = 0.35  # highest opacity of a cell with a number


def matrix(part) -> tuple[np.ndarray, list[str]] | None:
    """(counts [class, predicted class], the classes' names), or None if not stored. Raises ValueError if damaged."""
    pairs, classes = at(part, "confusion"), at(part, "classes")
    if not isinstance(pairs, list) or not isinstance(classes, list):
        return None
    counts = np.zeros((len(classes), len(classes)), int)
    try:
        for truth, taken, count in pairs:
            if min(truth, taken, count) < 0:
                raise ValueError("it holds a number below 0")
            counts[truth, taken] += count
    except (TypeError, IndexError) as error:
        raise ValueError(f"it lacks or misuses {error}") from error
    return counts, [str(name) for name in classes]


def confused(counts: np.ndarray, names: list[str]) -> Iterator[str]:
    """Yield the pairs that are confused most often: "3 for 8 (12 of 150)"."""
    wrong = counts - np.diag(np.diag(counts))
    for place in np.argsort(-wrong, axis=None, kind="stable")[:NAMED].tolist():
        truth, taken = divmod(place, len(names))
        if wrong[truth, taken]:
            yield f"{names[truth]} for {names[taken]} ({wrong[truth, taken]} of {counts[truth].sum()})"


def heatmap(counts: np.ndarray, names: list[str], title: str) -> str:
    """The matrix with a row per class and a column per predicted class; darker for larger shares of the row."""
    kept = np.arange(len(names))
    if len(names) > MOST:
        wrong = counts.sum(1) + counts.sum(0) - 2 * np.diag(counts)
        kept = np.sort(np.argsort(-wrong, kind="stable")[:MOST])
    shown, totals = counts[np.ix_(kept, kept)], counts.sum(1)[kept]
    labels = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in (names[k] for k in kept)]
    numbered = len(kept) <= NUMBERED
    size = 26 if numbered else 13
    left = 10 + 6.2 * max(map(len, labels))
    top = 10 + 6.2 * max(map(len, labels)) if max(map(len, labels)) > 2 else 18
    middle, body = size / 2, []
    for row, label in enumerate(labels):
        body.append(text(left - 5, top + row * size + middle + 4, label, "tick", "end"))
        x = left + row * size + middle
        turned = f' transform="rotate(-90 {x:.1f} {top - 5:.1f})"' if top > 18 else ""
        place = f'x="{x:.1f}" y="{top - 5:.1f}"'
        if turned:
            body.append(f'<text {place} dy="4"{turned} class="tick">{escape(label)}</text>')
        else:
            body.append(f'<text {place} class="tick" text-anchor="middle">{escape(label)}</text>')
    side = size * len(kept)
    body.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{side}" height="{side}" class="ground"/>')
    for row, column in np.argwhere(shown).tolist():
        count, share = int(shown[row, column]), shown[row, column] / totals[row]
        kind = "hit" if row == column else "miss"
        x, y = left + column * size, top + row * size
        dark = max(0.06, share) * (FAINT if numbered else 1)
        what = "found" if row == column else f"taken for {names[kept[column]]}"
        told = tip(f"{names[kept[row]]} {what}: {count} of {totals[row]}, {percent(share)}")
        place = f'x="{x:.1f}" y="{y:.1f}" width="{size - 1}" height="{size - 1}"'
        body.append(f'<rect {place} class="{kind}" fill-opacity="{dark:.2f}"{told}/>')
        if numbered:
            body.append(text(x + middle - 0.5, y + middle + 3.5, f"{100 * share:.0f}", "count", "middle"))
    return svg(body, left + side + 2, top + side + 2, title, "confusion")


def html(record: Record) -> str:
    """A matrix for each task with classes, of the pretrained encoder's linear head."""
    drawn = []
    for task, probe in record.probes.items():
        try:
            found = matrix(probe.get("pretrained"))
        except ValueError as error:
            drawn.append(f'<p class="missing">{escape(task)}: the confusion cannot be drawn: {escape(str(error))}</p>')
            continue
        if found is None or not found[0].sum():
            continue
        counts, names = found
        pairs = ", ".join(confused(counts, names)) or "nothing is confused"
        more = f" Drawn are the {MOST} of {len(names)} classes with the most errors." if len(names) > MOST else ""
        told = f"Most often: {pairs}.{more}"
        chart = heatmap(counts, names, f"{task}: which class is taken for which")
        drawn.append(
            f'<figure class="map"><figcaption><strong>{escape(task)}</strong></figcaption><div class="scroll">{chart}</div>'
            f"<figcaption>{escape(told)}</figcaption></figure>"
        )
    key = "A row a class of the test split, a column what the pretrained encoder's linear head took it for"
    key += "; the darker, the larger its share of the row, in hundredths where there is a number."
    return f'<h3>Confusion</h3><div class="maps">{"".join(drawn)}</div><p class="key">{key}</p>' if drawn else ""
