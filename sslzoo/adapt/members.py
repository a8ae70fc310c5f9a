"""The models of PET's patterns: trained one after the other, each in a folder of its own, and their scores."""

import copy
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from sslzoo import build, distributed, rng, weights
from sslzoo.adapt.items import LabelledItems
from sslzoo.adapt.job import MEND, AdaptJob, build_adapt
from sslzoo.adapt.unlabelled import BesideUnlabelled, TrainedOn, text_split, unlabelled_texts
from sslzoo.data.loader import ordered_loader
from sslzoo.data.text_splits import TextSplit
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.frozen import units
from sslzoo.nodes import check, make
from sslzoo.prompts.ensemble import CONFIDENT, annotated, annotators, combined, growth
from sslzoo.run import Run, write_json
from sslzoo.train import launch
from sslzoo.train.cluster import first_rank

PATIENCE = 3600.0  # seconds that a rank waits for the first one's scores


@dataclass(frozen=True)
class Member:
    """A model of a pattern. place: its number in its generation."""

    generation: int
    pattern: int
    repetition: int
    place: int

    @property
    def name(self) -> str:
        return f"generation-{self.generation}/pattern-{self.pattern}-{self.repetition}"


class Ensemble:
    """The generations of models of a `PET` or `IPET`, in `shared`, an adaptation's folder. Every rank trains; the first
    one scores, and the others read its files. Raises ConfigError, before any training, for settings and patterns that
    do not fit.

    job: the classifier's. texts: the unlabelled ones, without labels.
    """

    def __init__(self, method: Any, job: AdaptJob, run: Run, shared: Run):
        self.method, self.job, self.run, self.shared = method, job, run, shared
        self.patterns = (job.config.get("prompt") or {}).get("patterns") or []
        if len(self.patterns) < method.least_patterns:
            raise ConfigError(
                f"{type(method).__name__} trains a model of each of prompt.patterns, of which it needs {method.least_patterns} "
                f"or more, and there are {len(self.patterns)}: set prompt.patterns=[{{template: …, words: […]}}, …], or choose "
                "a task/prompt=… that has them (`sslzoo list prompts`)"
            )
        self.texts = unlabelled_texts(job.data, method.unlabelled, method.max_unlabelled)
        self.splits: dict[int, TextSplit] = {}  # the texts in each pattern
        self.units = units(job.data)
        for pattern in range(len(self.patterns)):
            self.check(pattern)

    def check(self, pattern: int) -> None:
        """Raise ConfigError for a pattern that does not fit the data, or words that its vocabulary does not have."""
        node = {"_target_": "sslzoo.prompts.prompt.Prompt", **self.prompt(pattern)}
        check(node, f"prompt.patterns[{pattern}]")
        prompt, data = make(node), copy.copy(self.job.data.data)
        prompt.applied(data)
        prompt.verbalizer(self.job.data.classes, data.tokenizer)
        self.unlabelled(pattern, data)

    def prompt(self, pattern: int) -> dict:
        """The node of a pattern: what it does not say is as in the prompt."""
        return {**self.job.config["prompt"], **self.patterns[pattern], "patterns": None}

    def build(self, config: dict) -> AdaptJob:
        return build_adapt(config, self.run)

    def members(self, generation: int) -> list[Member]:
        pairs = [(p, i) for p in range(len(self.patterns)) for i in range(self.method.repetitions)]
        return [Member(generation, p, i, place) for place, (p, i) in enumerate(pairs)]

    def train(self) -> None:
        """Train and score the members that are not done."""
        for generation in range(self.method.generations):
            for member in self.members(generation):
                same = self.untrained(member) and member.repetition  # as the first of its pattern
                if not same and not self.scores_file(member).exists():
                    self.finish(member)

    def finish(self, member: Member) -> None:
        """Train a member, or continue it, and score it."""
        folder, job, before = Run(self.shared.folder / member.name), self.member_job(member), 0.0
        first = first_rank(self.job.trainer)
        if first and self.method.labels:  # before training
            before = self.accuracy(job, "train")
        if not self.untrained(member) and not folder.done:
            build.write_config(folder, job.config)
            with folder.attempt():
                launch.pretrain(job, folder)
        if first:
            self.score(member, job, folder, before)

    def combined(self) -> np.ndarray:
        """[N, C]: the weighted mean of the last generation's scores of the unlabelled texts."""
        return self.mean(self.members(self.method.generations - 1))

    def mean(self, members: list[Member]) -> np.ndarray:
        found = [self.scores(member) for member in members]
        uniform = self.method.weights == "uniform"
        return combined([scores for scores, _ in found], [1.0 if uniform else before for _, before in found])

    def untrained(self, member: Member) -> bool:
        return not self.method.labels and member.generation == 0

    def config(self, member: Member, rows: int) -> dict:
        """A member's own config. Its seed is another one than those of all others."""
        base, method = self.job.config, self.method
        shared = yaml.safe_load(self.shared.config.read_text(encoding="utf-8"))  # with the lr before any search
        lr = shared["optim"]["lr"] if method.lr is None else method.lr
        words = (member.generation, member.pattern, member.repetition)
        return {
            **base,
            "method": {"_target_": "sslzoo.adapt.methods.Full"},
            "objective": {"_target_": "sslzoo.prompts.pattern_training.PatternTraining", "alpha": method.alpha},
            "prompt": self.prompt(member.pattern),
            "seed": rng.derive_seed(base["seed"], "pattern", *words),
            "batch": {"_target_": "sslzoo.data.sampler.ByCount", "size": min(method.labelled_rows, rows)},
            "optim": {**base["optim"], "lr": lr},
            "search": {"lr": None},
            "trainer": {**base["trainer"], "max_steps": method.steps, "val_every": None},
        }

    def member_job(self, member: Member) -> AdaptJob:
        """The job of a member, with the run's weights."""
        none = np.zeros(0, np.int64)
        items, classes = self.annotated(member)
        rows = int(self.counts.sum()) + len(items)
        job = self.build(self.config(member, max(rows, 1)))
        labelled = job.data.split("train")
        if not self.method.labels:
            labelled = LabelledItems(labelled.splits, none, none, none)
        split, beside = self.unlabelled(member.pattern, job.data), self.method.unlabelled_per_row
        return replace(job, data=TrainedOn(job.data, BesideUnlabelled(labelled, split, beside, items, classes)))

    def unlabelled(self, pattern: int, data: Any) -> TextSplit:
        """The texts in a pattern. data: one that reads in it."""
        if pattern not in self.splits:
            self.splits[pattern], _ = text_split(self.texts, data.tokenizer, data.max_tokens)
        return self.splits[pattern]

    @cached_property
    def counts(self) -> np.ndarray:
        """Labelled items of each class."""
        classes = len(self.job.data.classes)
        return np.bincount(self.job.data.split("train").labels if self.method.labels else [], minlength=classes)

    def annotated(self, member: Member) -> tuple[np.ndarray, np.ndarray]:
        """(unlabelled items, their classes) that a member is trained on beside the labelled ones (section 3.4)."""
        if member.generation == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        new = growth(self.counts, member.generation, self.method.growth)
        surest = CONFIDENT if not self.method.labels and member.generation == 1 else None
        scores = self.mean(self.annotators(member))
        return annotated(scores, new, *self.words(member), member.place, confident=surest)

    def annotators(self, member: Member) -> list[Member]:
        """The members of the generation before that label items for a member; none for those of the first."""
        if member.generation == 0:
            return []
        before = self.members(member.generation - 1)
        return [before[i] for i in annotators(member.place, len(before), self.method.share, *self.words(member))]

    def words(self, member: Member) -> tuple[int | str, ...]:
        return self.job.config["seed"], "generation", member.generation

    def scores_file(self, member: Member) -> Path:
        if self.untrained(member):
            member = replace(member, repetition=0)
        return self.shared.folder / member.name / "scores.safetensors"

    def scores(self, member: Member) -> tuple[np.ndarray, float]:
        """(a member's scores of the unlabelled texts [N, C], its accuracy before training)."""
        path, patience = self.scores_file(member), time.monotonic() + PATIENCE
        while not path.exists():  # ranks other than the first
            if time.monotonic() > patience:
                raise UserError(f"{path} was not written in {PATIENCE / 60:.0f} minutes: did the first rank end?")
            time.sleep(0.1)
        found = weights.load(path, f"delete {path.parent}, and run its `sslzoo adapt` again")
        return found["scores"].numpy(), float(found["accuracy_before"])

    def score(self, member: Member, job: AdaptJob, folder: Run, before: float) -> None:
        """Write a member's scores of the unlabelled texts, and result.json; its checkpoints are removed. before: its
        accuracy on the labelled items before training."""
        both = nn.ModuleDict({"encoder": job.encoder, "objective": job.objective})
        if not self.untrained(member):
            tensors = weights.load(folder.adapted_weights, MEND.format(self.shared.folder))
            build.restore(both, tensors, both.state_dict().keys() - tensors.keys())
        both.to(self.device).eval()
        split = self.splits[member.pattern]
        scores = torch.empty(len(split), len(self.job.data.classes))
        with distributed.alone(), torch.inference_mode():
            for batch in self.batches(split):
                scores[batch.index] = job.objective.logits(job.encoder, batch).float().cpu()
        labelled = int(self.counts.sum())
        accuracies = (
            {"accuracy_before": before, "accuracy_after": self.accuracy(job, "train")} if self.method.labels else {}
        )
        write_json(
            folder.result,
            {
                "pattern": job.config["prompt"]["template"],
                "words": job.config["prompt"]["words"],
                "repetition": member.repetition,
                "seed": job.config["seed"],
                "labelled": labelled,
                "annotated": len(job.data.split("train")) - labelled,
                "annotators": [other.name for other in self.annotators(member)],
                "unlabelled": len(split),
                **accuracies,
                "valid": self.accuracy(job, "valid"),
                "seconds": 0.0 if self.untrained(member) else round(60 * self.minutes(folder), 2),
            },
        )
        weight = torch.tensor(before, dtype=torch.float64)
        weights.save(self.scores_file(member), {"scores": scores, "accuracy_before": weight})
        shutil.rmtree(folder.checkpoints, ignore_errors=True)

    def accuracy(self, job: AdaptJob, part: str) -> float:
        """A member's accuracy on the task's own part."""
        items = job.data.data.split(part)
        both = nn.ModuleDict({"encoder": job.encoder, "objective": job.objective}).to(self.device).eval()
        with distributed.alone(), torch.inference_mode():
            found = dict(job.objective.evaluate(job.encoder, self.batches(items), items))
        both.train()
        return found["accuracy"]

    @staticmethod
    def minutes(folder: Run) -> float:
        return json.loads(folder.summary.read_text(encoding="utf-8"))["minutes"]

    @property
    def device(self) -> str:
        return "cuda" if self.job.trainer.on_gpu else "cpu"

    def batches(self, split: Any) -> Iterator:
        return (batch.to(self.device) for batch in ordered_loader(split, self.units, workers=self.job.trainer.workers))
