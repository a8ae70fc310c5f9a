"""Comparing ways of adapting one encoder: the runs of `sslzoo adapt` that a comparison's config asks for, and checking
them beforehand."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sslzoo import build
from sslzoo.compare.names import named, not_ours, strings, tasks_of
from sslzoo.compare.process import Command, keys_in, override, task_words
from sslzoo.errors import ConfigError, UserError
from sslzoo.interop.grammar import is_source
from sslzoo.run import Run

OURS = ("run", "root", "name", "seed", "task", "task.name", "task.shots", "task.split_seed")
PARTS = ("overrides", "tasks", "shots")  # of an entry
ALL = "all"


@dataclass(frozen=True)
class Adaptation:
    """One run of `sslzoo adapt`: an entry on a task, with `shots` labels a class (None: all) and a seed, which also
    draws the labels. encoder: the run that is adapted. overrides: of `sslzoo adapt`, without run."""

    entry: str
    task: str
    shots: int | None
    seed: int
    encoder: Run
    run: Run
    overrides: list[str]
    after = None  # it waits for no other

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def done(self) -> bool:
        return self.run.done and self.run.result.exists()

    def steps(self, command: Command) -> Iterator[str]:
        """Run it, yielding a description before."""
        yield "adapt"
        command("adapt", override("run", self.encoder.folder), *self.overrides)
        if not self.done:
            raise UserError("it stopped before its end — the same command goes on from there")
        for checkpoints in [*self.run.folder.rglob("checkpoints")]:
            shutil.rmtree(checkpoints)  # of hundreds they fill a disk, and adapted.safetensors has what was chosen

    def check(self, command: Command) -> None:
        """Raise, before anything runs, the errors that `sslzoo adapt` would before it reads data."""
        from sslzoo.adapt.command import check_adapt

        config = command.compose("adapt", [override("run", self.encoder.folder), *self.overrides])
        check_adapt(config, self.encoder, self.run, keys_in(self.overrides))


def encoder_of(named_run: str | None, root: Path) -> Run | None:
    """The finished run that a comparison's `run` names, imported if it is SOURCE:WHAT (hf:FOLDER);
    None if it names none."""
    if named_run is None:
        return None
    if is_source(str(named_run)):
        from sslzoo.interop.importing import import_run

        return import_run(str(named_run), root)[0]
    run = Run.find(str(named_run), root)
    build.described(run)
    return run


def plan(config: dict, encoder: Run, root: Path) -> list[Adaptation]:
    """The adaptations of a comparison's config: all labels last, and one seed of everything before the next seed.
    Raises ConfigError."""
    entries, shared = config["entries"], config.get("shared") or {}
    both: dict[str, dict] = {}
    everyone = shots_of(config.get("shots") or [ALL], "shots")
    for entry, spec in entries.items():
        named(entry, "an entry's name")
        if not isinstance(spec, dict) or set(spec) - set(PARTS):
            raise ConfigError(f"entries.{entry} may have {', '.join(PARTS)} where the comparison has run, nothing else")
        both[entry] = {
            "overrides": [*shared.get("overrides", []), *spec.get("overrides", [])],
            "tasks": tasks_of([*shared.get("tasks", []), *spec.get("tasks", [])], f"entries.{entry}.tasks"),
            "shots": everyone,
        }
        if spec.get("shots"):  # without overrides of its own, those that others have with as many
            own = shots_of(spec["shots"], f"entries.{entry}.shots")
            both[entry]["shots"] = {count: words or everyone.get(count, []) for count, words in own.items()}
        strings(both[entry]["overrides"], f"entries.{entry}.overrides")
        not_ours(both[entry]["overrides"], f"entries.{entry}.overrides", OURS)
        if not both[entry]["tasks"]:
            raise ConfigError(f"entries.{entry} has no tasks: set shared.tasks or entries.{entry}.tasks")
    counts = sorted({k for spec in both.values() for k in spec["shots"]}, key=lambda k: (k is None, k))
    tasks = list(dict.fromkeys(task for spec in both.values() for task in spec["tasks"]))
    planned = []
    for shots in counts:
        for seed in config["seeds"]:
            for task in tasks:
                for entry, spec in both.items():
                    if task not in spec["tasks"] or shots not in spec["shots"]:
                        continue
                    of_task, of_shots = spec["tasks"][task], spec["shots"][shots]
                    not_ours(of_task, f"the task {task}", OURS[:4])
                    not_ours(of_shots, "shots", OURS)
                    end = f"s{seed}" if shots is None else f"{shots}shot-{seed}"
                    name = f"{config['name']}-{task}-{entry}-{end}"
                    set_here = {"name": name, "root": root, "seed": seed}
                    if shots is not None:
                        set_here |= {"task.shots": shots, "task.split_seed": seed}
                    words = [*task_words(task, of_task), *spec["overrides"], *of_shots]
                    words += [override(key, value) for key, value in set_here.items()]
                    run = Run(encoder.folder / "adapted" / name)
                    planned.append(Adaptation(entry, task, shots, seed, encoder, run, words))
    return planned


def representatives(planned: list[Adaptation]) -> list[Adaptation]:
    """One for each entry and task, and one for each number of labels: checks of the others would say the same."""
    seen: set[tuple[str, str] | int | None] = set()
    found = []
    for one in planned:
        if new := {(one.entry, one.task), one.shots} - seen:
            seen |= new
            found.append(one)
    return found


def shots_of(items, where: str) -> dict[int | None, list[str]]:
    """[16, {200: [trainer.max_steps=300]}, all] -> {labels a class, None for all: overrides}."""
    found: dict[int | None, list[str]] = {}
    for item in items if isinstance(items, list) else [items]:
        for shots, overrides in (item if isinstance(item, dict) else {item: []}).items():
            if shots != ALL and (type(shots) is not int or shots < 1):
                raise ConfigError(f"{where} must be labels a class, such as [16,200,all]; got {items}")
            strings(overrides, f"{where}.{shots}")
            found[None if shots == ALL else shots] = overrides
    if not found:
        raise ConfigError(f"{where} is empty: [all] for all labels")
    return found
