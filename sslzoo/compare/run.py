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

import fcntl
import os
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from sslzoo.compare import adaptations, adapted
from sslzoo.compare.adaptations import Adaptation
from sslzoo.compare.plan import Planned, plan
from sslzoo.compare.process import Command, signals_as_interrupt
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
    the folder of the runs. With run, a finished run or hf:FOLDER, and shots, labels a class or "all": overrides, of entries
    and tasks, are those of `sslzoo adapt`.
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
        return adapted.write(config, folder, runs, {name: str(error) for name, error in errors.items()})

    with _alone(folder, command), signals_as_interrupt():
        todo = [planned for planned in runs if encoder is None or not planned.done]
        if len(todo) < len(runs):
            say.print(f"{len(runs) - len(todo)} of {len(runs)} are done already", style="bold")
        jobs, stop = config.get("jobs", 1), config.get("on_error", "stop") == "stop"
        errors = _all(todo, jobs, stop, command, say, write if encoder else None)
        if encoder is None:
            results = _report(config, folder, runs, {name: str(error) for name, error in errors.items()})
        else:
            adapted.show(results := write(errors), folder)
    if errors:
        first = next(iter(errors.values()))
        if len(errors) > 1:
            first = type(first)(f"{len(errors)} of {len(runs)} runs failed; the first: {first}")
        raise first
    return results


def _all(
    runs: list[Planned] | list[Adaptation],
    jobs: int,
    stop: bool,
    command: Command,
    say: Console,
    ended: Callable[[dict[str, UserError]], object] | None = None,
) -> dict[str, UserError]:
    """Do all runs, up to `jobs` at a time, each with its share of the cores; return {run: error}. stop: start none
    after a failure. ended: called with the errors so far after each run."""
    if jobs > 1:
        command.threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    errors: dict[str, UserError] = {}
    waiting, running = list(enumerate(runs, 1)), {}

    def one(number: int, planned: Planned | Adaptation) -> None:
        for doing in planned.steps(command):
            say.print(f"[{number}/{len(runs)}] {planned.name}: {doing}", style="bold", markup=False)

    with ThreadPoolExecutor(jobs) as pool:
        submit = pool.submit if jobs > 1 else _here
        try:
            while running or (waiting and not (errors and stop)):
                ahead = [planned.run.folder for _, planned in [*running.values(), *waiting]]
                for job in [job for job in waiting if not (errors and stop)]:
                    if len(running) < jobs and job[1].after not in ahead:
                        waiting.remove(job)
                        running[submit(one, *job)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    _, planned = running.pop(future)
                    try:
                        future.result()
                    except UserError as error:
                        errors[planned.name] = type(error)(f"{planned.name}: {error}")
                        say.print(f"{errors[planned.name]}", style="red", markup=False)
                    if ended is not None:
                        ended(errors)
        except BaseException:
            command.end()
            raise
    return {planned.name: errors[planned.name] for planned in runs if planned.name in errors}


def _here(work, *arguments) -> Future:
    """`submit` that runs in this thread, the main one, which gets the signals."""
    future = Future()
    try:
        future.set_result(work(*arguments))
    except UserError as error:
        future.set_exception(error)
    return future


@contextmanager
def _alone(folder: Path, command: Command):
    """Lock the comparison's folder. Children inherit the lock, so that one that outlives us is not started twice."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "ab")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror} — choose another root=…") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{folder} is being worked on by another `sslzoo compare`, or by a run that one of them "
                "left — wait for it, or end it"
            ) from None
        command.kept_open = (lock.fileno(),)
        yield


def _report(config: dict, folder: Path, runs: list[Planned], errors: dict[str, str]) -> dict:
    """Write results.json, results.md and report.html, and print the table."""
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
