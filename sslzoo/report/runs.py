"""`sslzoo runs`: a row for each run under a folder, in any state. Reads files only, without torch."""

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from sslzoo.lock import holder
from sslzoo.report.record import Record, at, number, read
from sslzoo.run import Run

SIGNS = ("config.yaml", "DONE", "metrics.csv", "encoder.json", "summary.json", "checkpoints")  # a run has one or more
NO_SETTINGS = ("name", "root", "metric", "trainer.progress", "trainer.workers")  # no effect on the trained weights
OLD = 60.0  # seconds without a heartbeat after which a run on another machine is taken for dead
NODES = ("objective", "task", "data", "encoder")


@dataclass(frozen=True)
class Row:
    """The status of one run.

    name: its folder under the root. status: done, running, stopped (the same command continues it), died (the same, of
    a process that ended without a word), failed, or broken: files are missing or cannot be read. settings: those that
    differ from the defaults. loss, val_loss: after the last logged step. scores: {task: test score} of probes (linear
    head) and adaptations. fault: what is wrong, in words.
    """

    name: str
    folder: str
    status: str
    settings: list[str] = field(default_factory=list)
    loss: float | None = None
    val_loss: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    minutes: float | None = None
    fault: str | None = None

    def json(self) -> dict:
        return asdict(self)


def folders(root: Path) -> Iterator[Path]:
    """The folders of runs under `root`, also in comparisons and sweeps; each resolved folder once."""
    seen = set()

    def walk(folder: Path) -> Iterator[Path]:
        try:
            real = folder.resolve()
            if real in seen:
                return
            seen.add(real)
            names = {entry.name: entry.is_dir() for entry in os.scandir(folder)}
        except OSError:  # not readable: its row says so
            yield folder
            return
        if not names.keys().isdisjoint(SIGNS):
            yield folder
            inner = [folder / "adapted"] if names.get("adapted") else []
        else:
            inner = [folder / name for name, is_folder in names.items() if is_folder and not name.startswith(".")]
        for below in sorted(inner):
            yield from walk(below)

    yield from walk(root)


def rows(root: Path) -> list[Row]:
    """A row for each run under `root`."""
    return [row(Run(folder), folder.relative_to(root).as_posix()) for folder in folders(root)]


def row(run: Run, name: str | None = None) -> Row:
    """The status of a run from its files. Never raises: unreadable files are listed in `fault`."""
    name = run.name if name in (None, ".") else name
    try:
        os.listdir(run.folder)
        record = read(run, pictures=False)
        faults = [line for line in record.missing if "cannot be read" in line]
        faults += missing(run)
        broken = not record.config or bool(missing(run))
        adapted, unread = result(run)
        said = failure(run)
        return Row(
            name,
            str(run.folder),
            "broken" if broken else status(run),
            settings(run, record),
            last(record, "loss"),
            last(record, "val_loss"),
            probed(record) | adapted,
            record.minutes,
            "; ".join([*faults, *unread, *([said] if said else [])]) or None,
        )
    except OSError as error:
        return Row(name, str(run.folder), "broken", fault=f"it cannot be read: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 (one broken run must not end the list)
        return Row(name, str(run.folder), "broken", fault=f"it cannot be read: {type(error).__name__}: {error}")


def status(run: Run) -> str:
    if run.done:
        return "done"
    beat = heartbeat(run)
    # the lock is of this machine's processes; another's are known by a heartbeat that is not old
    if holder(run.folder) is not None or (
        beat and beat["host"] != socket.gethostname() and time.time() - beat["time"] < OLD
    ):
        return "running"
    if run.failure.exists():
        return "failed"
    return "died" if beat else "stopped"


def heartbeat(run: Run) -> dict | None:
    """How far a run is that is being trained, or was when it died (see `train.heartbeat`); None for others."""
    try:
        found = json.loads(run.heartbeat.read_text(encoding="utf-8"))
        numbers = {key: float(found[key]) for key in ("step", "of", "time", "seconds", "steps")}
        return numbers | {key: int(numbers[key]) for key in ("step", "of", "steps")} | {
            "loss": found.get("loss"), "host": str(found["host"]), "pid": int(found["pid"]),
        } | {key: float(found[key]) for key in ("data_seconds", "flops_per_second", "mfu") if key in found}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def failure(run: Run) -> str | None:
    """The error message of a failed run, or None."""
    if run.done or not run.failure.exists():
        return None
    return " ".join(run.failure.read_text(encoding="utf-8", errors="replace").split())


def missing(run: Run) -> list[str]:
    """Messages about missing files of a run."""
    found = [] if run.config.exists() else ["there is no config.yaml"]
    adapted = run.folder.parent.name == "adapted"
    needed = (run.adapted_weights, run.adapted) if adapted else (run.weights, run.encoder)
    return found + [f"it has DONE, but no {path.name}" for path in needed if run.done and not path.exists()]


def last(record: Record, name: str) -> float | None:
    """A log after the last step, or its last logged value."""
    found = number(at(record.summary, "logs", name))
    if found is None and name in record.metrics:
        found = number(record.metrics[name][1][-1])
    return found


def probed(record: Record) -> dict[str, float]:
    """{task: test score of the linear head on the frozen encoder}."""
    found = {task: number(at(probe, "pretrained", "linear", "test")) for task, probe in record.probes.items()}
    return {task: value for task, value in found.items() if value is not None}


def result(run: Run) -> tuple[dict[str, float], list[str]]:
    """({task: test score of an adapted encoder}, messages about unreadable files)."""
    try:
        said = json.loads(run.result.read_text(encoding="utf-8"))
        value = number(at(said, "test", at(said, "metric")))
        return ({} if value is None else {str(said["task"]): value}), []
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, KeyError) as error:
        return {}, [f"{run.result.name} cannot be read: {str(error).splitlines()[0][:120]}"]


def settings(run: Run, record: Record) -> list[str]:
    """The settings of a run that differ from the defaults: the overrides of its command. For older runs, which have
    none stored, the classes of its parts and its seed."""
    try:
        said = yaml.safe_load(run.overrides.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        said = None
    if not isinstance(said, list):
        seed = [f"seed={record.seed}"] if record.seed else []
        return [f"{node}: {record.part(node)}" for node in NODES if record.part(node)] + seed
    named = [(str(word).lstrip("+~").partition("=")[0], str(word)) for word in said]
    return [word for key, word in named if key not in NO_SETTINGS and key.partition(".")[0] != "hydra"]


def table(found: list[Row]) -> str:
    """Rows as a text table, scores times 100, without empty columns."""
    tasks = list(dict.fromkeys(task for row in found for task in row.scores))
    cells = {
        "name": [row.name for row in found],
        "status": [row.status for row in found],
        "loss": [figure(row.loss) for row in found],
        "val_loss": [figure(row.val_loss) for row in found],
        **{
            task: ["" if task not in row.scores else f"{100 * row.scores[task]:.1f}" for row in found] for task in tasks
        },
        "minutes": ["" if row.minutes is None else f"{row.minutes:.1f}" for row in found],
        "differs from the defaults": [
            " ".join(row.settings) + (f"   ({row.fault})" if row.fault else "") for row in found
        ],
    }
    return aligned(cells, left=("name", "status", "differs from the defaults"))


def figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def aligned(columns: dict[str, list[str]], left: tuple[str, ...] = ()) -> str:
    """A text table of {heading: cells}, without empty columns; columns not in `left` are right-aligned."""
    lines = None
    for name, cells in columns.items():
        if not any(cells):
            continue
        cells = [" ".join(cell.split()) for cell in [name, *cells]]
        wide = max(map(len, cells))
        cells = [cell.ljust(wide) if name in left else cell.rjust(wide) for cell in cells]
        lines = cells if lines is None else [f"{line}  {cell}" for line, cell in zip(lines, cells, strict=True)]
    return "\n".join(line.rstrip() for line in lines or [])
