"""Expanding a comparison's config to its runs, seed by seed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sslzoo.compare import adaptations
from sslzoo.compare.adaptations import Adaptation
from sslzoo.compare.names import key_of, named, not_ours, strings, tasks_of, value_of
from sslzoo.compare.process import Command, override, task_words
from sslzoo.errors import ConfigError, UserError, nearest
from sslzoo.run import Run

KEYS = ("name", "root", "run", "seeds", "shots", "on_error", "jobs", "shared", "entries")
CODES = "encoder.frontend.run"  # of which <entry> may be an earlier entry's run
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
    `sslzoo probe`, by task. labels: its targets, if the comparison makes them. adapt: overrides of `sslzoo adapt`, by
    task: the run is adapted as `adapted/<task>`. codes: the run whose codes its encoder reads,
    if the comparison trains it."""

    entry: str
    seed: int
    run: Run
    overrides: list[str]
    tasks: dict[str, list[str]]
    labels: Labels | None = None
    adapt: dict[str, list[str]] = field(default_factory=dict)
    codes: Run | None = None

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def after(self) -> Path | None:
        """The folder of the run that must be done before."""
        before = self.labels.of if self.labels and self.labels.of else self.codes
        return before and before.folder

    def check(self, command: Command) -> None:
        """Raise, before anything runs, the errors that its commands would."""
        command.check(self.run, self.overrides, self.tasks, self.labels)
        for task in self.adapt:
            command.check_adapt(self.run, self.adapt_words(task))

    def steps(self, command: Command) -> Iterator[str]:
        """Run its missing commands, yielding a description before each."""
        if self.run.done and not self.missing() and not self.not_adapted():
            yield "done already"
        if not self.run.done and self.labels:
            yield "label"  # existing labels are kept, even if their run has been deleted
            command("label", *self.labels.overrides)
            if not self.labels.done:
                raise UserError("labelling stopped before its end — the same command makes the labels again")
        if not self.run.done:
            yield "pretrain"
            command("pretrain", *self.overrides)
            if not self.run.done:
                raise UserError("pretraining stopped before its last step — the same command goes on from there")
        missing, run = self.missing(), override("run", self.run.folder)
        baselines = override("baselines", self.run.folder.parent / "baselines")
        if alike := [task for task in missing if not self.tasks[task]]:
            yield f"probe {', '.join(alike)}"  # in one process, which reads the features once
            command("probe", "--multirun", run, baselines, f"task={','.join(alike)}")
        for task in (task for task in missing if self.tasks[task]):
            yield f"probe {task}"
            command("probe", run, baselines, *task_words(task, self.tasks[task]))
        if left := self.missing():
            raise UserError(f"the probe of {left[0]} ended without a result in {self.run.probes}")
        for task in self.not_adapted():
            yield f"adapt to {task}"
            command("adapt", *self.adapt_words(task))
            if task in self.not_adapted():
                raise UserError(f"adapting to {task} stopped before its end — the same command goes on from there")

    def adapt_words(self, task: str) -> list[str]:
        """The overrides of `sslzoo adapt` for a task."""
        set_here = {"run": self.run.folder, "name": task, "seed": self.seed}
        return [*task_words(task, self.adapt[task]), *(override(k, v) for k, v in set_here.items())]

    def not_adapted(self) -> list[str]:
        """Tasks that it has not been adapted to."""
        return [task for task in self.adapt if not Run(self.run.folder / "adapted" / task).result.exists()]

    def missing(self) -> list[str]:
        """Tasks that it has not been probed on."""
        return [task for task in self.tasks if not (self.run.probes / f"{task}.json").exists()]


def plan(config: dict, root: Path, encoder: Run | None = None) -> list[Planned] | list[Adaptation]:
    """The runs of a comparison's config, seed by seed. encoder: the run that config.run names, which the entries adapt;
    None if each entry is pretrained. Raises ConfigError."""
    for key in config:
        if key not in KEYS:
            raise ConfigError(f"a comparison has no '{key}'{nearest(key, KEYS)} — it has: {', '.join(KEYS)}")
    name, seeds, entries = config.get("name"), config.get("seeds", [0]), config.get("entries")
    named(name, "name")
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
    if not isinstance(shared, dict) or set(shared) - {"overrides", "tasks", "adapt"}:
        raise ConfigError("shared may have overrides, tasks and adapt, which every entry begins with, and nothing else")
    if encoder is not None:
        if "adapt" in shared:
            raise ConfigError("shared.adapt is of comparisons without run: where there is a run, tasks are adapted to")
        return adaptations.plan({**config, "seeds": seeds}, encoder, root)
    if config.get("shots") is not None:
        raise ConfigError("shots are labels to adapt to: name the run that entries adapt, run=…, or leave shots out")
    entries = {entry: _joined(shared, spec) for entry, spec in entries.items()}
    for entry, spec in entries.items():
        named(entry, "an entry's name")
        if not isinstance(spec, dict) or set(spec) - {"label", "adapt"} != {"overrides", "tasks"}:
            raise ConfigError(
                f"entries.{entry} must have overrides and tasks, if it likes label and adapt, and nothing else"
            )
        strings(spec["overrides"], f"entries.{entry}.overrides")
        not_ours(spec["overrides"], f"entries.{entry}.overrides", (*OURS, "targets") if "label" in spec else OURS)
        if "label" in spec:
            strings(spec["label"], f"entries.{entry}.label")
            not_ours(spec["label"], f"entries.{entry}.label", OURS)
            _earlier(spec["label"], "run", f"entries.{entry}.label", entry, list(entries))
        own = [item for item in spec["overrides"] if value_of(item) in entries]  # else it is a run's folder
        _earlier(own, CODES, f"entries.{entry}.overrides", entry, list(entries))
    tasks = {entry: tasks_of(spec["tasks"], f"entries.{entry}.tasks") for entry, spec in entries.items()}
    adapt = {entry: tasks_of(spec.get("adapt", []), f"entries.{entry}.adapt") for entry, spec in entries.items()}
    for entry, of_entry in adapt.items():
        for task, overrides in of_entry.items():
            not_ours(overrides, f"entries.{entry}.adapt.{task}", (*OURS, "run"))
    planned = []
    for seed in seeds:
        for entry, spec in entries.items():
            run = Run(root / name / f"{entry}-s{seed}")
            labels = _labels(spec["label"], run, name, root, seed) if "label" in spec else None
            set_here = {"name": f"{name}/{run.name}", "root": root, "seed": seed}
            set_here |= {"targets": labels.folder} if labels else {}
            codes, words = None, list(spec["overrides"])
            for place, item in enumerate(words):
                if key_of(item) == CODES and value_of(item) in entries:
                    codes = Run(root / name / f"{value_of(item)}-s{seed}")
                    words[place] = override(CODES, codes.folder)
            overrides = [*words, *(override(k, v) for k, v in set_here.items())]
            planned.append(Planned(entry, seed, run, overrides, tasks[entry], labels, adapt[entry], codes))
    return planned


def _joined(shared: dict, spec):
    """An entry with the shared overrides, tasks and adaptations before its own; unchanged if malformed,
    which is reported later."""
    if not isinstance(spec, dict):
        return spec
    pairs = {key: (shared.get(key) or [], spec.get(key, [])) for key in ("overrides", "tasks", "adapt")}
    if not all(isinstance(part, list) for pair in pairs.values() for part in pair):
        return spec
    return spec | {key: [*both, *own] for key, (both, own) in pairs.items() if key in spec or key in shared}


def _labels(items: list[str], run: Run, name: str, root: Path, seed: int) -> Labels:
    """The labels of an entry for one seed: run=<entry> becomes that entry's run with the same seed."""
    folder, of, overrides = run.folder.parent / f"{run.name}-labels", None, []
    for item in items:
        if key_of(item) == "run":
            of = Run(root / name / f"{value_of(item)}-s{seed}")
            item = override("run", of.folder)
        overrides.append(item)
    set_here = {"name": f"{name}/{folder.name}", "root": root, "seed": seed}
    return Labels([*overrides, *(override(k, v) for k, v in set_here.items())], folder, of)


def _earlier(items: list[str], key: str, where: str, entry: str, entries: list[str]) -> None:
    """Raise ConfigError unless key=<entry> names an earlier entry, which is trained before."""
    before = entries[: entries.index(entry)]
    for item in items:
        if key_of(item) == key and value_of(item) not in before:
            raise ConfigError(
                f"{where} sets {item}, which must name an entry that comes before it: "
                f"{', '.join(before) or 'none does'}{nearest(value_of(item), before)}"
            )
