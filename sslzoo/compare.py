"""Many objectives, seeds and tasks under one protocol, in one table.

Each run and each probe is the command that a user would type, in a process of its own: what is measured
of one (time, memory) has nothing of another in it, and what one leaves behind is all that there is to
resume from. The same command again skips what is done and goes on with the rest.

    runs/<name>/
        <entry>-s<seed>/    a run each, with its probe/<task>.json
        results.json        every figure, and what it was measured with
        results.md          the table
        report.html         the page
"""

import fcntl
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sslzoo.command import Command, ended_with_us, override
from sslzoo.config import fingerprint
from sslzoo.errors import ConfigError, UserError, nearest
from sslzoo.report import losses, page, tables
from sslzoo.report.record import Record, read
from sslzoo.run import Run, machine, write_json, write_whole

KEYS = ("name", "root", "seeds", "on_error", "entries")
OURS = ("name", "seed", "root")  # what an entry does not set


@dataclass(frozen=True)
class Planned:
    """One run of a comparison: an entry with a seed. tasks: overrides of `sslzoo probe`, by task."""

    entry: str
    seed: int
    run: Run
    overrides: list[str]
    tasks: dict[str, list[str]]

    def missing(self) -> list[str]:
        """Tasks that it has not been probed for."""
        return [task for task in self.tasks if not (self.run.probes / f"{task}.json").exists()]


def plan(config: dict, root: Path) -> list[Planned]:
    """The runs that a comparison's config stands for, seed by seed. Raises ConfigError."""
    for key in config:
        if key not in KEYS:
            raise ConfigError(f"a comparison has no '{key}'{nearest(key, KEYS)} — it has: {', '.join(KEYS)}")
    name, seeds, entries = config.get("name"), config.get("seeds", [0]), config.get("entries")
    _named(name, "name")
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int and s >= 0 for s in seeds):
        raise ConfigError(f"seeds must be a list of whole numbers from 0, such as seeds=[0,1,2]; got {seeds}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds has one twice: {seeds}")
    if config.get("on_error", "stop") not in ("stop", "continue"):
        raise ConfigError(f"on_error must be stop or continue, got {config['on_error']}")
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(
            "this comparison has no entries: choose one with comparison=… (`sslzoo list comparisons`)"
        )
    for entry, said in entries.items():
        _named(entry, "an entry's name")
        if not isinstance(said, dict) or set(said) != {"overrides", "tasks"}:
            raise ConfigError(f"entries.{entry} must have overrides and tasks, and nothing else")
        _strings(said["overrides"], f"entries.{entry}.overrides")
        for item in said["overrides"]:
            if item.lstrip("+~").split("=")[0] in OURS:
                raise ConfigError(f"entries.{entry}.overrides sets {item}, which the comparison itself does")
    tasks = {entry: _tasks(said["tasks"], f"entries.{entry}.tasks") for entry, said in entries.items()}
    made = []
    for seed in seeds:
        for entry, said in entries.items():
            run = Run(root / name / f"{entry}-s{seed}")
            set_here = {"name": f"{name}/{run.name}", "root": root, "seed": seed}
            overrides = [*said["overrides"], *(override(k, v) for k, v in set_here.items())]
            made.append(Planned(entry, seed, run, overrides, tasks[entry]))
    return made


def _tasks(items, where: str) -> dict[str, list[str]]:
    """[digit, {sst2: [task.data.path=…]}] as overrides by task."""
    if not isinstance(items, list) or not all(isinstance(item, str | dict) for item in items):
        raise ConfigError(f"{where} must be a list of tasks, or of task: [overrides]; got {items}")
    made: dict[str, list[str]] = {}
    for item in items:
        made |= {item: []} if isinstance(item, str) else item
    for task, overrides in made.items():
        _named(task, f"a task in {where}")
        _strings(overrides, f"{where}.{task}")
    return made


def _strings(items, where: str) -> None:
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"{where} must be a list of strings, got {items}")


def _named(name, what: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ConfigError(
            f"{what} must be a word of letters, digits, '_', '-' and '.', for it names a folder; got {name!r}"
        )


def compare(config: dict, root: Path, command: Command | None = None) -> dict:
    """Do what is not done yet of a comparison, write its results, print its table, and return results.json.

    config: {name, seeds: [int], on_error: "stop" or "continue", entries: {entry: {overrides: [str],
    tasks: [str or {str: [str]}]}}}; overrides are those of `sslzoo pretrain`, and a task may have its own
    of `sslzoo probe`. root: the folder that runs lie in.
    Everything is checked before anything runs. When a command fails, its one line is raised with the
    name of the run; with on_error=continue it is raised when all the rest is done. Either way the
    results are written, with what is missing said.
    """
    runs, command = plan(config, root), command or Command()
    folder, say = root / config["name"], Console(stderr=True, highlight=False)
    for planned in runs:
        try:
            command.check(planned.run, planned.overrides, planned.tasks)
        except UserError as error:
            raise type(error)(f"{planned.run.name}: {error}") from error
    errors: dict[str, UserError] = {}
    with _alone(folder, command), ended_with_us():
        for number, planned in enumerate(runs, 1):
            place = f"[{number}/{len(runs)}] {planned.run.name}"
            try:
                for doing in _carry_out(planned, command):
                    say.print(f"{place}: {doing}", style="bold", markup=False)
            except UserError as error:
                errors[planned.run.name] = type(error)(f"{planned.run.name}: {error}")
                if config.get("on_error", "stop") == "stop":
                    break
                say.print(f"{errors[planned.run.name]}", style="red", markup=False)
        results = _report(config, folder, runs, {name: str(error) for name, error in errors.items()})
    if errors:
        first = next(iter(errors.values()))
        if len(errors) > 1:
            first = type(first)(f"{len(errors)} of {len(runs)} runs failed; the first: {first}")
        raise first
    return results


def _carry_out(planned: Planned, command: Command) -> Iterator[str]:
    """Do what a run lacks, saying each thing before it is done."""
    if planned.run.done and not planned.missing():
        yield "done already"
    if not planned.run.done:
        yield "pretrain"
        command("pretrain", *planned.overrides)
        if not planned.run.done:
            raise UserError("pretraining stopped before its last step — the same command goes on from there")
    missing, run = planned.missing(), override("run", planned.run.folder)
    if alike := [task for task in missing if not planned.tasks[task]]:
        yield f"probe {', '.join(alike)}"  # in one process, which reads the features once
        command("probe", "--multirun", run, f"task={','.join(alike)}")
    for task in (task for task in missing if planned.tasks[task]):
        yield f"probe {task}"
        command("probe", run, override("task", task), *planned.tasks[task])
    if left := planned.missing():
        raise UserError(f"the probe of {left[0]} ended without a result in {planned.run.probes}")


@contextmanager
def _alone(folder: Path, command: Command):
    """Hold the comparison's folder. A child holds it too, so that one that outlived us is not doubled."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a")  # noqa: SIM115 (closed below)
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
    rows = tables.rows(groups, {planned.entry: list(planned.tasks) for planned in runs})
    lost = losses.rows(groups)
    results = {
        "name": config["name"],
        "config_hash": fingerprint(config),
        "commit": commit(),
        "machine": machine(),
        "seeds": config.get("seeds", [0]),
        "entries": {p.entry: {**config["entries"][p.entry], "tasks": list(p.tasks)} for p in runs},
        "config": config,
        "runs": [
            _result(planned, records[planned.run.name], errors.get(planned.run.name)) for planned in runs
        ],
        "rows": [row.json() for row in rows],
        "losses": [row.json() for row in lost],
        "summary": losses.summary(rows, lost),
    }
    results["minutes"] = sum((run["minutes"] or 0) + run["probe_minutes"] for run in results["runs"])
    write_json(folder / "results.json", results)
    text = losses.markdown(rows, lost)
    write_whole(folder / "results.md", lambda path: path.write_text(text, encoding="utf-8"))
    page.write([p.run for p in runs if p.run.folder.exists()], folder / "report.html", results)
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    if rows or not lost:
        out.print(tables.terminal(rows, config["name"]))
    files = f"wrote {folder / 'report.html'}, results.md and results.json"
    out.print(f"{results['summary']} {losses.note(rows, lost)}\n{files}", markup=False, soft_wrap=True)
    return results


def _result(planned: Planned, record: Record, error: str | None) -> dict:
    """One run in results.json."""
    scores = {}
    for row in tables.rows({planned.entry: [record]}):
        scores[row.task] = {
            head: {kind: s.mean for kind, s in kinds.items()} for head, kinds in row.scores.items()
        }
    probed = [part for found in record.probes.values() for part in found.values() if isinstance(part, dict)]
    return {
        "run": planned.run.name,
        "entry": planned.entry,
        "seed": planned.seed,
        "done": planned.run.done and not planned.missing(),
        "error": error,
        "config_hash": fingerprint(record.config) if record.config else None,
        "machine": record.summary.get("machine"),
        "steps": record.summary.get("steps"),
        "val_loss": record.val_loss,
        "minutes": record.minutes,
        "probe_minutes": sum(part.get("seconds", 0) for part in probed) / 60,
        "peak_memory_gb": record.number("peak_memory_gb"),
        "scores": scores,
    }


def commit() -> str | None:
    """The commit that sslzoo was run at, with "-dirty" where files differ from it; None outside git."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", Path(__file__).parent, *words], capture_output=True, text=True, check=False
            )
        except OSError:  # no git here
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None  # installed into an environment that lies in someone else's repository
    return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
