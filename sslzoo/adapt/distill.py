"""Distillation: a small encoder learns a task from a larger one that was adapted to it."""

import dataclasses
import json
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import build, rng, weights
from sslzoo.adapt.items import LabelledItems, SupervisedSplit
from sslzoo.adapt.job import AdaptJob, build_adapt
from sslzoo.adapt.methods import Full
from sslzoo.adapt.teacher import Teacher, order_of
from sslzoo.adapt.unlabelled import SoftLabelledItems, TrainedOn
from sslzoo.errors import ConfigError
from sslzoo.initial import MEND, restore
from sslzoo.nodes import make
from sslzoo.objectives.hidden_states import HiddenStates
from sslzoo.run import Run, write_json
from sslzoo.tasks.classification import Classification
from sslzoo.tasks.regression import Regression
from sslzoo.tasks.soft_labels import SoftLabels
from sslzoo.train import launch
from sslzoo.train.cluster import first_rank

TEACHER = "teacher.json"  # in the folder of an adaptation: what its teacher costs and reached


class LogitDistillation(Full):
    """Every parameter of the student, and its head, learn from the logits z_teacher of a finished, frozen teacher in
    eval mode (Hinton et al. 2015, 1503.02531, section 2). For C classes, over the items b of a batch:

    loss = T^2/B sum_b KL(softmax(z_teacher,b / T) || softmax(z_b / T))

    whose gradients are those of the soft cross-entropy of TinyBERT (1909.10351, equation 10); the factor T^2 keeps
    their magnitude as T grows. A regression learns the teacher's values by their squared differences. Labels choose the
    step that is kept, and are not learned. The teacher says its logits once, of whole items read by its own tokenizer.

    teacher: the folder RUN/adapted/NAME. temperature: T, of both sides.
    """

    def __init__(self, teacher: str, temperature: float = 1.0):
        self.teacher, self.temperature = teacher, temperature

    def check(self, objective: type) -> None:
        if objective not in (Classification, Regression):
            raise ConfigError(
                f"a teacher's logits are learned by a head of classification or regression, not {objective.__name__}: "
                "leave out head=…"
            )

    def train(self, job: AdaptJob, run: Run, folder: Run, shared: Run) -> bool:
        table = self.taught(job, run, shared)
        return launch.pretrain(self.on_logits(build_adapt(job.config, run), table), folder)

    def taught(self, job: AdaptJob, run: Run, shared: Run) -> Tensor:
        """The teacher's logits [N, C] of the training items, computed once and kept in the adaptation's folder."""
        path, said = shared.folder / "teacher_logits.safetensors", shared.folder / TEACHER
        of = {"weights": job.config["teacher"], "items": order_of(job.data.split("train"))}

        def kept() -> bool:
            return said.exists() and of.items() <= json.loads(said.read_text(encoding="utf-8")).items()

        if first_rank(job.trainer) and not kept():
            teacher, device = Teacher.of(job.config, run, job.data), "cuda" if job.trainer.on_gpu else "cpu"
            weights.save(path, {"logits": teacher.logits(job.data, device, job.trainer.workers)})
            write_json(said, {**of, **teacher.cost(device)})
        while not kept():  # ranks other than the first
            time.sleep(0.1)
        return weights.load(path, f"delete {said}")["logits"]

    def on_logits(self, job: AdaptJob, table: Tensor) -> AdaptJob:
        """The job with the head and the training items that learn the teacher's logits, table [N, C]."""
        node, classes = job.config["objective"], isinstance(job.objective, Classification)
        if classes:
            soft = f"{SoftLabels.__module__}.{SoftLabels.__name__}"
            node = {**node, "_target_": soft, "temperature": self.temperature}
        with torch.random.fork_rng():
            torch.manual_seed(rng.derive_seed(job.config["seed"], "head"))
            objective = make(node, encoder=job.encoder, data=job.data)
        train = job.data.split("train")
        taught: SupervisedSplit
        if classes:
            taught = SoftLabelledItems(train, soft_labels(table, self.temperature))
        else:
            taught = LabelledItems(train.splits, train.source, train.places, table[:, 0].numpy())
        return dataclasses.replace(job, objective=objective, data=TrainedOn(job.data, taught))

    def spent(self, folder: Run) -> dict:
        said = json.loads((folder.folder / TEACHER).read_text(encoding="utf-8"))
        return {"teacher": {name: value for name, value in said.items() if name != "items"}}


class Distillation(LogitDistillation):
    """The two steps of TinyBERT (Jiao et al. 2020, 1909.10351, section 3): first the student learns the teacher's
    hidden states on the training items (`HiddenStates`: every layer those of one of the teacher's, through a learned
    projection), then, from there, its logits (`LogitDistillation`). The first step is a run of its own in `hidden/`,
    with an optimiser and a schedule of its own; both steps go on where they were stopped.

    hidden_steps, hidden_lr: updates of the first step, and their learning rate. layers: of the teacher, one for each of
    the student's; None: evenly spaced.
    """

    def __init__(
        self,
        teacher: str,
        hidden_steps: int = 500,
        hidden_lr: float = 0.001,
        layers: list[int] | None = None,
        temperature: float = 1.0,
    ):
        super().__init__(teacher, temperature)
        self.hidden_steps, self.hidden_lr, self.layers = hidden_steps, hidden_lr, layers

    def train(self, job: AdaptJob, run: Run, folder: Run, shared: Run) -> bool:
        hidden = Run(shared.folder / "hidden")
        if not hidden.done:
            first = self.on_hidden_states(job, run)
            build.write_config(hidden, first.config)
            with hidden.attempt():
                launch.pretrain(first, hidden)
        while not hidden.done:  # ranks other than the first
            time.sleep(0.1)
        second = self.on_logits(build_adapt(job.config, run), self.taught(job, run, shared))
        restore(second.encoder, weights.load(hidden.weights, MEND.format(hidden.folder)), set())
        return launch.pretrain(second, folder)

    def on_hidden_states(self, job: AdaptJob, run: Run) -> "HiddenJob":
        """The job of the first step."""
        teacher = Teacher.of(job.config, run, job.data)
        teacher.check_tokens(job.encoder, job.data, run)
        config = {
            **job.config,
            "optim": {**job.config["optim"], "lr": self.hidden_lr},
            "trainer": {**job.config["trainer"], "max_steps": self.hidden_steps},
        }
        with torch.random.fork_rng():
            torch.manual_seed(rng.derive_seed(config["seed"], "projections"))
            objective = HiddenStates(job.encoder, job.data, teacher.encoder, self.layers)
        trainer = make(config["trainer"])
        optim = build.batched(job.data, job.encoder, objective, make(config["optim"]), trainer)
        return HiddenJob(config, job.data, job.encoder, objective, optim, trainer)

    def spent(self, folder: Run) -> dict:
        first = json.loads(Run(folder.folder / "hidden").summary.read_text(encoding="utf-8"))
        about = {"steps": first["steps"], "seconds": round(60 * first["minutes"], 2), "loss": first["logs"].get("loss")}
        return {**super().spent(folder), "hidden": about}


class HiddenJob(build.Job):
    """The parts of the first step."""

    def save(self, run: Run, prepared: dict, encoder: nn.Module, objective: nn.Module) -> None:
        """Write the student's encoder: not the projections, which served this step alone."""
        weights.save(run.weights, encoder.state_dict())


def soft_labels(logits: Tensor, temperature: float) -> np.ndarray:
    """softmax(z / T) of logits z [N, C], float32: the teacher's side of the temperature."""
    return F.softmax(logits.double() / temperature, dim=1).float().numpy()
