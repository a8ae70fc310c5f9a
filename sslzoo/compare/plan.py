"""Expanding a comparison's config to its runs, seed by seed."""

import re
from dataclasses import dataclass
from pathlib import Path

from sslzoo.compare.process import override
from sslzoo.errors import ConfigError, nearest
from sslzoo.run import Run

KEYS = ("name", "root", "seeds", "on_error", "jobs", "shared", "entries")
OURS = ("name", "seed", "root")  # set by the comparison, not by an entry


@dataclass(frozen=True)
class Labels:
    """Targets to make before a run. overrides: of `sslzoo label`. folder: its output. of: the run whose features are
    clustered, None for MFCCs."""

    overrides: list[str]
    folder: Path
    of: Run | None = None

    @property
    def done(self) -> bool:
        return (self.folder / "label.json").exists()


@dataclass(frozen=True)
class Planned:
    """One run of a comparison: an entry with a seed. overrides: of `sslzoo pretrain`. tasks: overrides of
    `sslzoo probe`, by task. labels: its targets, if the comparison makes them."""

    entry: str
    seed: int
    run: Run
    overrides: list[str]
    tasks: dict[str, list[str]]
    labels: Labels | None = None

    def missing(self) -> list[str]:
        """Tasks that it has not been probed on."""
        return [task for task in self.tasks if not (self.run.probes / f"{task}.json").exists()]


def plan(config: dict, root: Path) -> list[Planned]:
    """The runs of a comparison's config, seed by seed. Raises ConfigError."""
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
    if type(config.get("jobs", 1)) is not int or config.get("jobs", 1) < 1:
        raise ConfigError(f"jobs, the runs at a time, must be 1 or more; got {config['jobs']}")
    if not isinstance(entries, dict) or not entries:
        raise ConfigError("this comparison has no entries: choose one with comparison=… (`sslzoo list comparisons`)")
    shared = config.get("shared") or {}
    if not isinstance(shared, dict) or set(shared) - {"overrides", "tasks"}:
        raise ConfigError("shared may have overrides and tasks, which every entry begins with, and nothing else")
    entries = {entry: _joined(shared, spec) for entry, spec in entries.items()}
    for entry, spec in entries.items():
        _named(entry, "an entry's name")
        if not isinstance(spec, dict) or set(spec) - {"label"} != {"overrides", "tasks"}:
            raise ConfigError(f"entries.{entry} must have overrides and tasks, if it likes label, and nothing else")
        _strings(spec["overrides"], f"entries.{entry}.overrides")
        _not_ours(spec["overrides"], f"entries.{entry}.overrides", (*OURS, "targets") if "label" in spec else OURS)
        if "label" in spec:
            _strings(spec["label"], f"entries.{entry}.label")
            _not_ours(spec["label"], f"entries.{entry}.label", OURS)
            _earlier(spec["label"], entry, list(entries))
    tasks = {entry: _tasks(spec["tasks"], f"entries.{entry}.tasks") for entry, spec in entries.items()}
    planned = []
    for seed in seeds:
        for entry, spec in entries.items():
            run = Run(root / name / f"{entry}-s{seed}")
            labels = _labels(spec["label"], run, name, root, seed) if "label" in spec else None
            set_here = {"name": f"{name}/{run.name}", "root": root, "seed": seed}
            set_here |= {"targets": labels.folder} if labels else {}
            overrides = [*spec["overrides"], *(override(k, v) for k, v in set_here.items())]
            planned.append(Planned(entry, seed, run, overrides, tasks[entry], labels))
    return planned


def _joined(shared: dict, spec):
    """An entry with the shared overrides and tasks before its own; unchanged if malformed, which is reported later."""
    if not isinstance(spec, dict):
        return spec
    pairs = {key: (shared.get(key) or [], spec.get(key, [])) for key in ("overrides", "tasks")}
    if not all(isinstance(part, list) for pair in pairs.values() for part in pair):
        return spec
    return spec | {key: [*both, *own] for key, (both, own) in pairs.items() if key in spec or key in shared}


def _labels(items: list[str], run: Run, name: str, root: Path, seed: int) -> Labels:
    """The labels of an entry for one seed: run=<entry> becomes that entry's run with the same seed."""
    folder, of, overrides = run.folder.parent / f"{run.name}-labels", None, []
    for item in items:
        if _key(item) == "run":
            of = Run(root / name / f"{_value(item)}-s{seed}")
            item = override("run", of.folder)
        overrides.append(item)
    set_here = {"name": f"{name}/{folder.name}", "root": root, "seed": seed}
    return Labels([*overrides, *(override(k, v) for k, v in set_here.items())], folder, of)


def _key(item: str) -> str:
    return item.lstrip("+~").split("=")[0]


def _value(item: str) -> str:
    return item.partition("=")[2].strip("'\"")


def _not_ours(items: list[str], where: str, ours: tuple[str, ...]) -> None:
    for item in items:
        if _key(item) in ours:
            raise ConfigError(f"{where} sets {item}, which the comparison itself does")


def _earlier(items: list[str], entry: str, entries: list[str]) -> None:
    """Raise ConfigError unless run=<entry> names an earlier entry, which is trained before."""
    before = entries[: entries.index(entry)]
    for item in items:
        if _key(item) == "run" and _value(item) not in before:
            raise ConfigError(
                f"entries.{entry}.label sets {item}, which must name an entry that comes before it: "
                f"{', '.join(before) or 'none does'}{nearest(_value(item), before)}"
            )


def _tasks(items, where: str) -> dict[str, list[str]]:
    """[digit, {sst2: [task.data.path=…]}] -> {task: overrides}."""
    if not isinstance(items, list) or not all(isinstance(item, str | dict) for item in items):
        raise ConfigError(f"{where} must be a list of tasks, or of task: [overrides]; got {items}")
    by_task: dict[str, list[str]] = {}
    for item in items:
        by_task |= {item: []} if isinstance(item, str) else item
    for task, overrides in by_task.items():
        _named(task, f"a task in {where}")
        _strings(overrides, f"{where}.{task}")
    return by_task


def _strings(items, where: str) -> None:
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"{where} must be a list of strings, got {items}")


def _named(name, what: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ConfigError(
            f"{what} must be a word of letters, digits, '_', '-' and '.', for it names a folder; got {name!r}"
        )
