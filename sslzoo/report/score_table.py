"""The page's table of scores, made sortable by its script, and the charts of quality against cost."""

from html import escape

from sslzoo.report import charts, tables
from sslzoo.report.tables import KINDS, Row, Score


def _figure(score: Score | None, bold: bool, expected: int) -> str:
    if score is None:
        return "—"
    mean, _, rest = escape(tables.figure(score, expected)).partition(" ")
    mean = f"<b>{mean}</b>" if bold else mean
    return f'{mean} <span class="spread">{rest}</span>' if rest else mean


def _cell(html: str, kind: str = "", value: float | str | None = None) -> str:
    """value: the sort key."""
    sorts = f' data-value="{escape(str(value))}"' if value is not None else ""
    return f'<td class="{kind}"{sorts}>{html}</td>' if kind else f"<td{sorts}>{html}</td>"


def _mean(score: Score | None) -> float | None:
    return None if score is None else round(score.mean, 6)


def table(rows: list[Row], several: bool, anchors: dict[str, str]) -> str:
    """A row per entry and task, with nearest neighbours below it. several: whether there are several entries, which are
    then named. anchors: {entry: its id on the page}."""
    columns = [("task", "left"), ("run", "gap"), *((kind, "") for kind in KINDS)]
    tuned = any(row.tuned for row in rows)
    columns += [(tables.TUNED, "")] if tuned else []
    columns += [("chance", "wide-only"), ("minutes", "wide-only"), ("GB", "wide-only")]
    columns = [column for column in columns if several or column[0] != "run"]
    head = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in columns)
    head += '<td class="gap wide-only">0 to 100</td>'
    best = {name: tables.winners(rows, name) for name in tables.HEADS}
    lines, before = [], None
    for row in rows:
        metric = f' <span class="metric">{escape(row.metric)}</span>' if row.metric else ""
        again = row.task == before
        # repeated task names are hidden while the rows are sorted by task
        cells = [_cell(escape(row.task) + metric, "left again" if again else "left", row.task)]
        name = escape(tables.named(row))
        name = f'<a href="#{anchors[row.entry]}">{name}</a>' if row.entry in anchors else name
        cells += [_cell(name, "gap", row.entry)] if several else []
        wins = (row.task, row.entry) in best["linear"]
        for kind in KINDS:
            score = row.score(kind)
            cells.append(_cell(_figure(score, wins and kind == "pretrained", row.expected), "", _mean(score)))
        cells += [_cell(_figure(row.tuned, False, row.expected), "", _mean(row.tuned))] if tuned else []
        cells.append(_cell(tables.percent(row.chance), "wide-only", row.chance))
        cells += [_cell(tables.quantity(s), "wide-only", _mean(s)) for s in (row.minutes, row.memory_gb)]
        cells.append(_cell(charts.strip(row), "gap wide-only"))
        kind = ("" if again else "first") + ("" if row.scores.get("knn") else " alone")
        lines.append(f'<tr class="{kind.strip()}">{"".join(cells)}</tr>')
        if row.scores.get("knn"):
            wins = (row.task, row.entry) in best["knn"]
            near = "".join(
                f"<td>{_figure(row.score(k, 'knn'), wins and k == 'pretrained', row.expected)}</td>" for k in KINDS
            )
            label = '<td class="left"></td><td class="gap">' if several else '<td class="left">'
            blank = "<td></td>" * tuned + '<td class="wide-only"></td>' * 4
            lines.append(f'<tr class="knn">{label}nearest neighbours</td>{near}{blank}</tr>')
        before = row.task
    key = (
        "A linear head over frozen features, its penalty chosen on the validation split and the test split "
        "scored once; nearest neighbours beside it. Bold is the best run of a task, and what spread cannot tell from "
        'it. <span class="wide-only">On the line: ● pretrained, ○ untrained, | raw features, ˈ chance. </span>'
    )
    if any(s.spread is not None for r in rows for s in r.scores.get("linear", {}).values()):
        key += "± is the standard deviation over seeds. One run is above another if they differ by more than the larger of "
        key += "both and, of two seeds or more each, by Welch's t-test (one-sided, p &lt; 0.05). "
    key += escape(tables.outdated(rows))
    drawn = f'<table class="scores sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'<div class="scroll">{drawn}</div><p class="key">{key}</p>'


def cost(rows: list[Row]) -> str:
    """Quality against cost for each task with enough entries; "" if none has."""
    by_task: dict[str, list[Row]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    drawn = "".join(charts.cost(task, of_task) for task, of_task in by_task.items())
    if not drawn:
        return ""
    key = "From the untrained encoder (○) to the pretrained one (●); dashed, raw features; dotted, chance."
    large = " large" if max(len(charts.costed(of_task)) for of_task in by_task.values()) > charts.FEW else ""
    return f'<h3>Quality against cost</h3><div class="charts{large}">{drawn}</div><p class="key">{key}</p>'
