"""The teacher of a distillation: an adapted encoder of another run, found, checked against its student, and asked for
its logits."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from sslzoo import build, weights
from sslzoo.adapt.data import Supervised
from sslzoo.adapt.find import adapted_run
from sslzoo.adapt.job import load_adapted
from sslzoo.adapt.measure import ROWS, latency
from sslzoo.data.loader import ordered_loader
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.compatible import agreeing_task, with_run_tokenizer
from sslzoo.features.frozen import units
from sslzoo.initial import TOKENIZER
from sslzoo.nodes import make
from sslzoo.run import Run, sha256
from sslzoo.tasks.base import TaskObjective

ABOUT_ITEMS = ("classification", "regression")  # kinds of task whose logits are one row an item


def found(where: Any, root: Path) -> Run:
    """The folder of an adaptation that is written RUN/adapted/NAME, RUN as `Run.find` takes it."""
    folder, there, name = str(where).rstrip("/").rpartition("/adapted/")
    if not there or not name:
        raise ConfigError(f"teacher={where} names no adaptation: give RUN/adapted/NAME, which `sslzoo adapt` wrote")
    return adapted_run(Run.find(folder, root), name)


def pinned(config: dict, root: Path) -> dict:
    """A config of `sslzoo adapt` with the folder of its method's teacher, if it has one, and with the signatures of the
    teacher's weights as `teacher`. Raises ConfigError for a teacher of another task."""
    method = config["method"]
    if not isinstance(method, dict) or method.get("teacher") is None:
        return config
    folder = found(method["teacher"], root)
    said, task = json.loads(folder.adapted.read_text(encoding="utf-8")), config["task"]
    if said["task"] != task["name"]:
        raise ConfigError(
            f"teacher={method['teacher']} learned the task {said['task']}, and this one is {task['name']}: its teacher is "
            f"what `sslzoo adapt task={task['name']}` makes of a larger run"
        )
    if task.get("kind") not in ABOUT_ITEMS:
        raise ConfigError(f"a teacher's logits are for tasks of {' and '.join(ABOUT_ITEMS)}, not {task.get('kind')}")
    if not folder.done:
        raise UserError(f"{folder.folder} is not finished: run its `sslzoo adapt` again")
    signatures = {"run": weights.signature(Run(folder.folder.parents[1]).weights)}
    signatures["adapted"] = weights.signature(folder.adapted_weights)
    return {**config, "method": {**method, "teacher": str(folder.folder)}, "teacher": signatures}


@dataclass
class Teacher:
    """An adapted encoder and its head, in eval mode, with the student's items as the teacher reads them."""

    folder: Run
    run: Run
    encoder: Encoder
    objective: TaskObjective
    data: Supervised

    @staticmethod
    def of(config: dict, run: Run, student: Supervised) -> "Teacher":
        """The teacher in a pinned config, of the run's student. Raises ConfigError if it has other classes or reads
        another kind of data."""
        folder = Run(Path(config["method"]["teacher"]))
        owner = Run(folder.folder.parents[1])
        encoder, objective, own = load_adapted(owner, folder.name)
        classes = own._classes
        if classes != student.classes:
            raise ConfigError(
                f"the teacher {folder.folder} learned the classes {', '.join(classes or ['none'])}, and the task has "
                f"{', '.join(student.classes or ['none'])}: adapt the larger run to this task"
            )
        if encoder.modality != student.modality:
            raise ConfigError(f"the teacher reads {encoder.modality}, and the task's data is {student.modality}")
        node = config["task"]
        if node.get("data") is None:
            node = {**node, "data": build.described(run)["data"]}
        if config["batch"] is not None:
            node = {**node, "data": {**node["data"], "batch": config["batch"]}}
        node, _ = agreeing_task(node, encoder, own.data, {"data": None})
        task = make(node)
        if getattr(task.data, "pack", False):
            task.data.pack = False
        task.check(encoder, task.data)
        data = with_run_tokenizer(task.data, own.data, owner.folder)
        if objective.prompted:
            said = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
            said = make(said["method"]).settled(said, owner, folder)  # with the prompt that it searched
            make(said["prompt"]).applied(data, encoder.reads.get("max_tokens"), objective.demonstrated)
        return Teacher(folder, owner, encoder, objective, Supervised(data, task, encoder.stride, classes))

    def check_tokens(self, encoder: Encoder, student: Supervised, run: Run) -> None:
        """Raise ConfigError if the teacher's hidden states are not of the student's tokens."""
        mend = "hidden states cannot be compared; choose method=distill_logits"
        for who, one in (("teacher", self.encoder), ("student", encoder)):
            if "tokens" not in one.offers:
                raise ConfigError(f"the {who} ({type(one).__name__}) has one vector an item and no tokens: {mend}")
        if self.objective.prompted:
            raise ConfigError(f"the teacher reads prompts, and the student plain texts: {mend}")
        if student.modality == "text":
            mine, theirs = ((r.folder / TOKENIZER, r.folder) for r in (run, self.run))
            if any(path.exists() for path, _ in (mine, theirs)):
                signs = [sha256(path) if path.exists() else None for path, _ in (mine, theirs)]
                if signs[0] != signs[1]:
                    raise ConfigError(f"the teacher's tokenizer is not the student's, so their {mend}")
            if student.max_tokens > (most := self.data.max_tokens):
                raise ConfigError(
                    f"the teacher reads {most} tokens of a text, and the student {student.max_tokens}: set "
                    f"task.data.max_tokens={most}"
                )
        else:
            differ = [k for k, v in encoder.reads.items() if self.encoder.reads.get(k) != v]
            if differ:
                said = "; ".join(f"{k} {self.encoder.reads.get(k)} and {encoder.reads[k]}" for k in differ)
                raise ConfigError(f"the teacher and the student read other inputs ({said}): {mend}")
        x = student.split("train").read(0, 0)[None]
        lengths = torch.tensor([x.shape[1] if x.ndim == 2 else 1])
        with torch.no_grad():
            counts = [int(one.embed(x, lengths)[1]) - one.prefix for one in (self.encoder.eval(), encoder.eval())]
        if counts[0] != counts[1]:
            raise ConfigError(f"of one item the teacher makes {counts[0]} tokens and the student {counts[1]}: {mend}")

    @torch.no_grad()
    def logits(self, student: Supervised, device: str, workers: int = 0) -> Tensor:
        """The teacher's logits of each of the student's training items, read whole and by the teacher's own tokenizer:
        [N, classes], float32 on the CPU."""
        split, own = self.data.labelled_items("train"), student.labelled_items("train")
        if len(split) != len(own) or not np.array_equal(split.labels, own.labels):
            raise UserError(
                f"the teacher reads {len(split)} items of train and the student {len(own)}, or in another order: "
                "their data differ"
            )
        encoder, objective = self.encoder.to(device).eval(), self.objective.to(device).eval()
        rows: Tensor | None = None
        for batch in ordered_loader(split, units(self.data), workers=workers):
            found = objective.logits(encoder, batch.to(device)).float().cpu()
            rows = found.new_full((len(split), found.shape[1]), torch.nan) if rows is None else rows
            rows[batch.index] = found
        assert rows is not None
        return rows

    def cost(self, device: str) -> dict:
        """What the teacher reached when it was adapted, its sizes, and what it takes on this machine: to say what a
        student gains."""
        said = json.loads(self.folder.result.read_text(encoding="utf-8"))
        split = self.data.split("valid")
        with torch.inference_mode():
            taken = {str(rows): latency(self.encoder, self.objective, split, device, rows) for rows in ROWS}
        return {
            "folder": str(self.folder.folder),
            **{part: said[part] for part in ("valid", "test")},
            **{name: said[name] for name in ("parameters", "bytes_stored")},
            "latency_ms": taken,
        }


def order_of(split: Any) -> str:
    """A hash of a split's items, in order: their labels and lengths."""
    return hashlib.sha256(split.labels.tobytes() + split.lengths.tobytes()).hexdigest()[:16]
