"""Reading a run's folder. Missing or unreadable files are listed; they never raise and are never hidden."""

import contextlib
import csv
import io
import json
import math
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from sslzoo import compat
from sslzoo.errors import UserError
from sslzoo.run import Run


@dataclass
class Record:
    """Everything that a report shows of one run.

    config: the composed config; config_text: the file's text.
    metrics: {column: (steps at which it was logged, values)}.
    events: warnings in order: {step, kind, message}.
    targets: label.json of its targets, {} if it has none.
    iteration: 1 if its targets are not from a run that had targets itself, else that run's iteration + 1.
    analyses: {name: result of `sslzoo analyze`}. probes: {task: {"pretrained": ..., "untrained": ..., "raw": ...}}, the
    results of `sslzoo probe`. adapted: {name: result of `sslzoo adapt`}.
    visualization: see `sslzoo.report.visualizations`. missing: a sentence for each missing piece.
    """

    run: Run
    config: dict = field(default_factory=dict)
    config_text: str = ""
    metrics: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    events: list[dict] = field(default_factory=list)
    probes: dict[str, dict] = field(default_factory=dict)
    adapted: dict[str, dict] = field(default_factory=dict)
    analyses: dict[str, dict] = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    targets: dict = field(default_factory=dict)
    iteration: int = 1
    visualization: dict | None = None
    missing: list[str] = field(default_factory=list)

    def part(self, name: str) -> str:
        """The name of the class that a node of the config builds, "" if unknown."""
        node = self.config.get(name)
        target = node.get("_target_", "") if isinstance(node, dict) else ""
        return str(target).rsplit(".", 1)[-1]

    @property
    def seed(self):
        return self.config.get("seed")

    @property
    def minutes(self) -> float | None:
        return self.number("minutes")

    @property
    def val_loss(self) -> float | None:
        """The validation loss after the last step, or None."""
        return number(at(self.summary, "logs", "val_loss"))

    def number(self, key: str) -> float | None:
        """A finite number of the summary, or None."""
        return number(self.summary.get(key))


def number(value) -> float | None:
    """A finite number as a float, anything else as None."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def at(value, *keys):
    """The value at nested keys, or None if a key or mapping is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _mapping(text: str) -> dict:
    value = yaml.safe_load(text)
    if not isinstance(value, dict):
        raise ValueError("it holds no mapping")  # noqa: TRY004 (of a file, not of an argument)
    return value


def _json(text: str) -> dict:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("it holds no object")  # noqa: TRY004
    return value


def rows(text: str) -> list[dict[str, str]]:
    """The rows of a metrics.csv, as {column: cell}. Only a newline ends a row: a name may hold any other character.
    Incomplete rows, as after a kill or a power cut, are left out: cut by NULs or the end of the file, or too short."""
    whole = "".join(piece[: piece.rfind("\n") + 1] for piece in text.split("\0"))
    csv.field_size_limit(max(csv.field_size_limit(), len(whole)))
    read = list(csv.reader(io.StringIO(whole, newline="")))
    return [dict(zip(read[0], line, strict=True)) for line in read[1:] if len(line) == len(read[0])]


def _columns(text: str) -> dict[str, tuple[list[int], list[float]]]:
    """The columns of a CSV with a `step`, without blank cells and rows without a numeric step."""
    columns: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows(text):
        try:
            step = int(float(row.pop("step")))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        for name, cell in row.items():
            try:
                value = float(cell)
            except (TypeError, ValueError):
                continue
            steps, values = columns.setdefault(name, ([], []))
            steps.append(step)
            values.append(value)
    return columns


def _lines(text: str) -> list[dict]:
    """JSON objects, one per line, without an incomplete last line and NULs, as after a kill or a power cut."""
    *lines, last = text.replace("\0", "").split("\n")
    found = [_json(line) for line in lines if line.strip()]
    with contextlib.suppress(ValueError):
        found.append(_json(last))
    return found


def _visualization(path) -> dict:
    import torch  # only needed here

    value = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(value, dict) or "kind" not in value:
        raise ValueError("it holds no picture")
    return value


def found(names: list[str], root: Path = Path("runs")) -> tuple[list[Run], list[str]]:
    """(the runs with these folders, or names under `root`, without duplicates; the paths among them that are not runs,
    as from a shell's runs/*). Raises UserError for an unknown name, or if there are no runs."""
    runs, passed = {}, []
    for name in names:
        if Path(name).exists() and not (Path(name) / "config.yaml").exists():
            passed.append(name)
        else:
            run = Run.find(name, root)
            runs.setdefault(run.folder.resolve(), run)
    if not runs:
        raise UserError(f"none of {', '.join(passed)} is a run: a run's folder has a config.yaml")
    return list(runs.values()), passed


def read(run: Run, pictures: bool = True) -> Record:
    """Read a run's folder, in any state. pictures: whether to read its visualization."""
    record = Record(run)

    def attempt(path, parse: Callable, absent: str | None, whole: bool = False):
        try:
            return parse(path if whole else path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            if absent:
                record.missing.append(absent)
        except (
            ValueError,
            KeyError,
            OSError,
            EOFError,
            RuntimeError,
            pickle.UnpicklingError,
            yaml.YAMLError,
        ) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            record.missing.append(f"{path.name} cannot be read: {reason}")
        return None

    if not run.done:
        record.missing.append("The run is not finished: there is no DONE. The same command again continues it.")
    record.config_text = attempt(run.config, str, "There is no config.yaml.") or ""
    if record.config_text:
        record.config = compat.translate(attempt(run.config, _mapping, None) or {})
    record.metrics = attempt(run.metrics, _columns, "There is no metrics.csv, so no loss curve.") or {}
    record.events = attempt(run.events, _lines, None) or []
    record.summary = attempt(run.summary, _json, "There is no summary.json, so no time and no memory.") or {}
    if record.config.get("targets"):
        given = Path(str(record.config["targets"]))
        beside = run.folder.parent / given.name  # if the runs were moved, or are read from another folder
        label = (given if given.is_dir() else beside) / "label.json"
        record.targets = attempt(label, _json, f"There is no {given}/label.json, so nothing of its targets.") or {}
        record.iteration = _iteration(record.targets, run.folder.parent)
    if pictures:
        absent = "There is no visualization.pt, so no picture of what was asked."
        record.visualization = attempt(run.visualization, _visualization, absent, whole=True)
    for path in sorted(run.probes.glob("*.json")):
        if (probe := attempt(path, _json, None)) is not None:
            record.probes[path.stem] = probe
    for path in sorted(run.folder.glob("adapted/*/result.json")):
        if (found := attempt(path, _json, None)) is not None:
            record.adapted[path.parent.name] = found
    for path in sorted(run.analyses.glob("*.json")):
        if (found := attempt(path, _json, None)) is not None:
            record.analyses[path.stem] = found
    if not record.probes:
        command = f"sslzoo probe run={os.path.relpath(run.folder)} task=…"
        record.missing.append(f"Nothing was probed yet: {command} does it.")
    return record


def _iteration(targets: dict, folder: Path) -> int:
    """1 + the number of runs in the chain run -> targets -> run -> … that led to `targets`."""
    count, seen = 1, set()
    while isinstance(source := targets.get("source"), dict) and source.get("run") and source["run"] not in seen:
        seen.add(source["run"])
        try:
            config = _mapping((folder / str(source["run"]) / "config.yaml").read_text(encoding="utf-8"))
            targets = _json((folder / Path(str(config["targets"])).name / "label.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, yaml.YAMLError):
            return count  # that run has no targets, or is not here
        count += 1
    return count


def group(records: list[Record]) -> dict[str, list[Record]]:
    """{common part of the names: runs}, grouped by config without seed and name."""
    alike: dict[str, list[Record]] = {}
    for record in records:
        rest = {k: v for k, v in record.config.items() if k not in ("name", "seed")}
        key = json.dumps(rest, sort_keys=True, default=str) if rest else str(record.run.folder)
        alike.setdefault(key, []).append(record)
    groups: dict[str, list[Record]] = {}
    for members in alike.values():
        names = [m.run.name for m in members]
        shared = os.path.commonprefix(names).rstrip("-_. ")
        label = names[0] if len(names) == 1 else re.sub("(^|-)(s|seed=)$", "", shared)
        if shared == "seed=" and len({m.run.folder.parent for m in members}) == 1:  # a sweep over seeds only
            label = members[0].run.folder.resolve().parent.name
        if not label or label in groups:
            label = ", ".join(names) if ", ".join(names) not in groups else str(members[0].run.folder)
        groups[label] = members
    return groups
