"""One page for one run or several: a single HTML file that needs no network, no script and no library.

The page's own policy forbids every request and every script, so that a hostile name in a run's files,
which is escaped where it is written, could not do anything either.
"""

from html import escape
from pathlib import Path

from sslzoo.report import curves, losses, tables, targets
from sslzoo.report.record import Record, group, read
from sslzoo.report.section import count, facts, header, machine_of, missing, section
from sslzoo.run import Run, write_atomic

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write(runs: list[Run], path: Path, results: dict | None = None) -> Path:
    """Write the page of `runs` to `path`, whole or not at all, and return `path`.

    Runs that differ in nothing but their seed are shown as one. `results`, what `sslzoo.compare` wrote,
    groups them by its entries instead and adds what was planned, what failed and where it was measured.
    """
    records = [read(run) for run in runs]
    if results is None:
        groups, tasks, title = group(records), None, " · ".join(dict.fromkeys(r.run.name for r in records))
    else:
        at = {str(run["run"]): run["entry"] for run in results["runs"]}
        groups = {entry: [] for entry in results["entries"]}
        for record in records:
            groups[at[record.run.name]].append(record)
        tasks, title = {entry: plan["tasks"] for entry, plan in results["entries"].items()}, results["name"]
    rows = tables.rows(groups, tasks)
    for record in records:  # the table's order, everywhere
        record.probes = {row.task: record.probes[row.task] for row in rows if row.task in record.probes}
    several = len(groups) > 1
    body = [f"<header><h1>{escape(str(title))}</h1>{_measured(records, results)}"]
    if several:
        links = (f'<a href="#run-{n}">{escape(label)}</a>' for n, label in enumerate(groups))
        body.append(f"<nav>{''.join(links)}</nav>")
    elif records:
        body.append(header(records) + missing(records))
    body.append(f'<p class="lead">{escape(losses.summary(rows, losses.rows(groups)))}</p></header>')
    body.append(_failures(results))
    if rows:
        body.append(_table(rows, several))
        if results is not None:
            body.append(f"<h3>Quality against cost</h3>{_cost(rows)}")
    body.append(targets.html(targets.target_rows(groups)))
    for number, (label, members) in enumerate(groups.items()):
        heading = f'<h2 id="run-{number}">{escape(label)}</h2>{header(members)}{missing(members)}' if several else ""
        body.append(f"<section>{heading}{section(members)}</section>")
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(str(title))} — sslzoo</title><style>{style}</style>"
    )
    page = f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{"".join(body)}</body></html>\n'
    write_atomic(path, lambda p: p.write_text(page, encoding="utf-8"))
    return path


def _measured(records: list[Record], results: dict | None) -> str:
    """What holds for all runs together."""
    minutes = [r.minutes for r in records if r.minutes is not None]
    machines = [m for m in dict.fromkeys(machine_of(r.summary) for r in records) if m]
    parts = []
    if len(records) > 1:
        parts += [count(len(records), "run"), f"{sum(minutes):.1f} minutes of pretraining" if minutes else ""]
        parts += ["; ".join(machines)]
    if results:
        parts += [
            f"commit {results['commit']}" if results.get("commit") else "",
            f"config {results['config_hash']}",
        ]
    return facts(parts) if any(parts) else ""


def _failures(results: dict | None) -> str:
    failed = [r for r in (results or {}).get("runs", []) if r.get("error")]
    lines = (f"<li><span class=failed>{escape(r['run'])}</span>: {escape(r['error'])}</li>" for r in failed)
    return f'<ul class="missing">{"".join(lines)}</ul>' if failed else ""


def _figure(score: tables.Score | None, bold: bool, expected: int) -> str:
    if score is None:
        return "—"
    text = escape(tables.figure(score, expected))
    mean, _, rest = text.partition(" ")
    mean = f"<b>{mean}</b>" if bold else mean
    return f'{mean} <span class="spread">{rest}</span>' if rest else mean


def _table(rows: list[tables.Row], several: bool) -> str:
    columns = ["task", "run" if several else "", *tables.KINDS, "chance", "minutes", "GB"]
    kinds = ["left", "gap" if several else "", "", "", "", "wide-only", "wide-only", "wide-only"]
    head = "".join(f'<th class="{k}">{c}</th>' for c, k in zip(columns, kinds, strict=True) if c)
    head += '<th class="gap wide-only">0 to 100</th>'
    lines, before = [], None
    for row in rows:
        metric = f' <span class="metric">{escape(row.metric)}</span>' if row.metric else ""
        task = escape(row.task) + metric if row.task != before else ""
        cells = [
            f'<td class="left">{task}</td>',
            f'<td class="gap">{escape(row.entry)}</td>' if several else "",
        ]
        best = row.best()
        cells += [f"<td>{_figure(row.score(k), k in best, row.expected)}</td>" for k in tables.KINDS]
        cells.append(f'<td class="wide-only">{tables.percent(row.chance)}</td>')
        cells += [f'<td class="wide-only">{tables.quantity(s)}</td>' for s in (row.minutes, row.memory_gb)]
        cells.append(f'<td class="gap wide-only">{curves.strip(row)}</td>')
        kind = ("first" if row.task != before else "") + ("" if row.scores.get("knn") else " alone")
        lines.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
        if row.scores.get("knn"):
            best = row.best("knn")
            near = "".join(f"<td>{_figure(row.score(k, 'knn'), k in best, row.expected)}</td>" for k in tables.KINDS)
            name = '<td class="left"></td><td class="gap">' if several else '<td class="left">'
            blank = '<td></td><td class="wide-only"></td><td class="wide-only"></td><td></td>'
            lines.append(f"<tr class=knn>{name}nearest neighbours</td>{near}{blank}</tr>")
        before = row.task
    key = (
        "A linear head over frozen features, its penalty chosen on the validation split and the test split "
        "scored once; nearest neighbours beside it. Bold is the best, and what spread cannot tell from it. "
        '<span class="wide-only">On the line: ● pretrained, ○ untrained, | raw features, ˈ chance. </span>'
    )
    if any(s.spread is not None for r in rows for s in r.scores.get("linear", {}).values()):
        key += "± is the standard deviation over seeds."
    table = f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'<div class="scroll">{table}</div><p class="key">{key}</p>'


def _cost(rows: list[tables.Row]) -> str:
    tasks: dict[str, list[tables.Row]] = {}
    for row in rows:
        tasks.setdefault(row.task, []).append(row)
    charts = "".join(curves.cost(task, table_rows) for task, table_rows in tasks.items())
    key = "From the untrained encoder (○) to the pretrained one (●); dashed, raw features; dotted, chance."
    large = " large" if max(map(len, tasks.values())) > curves.FEW else ""
    return f'<div class="charts{large}">{charts}</div><p class="key">{key}</p>'
