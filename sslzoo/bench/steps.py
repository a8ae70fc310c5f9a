"""The commands of a bench: one for each encoder, task, seed and fold, whose results are kept beside its table."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslzoo import build, weights
from sslzoo.adapt.command import check_adapt
from sslzoo.bench.encoders import Asked
from sslzoo.bench.questions import Question
from sslzoo.bench.scale import Scale
from sslzoo.compare.process import Command, keys_in, override
from sslzoo.errors import UserError
from sslzoo.run import Run, commit, write_json

DRAWN = ("figures", "projections", "confusion", "per_class", "exits")


@dataclass(frozen=True)
class Step:
    """A command on one encoder. fold: 0 where there is but one. words: its overrides, without run. key: of what the
    result depends on. kept: the file of its result. where: the file that the command writes, relative to the run. told:
    what of the protocol was made smaller, in words."""

    asked: Asked
    question: Question
    seed: int
    fold: int
    words: list[str]
    key: str
    kept: Path
    where: str
    told: list[str]
    after = None  # it waits for no other

    @property
    def run(self) -> Run:
        return self.asked.run

    @property
    def name(self) -> str:
        return f"{self.run.name}, {self.question.name}" + (f", fold {self.fold}" if self.fold else "") + self._seed

    @property
    def _seed(self) -> str:
        return f", seed {self.seed}" if self.seed else ""

    @property
    def result(self) -> dict | None:
        """What the command found, None if it was not run, or with other settings or weights."""
        return self.saved.get("result")

    @property
    def commit(self) -> str | None:
        """Of the code that asked it."""
        return self.saved.get("commit")

    @property
    def saved(self) -> dict:
        """What is kept of it, {} if it was not run, or with other settings or weights."""
        try:
            found = json.loads(self.kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if found.get("key") == self.key else {}

    def check(self, command: Command) -> None:
        """Raise, before anything runs, the errors that the command would before it reads data."""
        if self.question.command == "adapt" and self.result is None:
            words = [override("run", self.run.folder), *self.words]
            check_adapt(
                command.compose("adapt", words), self.run, Run((self.run.folder / self.where).parent), keys_in(words)
            )

    def steps(self, command: Command) -> Iterator[str]:
        """Run the command and keep its result, yielding a description before."""
        if self.result is not None:
            yield "done already"
            return
        yield self.question.what
        command(self.question.command, override("run", self.run.folder), *self.words)
        path = self.run.folder / self.where
        if not path.exists():
            raise UserError("it stopped before its end — the same command goes on from there")
        found = json.loads(path.read_text(encoding="utf-8"))
        if self.question.command == "adapt":  # of dozens they fill a disk, and adapted.safetensors has what was chosen
            for checkpoints in [*path.parent.rglob("checkpoints")]:
                shutil.rmtree(checkpoints)
        kept = {"key": self.key, "words": self.words, "commit": commit(), "result": scores(found)}
        write_json(self.kept, kept)


def scores(found: Any) -> Any:
    """A result without what is drawn from it, which its run keeps."""
    if not isinstance(found, dict):
        return found
    return {key: scores(value) for key, value in found.items() if key not in DRAWN}


def planned(asked: list[Asked], questions: list[Question], config: dict, command: Command, folder: Path) -> list[Step]:
    """The steps of all encoders, one seed of everything before the next. Raises ConfigError for a task that cannot be
    composed."""
    scale, steps = Scale.of(config["scale"]), []
    plans = {one.name: list(folds(one, scale, command)) for one in questions if one.data is not None}
    for seed in config["seeds"]:
        for one in questions:
            for encoder in asked:
                if one.data is None or encoder.modality != one.modality:
                    continue
                if seed != config["seeds"][0] and one.command != "adapt":
                    continue  # nothing in it is drawn
                for fold, words, told in plans[one.name]:
                    steps.append(step(encoder, one, seed, fold, words, told, folder))
    return steps


def folds(one: Question, scale: Scale, command: Command) -> Iterator[tuple[int, list[str], list[str]]]:
    """(fold, overrides, what they make smaller) of each command of a task."""
    assert one.data is not None
    words = [*one.words, *one.data.words]
    config = command.compose(one.command, ["run=x", *words])
    if one.command == "adapt":
        more, told = scale.adapt(config)
    else:
        more, told = scale.probe() if one.command == "probe" else scale.analyze(config)
    count = one.folds if scale.folds is None else min(one.folds, scale.folds)
    told += [f"{count} of {one.folds} folds"] * (count < one.folds)
    for fold in range(1, count + 1):
        own = [f"task.split.fold={fold}"] if one.folds > 1 else []
        yield fold if one.folds > 1 else 0, [*words, *more, *own], told


def step(asked: Asked, one: Question, seed: int, fold: int, words: list[str], told: list[str], folder: Path) -> Step:
    short = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:6]
    name = f"{folder.name}-{one.name}" + (f"-fold{fold}" if fold else "")
    words, kept = list(words), f"{one.name}" + (f"-fold{fold}" if fold else "") + f"-s{seed}.json"
    if one.command == "adapt":
        name = f"{name}-{short}-s{seed}"
        where = f"adapted/{name}/result.json"
        words += [override("name", name), override("seed", seed), "trainer.progress=false"]
    elif one.command == "probe":
        where = f"probe/{name}-{short}.json"
        words += [override("task.name", f"{name}-{short}")]
    else:
        where = f"analysis/{one.words[0].partition('=')[2]}.json"
    depends: Any = [words, weights.signature(asked.run.weights), build.described(asked.run)["encoder"]]
    key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]
    return Step(asked, one, seed, fold, words, key, folder / "results" / asked.run.name / kept, where, told)
