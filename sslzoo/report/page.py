"""The report of one run or several: a single HTML file without external requests or libraries.

Its content security policy forbids all requests, and all scripts except its own, given by hash. So even if a hostile
name in a run's files were not escaped, it could do nothing.
"""

import base64
import hashlib
from html import escape
from pathlib import Path

from sslzoo.report import headline, losses, score_table, tables, targets, verdict
from sslzoo.report.record import Record, group, read
from sslzoo.report.section import count, facts, header, machine_of, missing, overlay, section
from sslzoo.run import Run, write_atomic

LONGEST = 60  # characters of a title made of names
POLICY = (
    "default-src 'none'; script-src '{script}'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def write(runs: list[Run], path: Path, results: dict | None = None) -> list[tables.Row]:
    """Write the page of `runs` to `path`, atomically, and return the rows of its table of scores.

    Runs that differ only in their seed are shown together. results: results.json of `sslzoo compare`, which groups them
    by entry instead, and adds what was planned, what failed and the machine.
    """
    records = [read(run) for run in runs]
    if results is None:
        groups, tasks, title = group(records), None, " · ".join(dict.fromkeys(r.run.name for r in records))
        if len(groups) > 1 and len(title) > LONGEST:
            title = f"{len(groups)} runs compared"
    else:
        at = {str(run["run"]): run["entry"] for run in results["runs"]}
        groups = {entry: [] for entry in results["entries"]}
        for record in records:
            groups[at[record.run.name]].append(record)
        tasks, title = {entry: plan["tasks"] for entry, plan in results["entries"].items()}, results["name"]
    rows = tables.rows(groups, tasks)
    for record in records:  # the table's order of tasks everywhere
        record.probes = {row.task: record.probes[row.task] for row in rows if row.task in record.probes}
    page = whole(str(title), _body(str(title), groups, rows, results))
    write_atomic(path, lambda p: p.write_text(page, encoding="utf-8", errors="replace"))
    return rows


def _body(title: str, groups: dict[str, list[Record]], rows: list[tables.Row], results: dict | None) -> list[str]:
    records = [record for members in groups.values() for record in members]
    several = len(groups) > 1
    anchors = {label: f"run-{n}" for n, label in enumerate(groups)} if several else {}
    found = {label: verdict.verdict(members) for label, members in groups.items()}
    body = [f"<header><h1>{escape(title)}</h1>{_measured(records, results)}"]
    if records and not several:
        body += [header(records), *map(verdict.html, found.values()), missing(records)]
    body.append(headline.html(rows, anchors))
    if several:
        body.append(verdict.listed(found, anchors))
    body.append(f'<p class="facts">{escape(losses.summary(rows, losses.rows(groups)))}</p></header>')
    body.append(failures(results))
    if rows:
        body += [score_table.table(rows, several, anchors), score_table.cost(rows)]
    body.append(targets.html(targets.target_rows(groups)))
    if several:
        body.append(overlay({label: members for label, members in groups.items() if members}))
    for label, members in groups.items():
        top = ""
        if several:
            top = f'<h2 id="{anchors[label]}">{escape(label)}</h2>{header(members)}'
            top += (verdict.html(found[label]) if members else "") + missing(members)
        body.append(f"<section>{top}{section(members)}</section>")
    return body


def whole(title: str, body: list[str]) -> str:
    """A page of these parts, with its style and script in it."""
    style, script = (Path(__file__).with_name(n).read_text(encoding="utf-8") for n in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = POLICY.format(script=f"sha256-{digest}")
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} — sslzoo</title><style>{style}</style>"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{"".join(body)}'
        f"<script>{script}</script></body></html>\n"
    )


def _measured(records: list[Record], results: dict | None) -> str:
    """Facts about all runs together: number, total time, machines, commit."""
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


def failures(results: dict | None) -> str:
    """The runs of a comparison that failed, each with its error; "" if none did."""
    failed = [r for r in (results or {}).get("runs", []) if r.get("error")]
    lines = (f"<li><span class=failed>{escape(r['run'])}</span>: {escape(r['error'])}</li>" for r in failed)
    return f'<ul class="missing">{"".join(lines)}</ul>' if failed else ""
