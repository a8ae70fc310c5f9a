"""The page of a comparison of adaptations: its tables, accuracy against trained parameters, and early exit's accuracy
against speed-up."""

import math
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np

from sslzoo.report import page
from sslzoo.report.adaptations import NOTE, Row, Table, labels, outdated, rows, summary, tables
from sslzoo.report.section import facts
from sslzoo.report.svg import dot, line, path, svg, text
from sslzoo.report.svg import labels as placed
from sslzoo.report.tables import figure, percent
from sslzoo.run import write_atomic

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 40, WIDTH - 96, 26, HEIGHT - 30


def write(out: Path, results: dict) -> None:
    """Write the page of results.json to `out`, atomically."""
    found, machine = rows(results["runs"]), results["machine"]
    said = [
        f"encoder {results['encoder']}",
        f"{machine['cores']} cores ({machine['arch']})",
        f"config {results['config_hash']}",
    ]
    said += [f"commit {results['commit']}"] if results.get("commit") else []
    body = [
        f"<header><h1>{escape(results['name'])}</h1>{facts(said)}",
        f'<p class="facts">{escape(summary(found))}</p></header>',
    ]
    body.append(page.failures(results))
    body += [html(table) for table in tables(found)]
    key = f"{NOTE} Bold is the best of a task, and what spread cannot tell from it. {outdated(found)}".strip()
    body.append(f'<p class="key">{escape(key)}</p>')
    drawn = "".join(map(parameters, groups(found)))
    if drawn:
        key = "Score on test against trained parameters, of encoder and head, on a logarithmic axis; whiskers are the spread."
        body.append(
            f'<h3>Score against trained parameters</h3><div class="charts large">{drawn}</div><p class="key">{key}</p>'
        )
    drawn = "".join(speed_up(row, size) for row in found if row.exits for size in (1, 32))
    if drawn:
        key = (
            "Each point is a value of the criterion by which a row leaves; the open one is that which validation chose."
        )
        body.append(
            f'<h3>Early exit: score against speed-up</h3><div class="charts">{drawn}</div><p class="key">{key}</p>'
        )
    text_of_page = page.whole(results["name"], body)
    write_atomic(out, lambda p: p.write_text(text_of_page, encoding="utf-8", errors="replace"))


def groups(found: list[Row]) -> list[list[Row]]:
    """The rows of each task and number of labels."""
    keys = dict.fromkeys((row.task, row.shots) for row in found)
    return [[row for row in found if (row.task, row.shots) == key] for key in keys]


def html(table: Table) -> str:
    """A table under its title, sortable by the page's script."""
    look = ["left" if place < table.left else "" for place in range(len(table.headings))]
    head = "".join(f'<th scope="col" class="{k}">{escape(h)}</th>' for k, h in zip(look, table.headings, strict=True))
    lines = []
    for i, cells in enumerate(table.lines):
        made = []
        for j, (kind, cell) in enumerate(zip(look, cells, strict=True)):
            mean, _, rest = escape(cell).partition(" ±")
            mean = f"<b>{mean}</b>" if (i, j) in table.bold else mean
            shown = mean + (f' <span class="spread">±{rest}</span>' if rest else "")
            made.append(f'<td class="{kind}">{shown}</td>' if kind else f"<td>{shown}</td>")
        lines.append(f'<tr class="alone">{"".join(made)}</tr>')
    drawn = f'<table class="scores sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'<h3>{escape(table.title)}</h3><div class="scroll">{drawn}</div>'


def axes(title: str, low: float, high: float) -> tuple[list[str], Callable[[float], float]]:
    """(the elements of a chart's title and axes, its map from scores to pixels)."""

    def py(value: float) -> float:
        return BOTTOM - (value - low) / ((high - low) or 1) * (BOTTOM - TOP)

    body = [
        text(0, 11, title, "name"),
        line(LEFT - 4, TOP, LEFT - 4, BOTTOM),
        line(LEFT, BOTTOM + 4, RIGHT, BOTTOM + 4),
    ]
    body += [text(LEFT - 8, py(value) + 4, percent(value), "tick", "end") for value in sorted({low, high})]
    return body, py


def parameters(some: list[Row]) -> str:
    """Score against trained parameters (log axis) for one task and number of labels; "" below three entries. What
    trains nothing stands at the left edge."""
    known = [(row, row.test) for row in some if row.test and "trained_parameters" in row.costs]
    if len(known) < 3:
        return ""
    first, values = known[0][0], [value for _, score in known for value in score.range]
    body, py = axes(f"{first.task}, {labels(first.shots).lower()}, {first.metric}", min(values), max(values))
    logs = [math.log10(max(row.costs["trained_parameters"].mean, 1.0)) for row, _ in known]
    low, high = math.floor(min(logs)), math.ceil(max(logs))

    def px(log: float) -> float:
        return LEFT + (log - low) / ((high - low) or 1) * (RIGHT - LEFT)

    body += [text(px(log), BOTTOM + 18, power(log), "tick", "middle") for log in range(low, high + 1)]
    if first.chance is not None and min(values) <= first.chance <= max(values):
        body.append(line(LEFT, py(first.chance), RIGHT, py(first.chance), "level chance"))
    wanted = []
    for (row, score), log in zip(known, logs, strict=True):
        x, y, (least, most) = px(log), py(score.mean), score.range
        told = f"{row.entry}: {figure(score, row.expected)}, {row.costs['trained_parameters'].mean:,.0f} parameters trained"
        body += [line(x, py(least), x, py(most), "whisker"), dot(x, y, "pretrained", 3.4, told)]
        wanted.append((x + 8, y, row.entry, "last"))
    return svg([*body, *placed(wanted)], WIDTH, HEIGHT, f"{first.task}: score against trained parameters")


def power(log: int) -> str:
    """10 to the power of `log` in few characters: 100, 10k, 1M."""
    thousands = min(log // 3, 3)
    return f"{10 ** (log - 3 * thousands)}{('', 'k', 'M', 'G')[thousands]}"


def speed_up(row: Row, size: int) -> str:
    """Score on test against measured speed-up over the full model in batches of `size` rows, a line a seed."""
    seeds = [(e, [p for p in e["test"] if f"speedup_{size}" in p]) for e in row.exits]
    points = [(p[f"speedup_{size}"], p["score"]) for _, of_seed in seeds for p in of_seed]
    if not points:
        return ""
    scores, most = [score for _, score in points], max(speed for speed, _ in points)
    title = f"{row.entry}, {row.task}, {labels(row.shots).lower()}, batch {size}"
    body, py = axes(title, min(scores), max(scores))
    least = min(1.0, *(speed for speed, _ in points))

    def px(speed: float) -> float:
        return LEFT + (speed - least) / ((most - least) or 1) * (RIGHT - LEFT)

    body += [text(px(speed), BOTTOM + 18, f"{speed:.1f}x", "tick", "middle") for speed in sorted({least, 1.0, most})]
    for said, of_seed in seeds:
        of_seed = sorted(of_seed, key=lambda p: p[f"speedup_{size}"])
        x, y = (np.array([f(p[key]) for p in of_seed]) for f, key in ((px, f"speedup_{size}"), (py, "score")))
        body.append(path(x, y, "line"))
        for point, left, down in zip(of_seed, x, y, strict=True):
            value = point[said["criterion"]]
            told = f"{said['criterion']} {value:g}: {percent(point['score'])}, {point[f'speedup_{size}']:.2f} times as fast"
            body.append(dot(left, down, "untrained" if value == said["chosen"] else "pretrained", 3, told))
    return svg(body, WIDTH, HEIGHT, f"{title}: score against speed-up")
