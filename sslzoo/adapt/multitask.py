"""Multi-task training on prompted tasks, scored on a task that was never seen (T0, 2110.08207; FLAN, 2109.01652)."""

import copy
import dataclasses
import json

import numpy as np
import torch
from torch import Tensor

from sslzoo import build
from sslzoo.adapt.data import Supervised
from sslzoo.adapt.items import LabelledItems, SupervisedSplit
from sslzoo.adapt.job import AdaptJob
from sslzoo.adapt.methods import Full
from sslzoo.adapt.unlabelled import TrainedOn
from sslzoo.data.concat import ConcatSplit
from sslzoo.data.mixture import Mixture
from sslzoo.data.sampler import ByCount
from sslzoo.errors import ConfigError
from sslzoo.features.compatible import with_run_tokenizer
from sslzoo.nodes import check, make
from sslzoo.probe.tasks import Task
from sslzoo.prompts.mixed import MixedPrompts
from sslzoo.prompts.objectives import PromptClassification
from sslzoo.prompts.prompt import Prompt
from sslzoo.run import Run
from sslzoo.train import launch


class MultitaskPrompts(Full):
    """The run's encoder and language model learn the words of several tasks' labels in their prompts (`MixedPrompts`),
    and the task of the command is scored by its own prompt. None of its labels is read in training: nothing is chosen
    by validation, and the last step is kept.

    Tasks are mixed in proportion to their items, of which no more than `cap` count; FLAN's cap is 3,000 (2109.01652,
    section 2.4). A task with several prompts is asked by each of them equally often (2110.08207, section 4).

    tasks: by name. prompts: the settings of each one's `Prompt`, and more of them as `patterns`. cap: see above.
    """

    def __init__(self, tasks: dict[str, Task], prompts: dict[str, dict], cap: int = 2000):
        if not tasks:
            raise ConfigError("method=multitask trains on tasks: set tasks=[sst2,cola] (`sslzoo list prompts`)")
        if cap < 1:
            raise ConfigError(f"method.cap must be at least 1, got {cap}")
        for name, task in tasks.items():
            if task.kind != "classification" or task.data is None:
                raise ConfigError(f"tasks: {name} is no classification with data of its own: leave it out")
            if name not in prompts:
                raise ConfigError(
                    f"tasks: {name} has no prompt: leave it out (`sslzoo list prompts` shows those that have)"
                )
        self.tasks, self.cap = tasks, cap
        self.prompts = {name: every_prompt(name, prompts[name]) for name in tasks}

    def check(self, objective: type) -> None:
        if objective is not PromptClassification:
            raise ConfigError(
                f"method=multitask asks for classes by prompts, and {objective.__name__} does not: leave out head=…, and "
                "choose a task of classes"
            )

    def train(self, job: AdaptJob, run: Run, folder: Run, shared: Run) -> bool:
        if job.trainer.val_every is not None:
            raise ConfigError(
                "method=multitask reads no label of the task that it is scored on, and trainer.val_every would choose by them: "
                "set trainer.val_every=null"
            )
        if not isinstance(job.data.batch, ByCount):
            raise ConfigError(
                "tasks are mixed item by item, which batches by length cannot: set "
                "batch={_target_: sslzoo.data.sampler.ByCount, size: 32}"
            )
        node = {**job.config["objective"], "_target_": f"{MixedPrompts.__module__}.{MixedPrompts.__name__}"}
        more = {"language_model": job.objective.language_model, "prompt": make(job.config["prompt"])}
        objective = make(node, encoder=job.encoder, data=job.data, **more)
        data = TrainedOn(job.data, self.mixture(job, run))
        return launch.pretrain(dataclasses.replace(job, objective=objective, data=data), folder)

    def mixture(self, job: AdaptJob, run: Run) -> ConcatSplit:
        """The training items of every task in every of its prompts, with how often each is drawn."""
        held_out, own = job.data.task, build.make(build.described(run)["data"])
        parts: dict[str, SupervisedSplit] = {}
        weights: list[float] = []
        for name, task in self.tasks.items():
            assert task.data is not None  # see __init__
            if task.name == held_out.name or source(task) == source(held_out):
                raise ConfigError(f"tasks: {name} is what is scored, and would not be unseen: leave it out")
            several = self.prompts[name]
            for number, prompt in enumerate(several):
                data = with_run_tokenizer(copy.deepcopy(task.data), own, run.folder)
                items = asked(data, task, prompt, job)
                parts[f"{name} {number + 1}" if len(several) > 1 else name] = items
                weights.append(min(len(items), self.cap) / len(several))
        return ConcatSplit(parts, "task", Mixture.weighted([len(part) for part in parts.values()], weights))

    def spent(self, folder: Run) -> dict:
        said = json.loads(folder.summary.read_text(encoding="utf-8"))["splits"]["train"]
        return {"trained_on": {"items": said["items"], "shares": said["shares"]}}


def every_prompt(name: str, node: dict) -> list[Prompt]:
    """A task's prompt, and each of its patterns that is another; they have its words if they say no other."""
    own = {key: value for key, value in node.items() if key != "patterns"}
    found: dict[tuple, Prompt] = {}
    for settings in [own, *({**own, **pattern} for pattern in node.get("patterns") or [])]:
        prompt = {"_target_": f"{Prompt.__module__}.{Prompt.__name__}", **settings}
        check(prompt, f"method.prompts.{name}")
        found.setdefault((prompt.get("template"), str(prompt.get("words"))), make(prompt))
    return list(found.values())


def asked(data, task: Task, prompt: Prompt, job: AdaptJob) -> "WordItems":
    """A task's training items in a prompt. Raises ConfigError for one that does not fit the data or the language
    model."""
    prompt.applied(data)
    supervised = Supervised(data, task, job.encoder.stride)
    assert supervised.classes is not None  # it is a classification
    verbalizer = prompt.verbalizer(supervised.classes, data.tokenizer)
    verbalizer.check_single("training on several tasks")
    if job.objective.language_model.causal and not data.tokenizer.template.ends_with_mask:
        raise ConfigError(
            f"a causal language model needs prompts that end with {{mask}}, and {task.name} has {prompt.template!r}"
        )
    items = supervised.labelled_items("train")
    return WordItems(items, np.array([several[0][0] for several in verbalizer.tokens], np.int64)[items.labels])


def source(task: Task) -> tuple:
    """Where a task's training items come from."""
    data = task.data
    return (str(getattr(data, "path", None)), str((getattr(data, "files", None) or {}).get("train"))) if data else ()


class WordItems(SupervisedSplit):
    """Items that have the id of a word as `targets["word"]`; words int64 [M]."""

    def __init__(self, items: LabelledItems, words: np.ndarray):
        super().__init__(items.splits, items.source, items.places)
        self.words = torch.from_numpy(words)

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        return {"word": self.words[index]}
