"""`sslzoo compare`: many objectives, seeds and tasks under one protocol, in one table.

Each run and each probe is a command in its own process: their times and memory are measured separately, and the files
that they write are the only state. The same command again skips what is done and continues with the rest.

With `run`, entries are methods of `sslzoo adapt` on that run instead, and each is a folder in its adapted/.

    runs/<name>/
        <entry>-s<seed>/    a run, with its probe/<task>.json
        <entry>-s<seed>-labels/    its targets, if the entry has `label`
        baselines/          scores of raw features and untrained encoders, shared between runs
        results.json        all results, with configs, machine and commit
        results.md          the table
        report.html         the page
"""

import sys
from pathlib import Path

from rich.console import Console

from sslzoo.compare import adaptations, adapted
from sslzoo.compare.plan import Planned, plan
from sslzoo.compare.process import Command, signals_as_interrupt
from sslzoo.compare.queue import alone, raise_first, work_off
from sslzoo.config import fingerprint
from sslzoo.errors import UserError
from sslzoo.report import headline, losses, page, tables, targets
from sslzoo.report.record import Record, read
from sslzoo.run import commit, machine, write_atomic, write_json


def compare(config: dict, root: Path, command: Command | None = None) -> dict:
    """Run what is not done yet of a comparison, write its results, print its table, and return results.json.

    config: {name, seeds: [int], on_error: "stop" or "continue", jobs: int, shared: {overrides, tasks}, entries:
    {entry: {overrides: [str], tasks: [str or {str: [str]}], label: [str]}}}; overrides are those of `sslzoo pretrain`,
    and a task may have overrides of `sslzoo probe`. label: overrides of `sslzoo label` to make an entry's targets, with
    run=<entry> for the run of an earlier entry. shared: overrides and tasks of every entry. jobs: runs at a time. root:
    the folder of the runs. With run, a finished run or hf:FOLDER, and shots, labels a class or "all": overrides, of
    entries and tasks, are those of `sslzoo adapt`.
    Everything is checked before anything runs. When a command fails, its error is raised with the name of the run; with
    on_error=continue after everything else is done. In either case the results are written, and list what is missing.
    """
    encoder = adaptations.encoder_of(config.get("run"), root)
    runs, command = plan(config, root, encoder), command or Command()
    folder, say = root / config["name"], Console(stderr=True, highlight=False)
    for planned in runs if encoder is None else adaptations.representatives(runs):
        try:
            planned.check(command)
        except UserError as error:
            raise type(error)(f"{planned.name}: {error}") from error

    def write(errors: dict[str, UserError]) -> dict:
        """The results so far."""
        said = {name: str(error) for name, error in errors.items()}
        return _table(config, folder, runs, said)[0] if encoder is None else adapted.write(config, folder, runs, said)

    with alone(folder, command, "compare"), signals_as_interrupt():
        todo = [planned for planned in runs if encoder is None or not planned.done]
        if len(todo) < len(runs):
            say.print(f"{len(runs) - len(todo)} of {len(runs)} are done already", style="bold")
        jobs, stop = config.get("jobs", 1), config.get("on_error", "stop") == "stop"
        errors = work_off(todo, jobs, stop, command, say, write)
        if encoder is None:
            results = _report(config, folder, runs, {name: str(error) for name, error in errors.items()})
        else:
            adapted.show(results := write(errors), folder)
    raise_first(errors, f"of {len(runs)} runs")
    return results


def _table(config: dict, folder: Path, runs: list[Planned], errors: dict[str, str]) -> tuple[dict, list, list, list]:
    """(results.json, rows of scores, of losses, of targets) of the runs so far; writes results.json and results.md."""
    records = {planned.run.name: read(planned.run, pictures=False) for planned in runs}
    groups: dict[str, list[Record]] = {}
    for planned in runs:
        groups.setdefault(planned.entry, []).append(records[planned.run.name])
    rows = tables.rows(groups, {p.entry: list(dict.fromkeys([*p.tasks, *p.adapt])) for p in runs})
    lost, learned = losses.rows(groups), targets.target_rows(groups)
    results = {
        "name": config["name"],
        "config_hash": fingerprint({key: value for key, value in config.items() if key != "jobs"}),
        "commit": commit(),
        "machine": machine(),
        "seeds": config.get("seeds", [0]),
        "entries": {
            p.entry: {**config["entries"][p.entry], "tasks": list(dict.fromkeys([*p.tasks, *p.adapt]))} for p in runs
        },
        "config": config,
        "runs": [_result(planned, records[planned.run.name], errors.get(planned.run.name)) for planned in runs],
        "rows": [row.json() for row in rows],
        "losses": [row.json() for row in lost],
        "targets": [row.json() for row in learned],
        "summary": losses.summary(rows, lost),
    }
    results["minutes"] = sum((run["minutes"] or 0) + run["probe_minutes"] for run in results["runs"])
    write_json(folder / "results.json", results)
    text = losses.markdown(rows, lost) + targets.markdown(learned)
    write_atomic(folder / "results.md", lambda path: path.write_text(text, encoding="utf-8"))
    return results, rows, lost, learned


def _report(config: dict, folder: Path, runs: list[Planned], errors: dict[str, str]) -> dict:
    """Write results.json, results.md and report.html, and print the table."""
    results, rows, lost, learned = _table(config, folder, runs, errors)
    page.write([p.run for p in runs if p.run.folder.exists()], folder / "report.html", results)
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    if rows or not lost:
        out.print(tables.terminal(rows, config["name"]))
    if learned:
        out.print(targets.terminal(learned))
    files = f"wrote {folder / 'report.html'}, results.md and results.json"
    said = [f"{results['summary']} {losses.note(rows, lost)}", *filter(None, [headline.text(rows)]), files]
    out.print("\n".join(said), markup=False, soft_wrap=True)
    return results


def _result(planned: Planned, record: Record, error: str | None) -> dict:
    """The entry of a run in results.json."""
    scores = {}
    for row in tables.rows({planned.entry: [record]}):
        scores[row.task] = {head: {kind: s.mean for kind, s in kinds.items()} for head, kinds in row.scores.items()}
    probed = [part for found in record.probes.values() for part in found.values() if isinstance(part, dict)]
    return {
        "run": planned.run.name,
        "entry": planned.entry,
        "seed": planned.seed,
        "done": planned.run.done and not planned.missing() and not planned.not_adapted(),
        "error": error,
        "config_hash": fingerprint(record.config) if record.config else None,
        "machine": record.summary.get("machine"),
        "commit": record.summary.get("commit"),
        "steps": record.summary.get("steps"),
        "val_loss": record.val_loss,
        "minutes": record.minutes,
        "probe_minutes": sum(part.get("seconds", 0) for part in probed) / 60,
        "peak_memory_gb": record.number("peak_memory_gb"),
        "scores": scores,
        "targets": targets.measured(record) if record.targets else None,
    }
