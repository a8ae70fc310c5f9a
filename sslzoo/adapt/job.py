"""Building a job for the trainer from a config of `sslzoo adapt` and a finished run, and loading the adapted encoder
and head."""

import copy
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from sslzoo import build, distributed, own, rng, weights
from sslzoo.adapt.choose import KeepBest, trained
from sslzoo.adapt.data import Supervised
from sslzoo.adapt.find import adapted_run
from sslzoo.adapt.methods import Method
from sslzoo.config import task_node
from sslzoo.data import labels
from sslzoo.data.base import Data
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.compatible import agreeing_task, with_run_tokenizer
from sslzoo.nodes import check, fits, make, target
from sslzoo.probe.tasks import Task
from sslzoo.prompts.language_model import language_model_of
from sslzoo.run import Run, write_json
from sslzoo.tasks.base import TaskObjective
from sslzoo.train import additions
from sslzoo.train.cadence import Cadence

NODES = ("task", "method", "objective", "optim", "trainer")
MEND = "delete {}/DONE, and run its `sslzoo adapt` again"


@dataclass
class AdaptJob(build.Job):
    """The parts of fine-tuning; data is a `Supervised`. method: the one applied to the encoder. best: what validation
    kept, None without validation."""

    method: Method
    best: KeepBest | None = None
    validates_all = True

    def validation(self, split, every: Cadence, workers: int, indices) -> KeepBest:
        self.best = KeepBest(self.data, split, self.config["seed"], every, workers)
        return self.best

    def save(self, run: Run, prepared: dict, encoder: nn.Module, objective: nn.Module) -> None:
        """Write the trained tensors, of the best step on validation or, without validation, of the last, after the
        method's `finished`; and their sizes."""
        assert isinstance(objective, TaskObjective)
        modules = {"encoder": encoder, "objective": objective}
        learns = {
            f"{part}.{name}": p.numel()
            for part, module in modules.items()
            for name, p in module.named_parameters()
            if p.requires_grad
        }
        chosen = self.best.kept if self.best and self.best.kept else trained(encoder, objective)
        encoder, chosen = self.finished(encoder, objective, chosen)
        if self.best is not None and objective.calibrates:
            chosen |= self.calibrated(encoder, objective, chosen)
        weights.save(run.adapted_weights, chosen)
        write_json(
            run.adapted,
            {
                "task": self.data.task.name,
                "classes": self.data.classes,
                "prepared": prepared,
                "parameters": sum(p.numel() for p in encoder.parameters()),
                "trained_parameters": sum(learns.values()),
                "head_parameters": sum(count for name, count in learns.items() if new_in(objective, name)),
                "trained": learns,
                "saved": {name: tensor.numel() for name, tensor in chosen.items()},
                "chosen": self.best and self.best.best and dict(zip(("step", "score"), self.best.best, strict=True)),
                "validation": self.best and self.best.history,
                **({"on_test": self.best.on_test} if self.best and self.best.on_test else {}),
                "own": own.folders_of([self.config[name] for name in NODES]),
            },
        )

    def finished(self, encoder: Any, objective: nn.Module, chosen: dict[str, Tensor]) -> tuple[Encoder, dict]:
        """(a copy of the encoder with the chosen tensors, after the method's `finished`; the tensors to store). Frozen
        parameters are shared, not copied."""
        encoder = copy.deepcopy(encoder, {id(p): p for p in encoder.parameters() if not p.requires_grad})
        own_part = {name: x for name, x in chosen.items() if name.startswith("encoder.")}
        encoder.load_state_dict({name.removeprefix("encoder."): x for name, x in own_part.items()}, strict=False)
        encoder = self.method.finished(encoder)
        return encoder, {**trained(encoder, objective), **{k: x for k, x in chosen.items() if k not in own_part}}

    def calibrated(self, encoder: Any, objective: Any, chosen: dict[str, Tensor]) -> dict[str, Tensor]:
        """The objective's tensors to store, after it was calibrated on validation with the chosen ones."""
        assert self.best is not None
        objective = copy.deepcopy(objective).eval()
        own_part = {k.removeprefix("objective."): x for k, x in chosen.items() if k.startswith("objective.")}
        objective.load_state_dict(own_part)
        with distributed.alone(), torch.no_grad():
            device = next(encoder.parameters()).device
            objective.calibrate(encoder.eval(), self.best.batches(device), self.best.split)
        return {f"objective.{name}": x.cpu() for name, x in objective.state_dict().items()}


def new_in(objective: TaskObjective, name: str) -> bool:
    """Whether a parameter is the objective's and not one that the run had already."""
    part, _, rest = name.partition(".")
    return part == "objective" and rest.split(".")[0] not in objective.pretrained


def opened(config: dict, run: Run, encoder: nn.Module) -> tuple[Task, Data]:
    """(the task, its data, with the run's input settings and tokenizer). Raises ConfigError, before any data is read,
    if they do not fit each other."""
    node, runs = config["task"], build.described(run)["data"]
    if config["batch"] is not None:
        runs = {**runs, "batch": config["batch"]}
        if node.get("data") is not None:
            node = {**node, "data": {**node["data"], "batch": config["batch"]}}
        check(runs, "data")
        check(node, "task")
    task, data = make(node), make(runs)
    if getattr(data, "pack", False):
        data.pack = False  # labels are per text, not per packed row
    task.check(encoder, data)
    if task.data is not None:
        return task, with_run_tokenizer(task.data, data, run.folder)
    data.restore(run.folder)
    return task, data


def put_to_data(config: dict, choices: dict[str, str], run: Run, given: Collection[str] = ()) -> tuple[dict, str]:
    """(the config with `data` moved into its task, with the input settings of the run's encoder; a line that says what
    changed, or ""). given: dotted keys of the settings that the user wrote."""
    task = task_node(config, choices, given)
    check(task, "task")
    changed = ""
    if isinstance(task, dict) and task.get("data") is not None:
        saved = build.described(run)
        with torch.device("meta"):  # without weights
            encoder = make(saved["encoder"])
        task, changed = agreeing_task(task, encoder, make(saved["data"]), config, given)
    return {**{name: node for name, node in config.items() if name != "data"}, "task": task}, changed


def task_class(config: dict) -> type[TaskObjective]:
    """The class of config.objective. Raises ConfigError if it is no task."""
    kind = target(config["objective"]["_target_"], "objective")
    if not (isinstance(kind, type) and issubclass(kind, TaskObjective)):
        raise ConfigError(f"objective: {getattr(kind, '__name__', kind)} is no task: choose one of sslzoo.tasks")
    return kind


def asks_by_prompt(config: dict) -> bool:
    """Whether the config's objective asks by a prompt, or what its method trains on the way to it."""
    return task_class(config).prompted or getattr(target(config["method"]["_target_"], "method"), "prompted", False)


def without_prompt(config: dict, given: Collection[str] = ()) -> dict:
    """The config without `prompt` if its objective has no use for one. Raises ConfigError if the user set it, by the
    dotted keys in `given`."""
    if asks_by_prompt(config):
        return config
    if wrote := [key for key in given if key == "prompt" or key.startswith("prompt.")]:
        raise ConfigError(f"{wrote[0]} is for methods that ask by a prompt: set method=prompt, or leave it out")
    return {name: node for name, node in config.items() if name != "prompt"}


def fitted(config: dict, run: Run, encoder: nn.Module) -> tuple[type[TaskObjective], Task, Data]:
    """(the class of the objective, the task, its data, not opened).
    Raises ConfigError if they do not fit each other."""
    kind = task_class(config)
    if asks_by_prompt(config) and encoder.modality != "text":
        fit = build.matching_encoders(lambda e: e.modality == "text" and "tokens" in e.offers)
        raise ConfigError(
            f"a prompt is made of words, and this run's encoder ({type(encoder).__name__}) reads {encoder.modality}: choose "
            f"method=full or method=head, or a run of encoder={', '.join(fit)}"
        )
    task, data = opened(config, run, encoder)
    if task.kind not in kind.kinds:
        raise ConfigError(
            f"task {task.name} is about {task.kind}, and {kind.__name__} is for {' and '.join(kind.kinds)}: "
            "choose another task=… (`sslzoo list tasks`)"
        )
    return kind, task, data


def begun(config: dict, run: Run, classes: list[str] | None = None):
    """(encoder, objective, data, method) before the first step. The initial weights of the head and of what the method
    adds to the encoder depend on the seed only. classes: None for those of the data, which is then opened."""
    encoder, _ = build.load_encoder(run, config["untrained"])
    kind, task, data = fitted(config, run, encoder)
    data, more = Supervised(data, task, encoder.stride, classes), {}
    build.check_fit(data, encoder, kind)
    if kind.prompted:
        more = {"prompt": make(config["prompt"]), "language_model": language_model_of(run, config["untrained"])}
        more["prompt"].applied(data.data, encoder.reads.get("max_tokens"), kind.demonstrated)
    with torch.random.fork_rng():
        torch.manual_seed(rng.derive_seed(config["seed"], "method"))
        method = make(config["method"])
        method.check(kind)
        encoder = method(encoder)
        room = encoder.reads.get("max_tokens")
        if room is not None and data.max_tokens > room:
            raise ConfigError(
                f"the method's prompt leaves {room} of the encoder's positions, and texts are up to {data.max_tokens} "
                + (
                    "tokens: choose a task with its own data"
                    if task.data is None
                    else f"tokens: set task.data.max_tokens={room}"
                )
            )
        torch.manual_seed(rng.derive_seed(config["seed"], "head"))
        objective = make(config["objective"], encoder=encoder, data=data, **more)
    return encoder, objective, data, method


def check_nodes(config: dict) -> None:
    """Raise ConfigError for settings of `sslzoo adapt` that their classes do not take."""
    for name in NODES:
        if not isinstance(config[name], dict) or "_target_" not in config[name]:
            raise ConfigError(f"{name} has no _target_: choose one of `sslzoo list` with {name}=…")
        check(config[name], name)
    check(config.get("prompt"), "prompt")
    if config["batch"] is not None and not (isinstance(config["batch"], dict) and "_target_" in config["batch"]):
        raise ConfigError("batch must be null or a node, such as {_target_: sslzoo.data.sampler.ByCount, size: 32}")
    for name, hint in (("seed", int), ("untrained", bool)):
        if not fits(config[name], hint):
            raise ConfigError(f"{name} must be {hint.__name__}, got {config[name]!r}")
    additions.check(config)


def check_composed(config: dict, encoder: dict) -> nn.Module:
    """Raise the errors of `build_adapt` for which neither the run nor its data is needed. encoder: the node of the
    run's config. Returns the encoder as it is trained, without weights."""
    check_nodes(config)
    make(config["trainer"]), make(config["optim"])
    with torch.device("meta"):
        method = make(config["method"])
        method.check(task_class(config))
        return method(make(encoder))


def check_parts(config: dict, run: Run) -> None:
    """Raise, before any data is read, the errors of `build_adapt` that need none."""
    node = build.described(run)["encoder"]
    check_composed(config, node)
    with torch.device("meta"):
        fitted(config, run, make(node))


def build_adapt(config: dict, run: Run) -> AdaptJob:
    """All parts of `sslzoo adapt`, from its plain config. Opens the data, whose classes give the size of the head."""
    check_nodes(config)
    trainer, optim = make(config["trainer"]), make(config["optim"])
    encoder, objective, data, method = begun(config, run)
    optim = build.batched(data, encoder, objective, optim, trainer)
    return AdaptJob(config, data, encoder, objective, optim, trainer, method)


def load_adapted(run: Run, name: str):
    """(adapted encoder, task objective with its head, the task's data, not opened), the modules in eval mode. name: of
    the folder in the run's `adapted`, such as "<task>-<method>"."""
    folder = adapted_run(run, name)
    config, said = (
        yaml.safe_load(folder.config.read_text(encoding="utf-8")),
        json.loads(folder.adapted.read_text(encoding="utf-8")),
    )
    if weights.signature(run.weights) != config["weights"]:
        raise UserError(f"{folder.folder} was adapted from other weights than those that {run.weights} holds now")
    own.find_again(said.get("own", {}), folder.folder)
    config = make(config["method"]).settled(config, run, folder)
    classes = said["classes"] and [labels.name(c) or c for c in said["classes"]]  # "1.0" of an older run is "1"
    encoder, objective, data, method = begun(config, run, classes)
    encoder = method.finished(encoder)
    both = nn.ModuleDict({"encoder": encoder, "objective": objective})
    absent = both.state_dict().keys() - trained(encoder, objective).keys()
    build.restore(both, weights.load(folder.adapted_weights, MEND.format(folder.folder)), absent)
    return encoder.eval(), objective.eval(), data


def default_name(config: dict, method: str) -> str:
    """<task>-<method>, then <K>shot-<split seed> with few labels, fold<n> for one of several folds, "untrained" if so
    and s<seed> unless the seed is 0."""
    task = config["task"]
    more = [] if task.get("shots") is None else [f"{task['shots']}shot", str(task["split_seed"])]
    more += [f"fold{task['split']['fold']}"] if "fold" in (task.get("split") or {}) else []
    more += ["untrained"] * config["untrained"] + ([f"s{config['seed']}"] if config["seed"] else [])
    return "-".join([str(task["name"]), method, *more])


def weights_of(run: Run) -> str:
    """The signature (SHA-256) of a finished run's encoder weights."""
    build.described(run)
    if not Path(f"{run.weights}.sha256").exists():
        raise UserError(f"{run.weights} has no signature beside it: was it copied without it?")
    return weights.signature(run.weights)
