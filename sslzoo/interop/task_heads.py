"""The head of a downstream task in the form that transformers' classes have, and where each of them has it.

A head is brought to one of `FORMS` first, in which layers that follow each other without anything between them are one;
the tables of the families name its tensors:

    out            the last linear layer
    dense          BERT's pooler: tanh(W h + b) of the first token
    project        the linear layer before the mean over time
    layer_weights  the logits of the weighted sum of layers
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sslzoo import weights
from sslzoo.interop.names import Weight, layer
from sslzoo.run import write_json

WEIGHTS, ABOUT = "task_head.safetensors", "task_head.json"
MEND = "export {} again"

Form = Literal[
    "item_pooler", "item_first", "item_mean", "item_layers", "tokens_last", "tokens_layers", "answers", "symbols_last"
]
FORMS: Mapping[Form, str] = {
    "item_pooler": "a class of an item by tanh of a dense layer of the first token "
    "(encoder.pool=first objective.pooler=true, or encoder.pool=pooler)",
    "item_first": "a class of an item by the first token (encoder.pool=first objective.pooler=false)",
    "item_mean": "a class of an item by the mean over time (encoder.pool=mean objective.features=pooled)",
    "item_layers": "a class of an item by a weighted sum of layers (objective.features=layers)",
    "tokens_last": "a class of each token by the last layer (head=frames objective.features=last)",
    "tokens_layers": "a class of each token by a weighted sum of layers (head=frames objective.features=layers)",
    "answers": "the span of an answer (head=answers)",
    "symbols_last": "symbols by CTC from the last layer (head=transcripts objective.features=last objective.recurrent=0)",
}


@dataclass(frozen=True)
class TaskHead:
    """A class of transformers with a task's head. weights: the table, from the names above to theirs,
    with their prefix.
    pools: whether its encoder has a pooler. settings: of config.json. sizes: settings that are the number of outputs of
    a tensor."""

    form: Form
    model: str
    weights: list[Weight]
    pools: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlainHead:
    """A trained head in a form. form: None if it is in none, as `what` says. labels: names of the classes, None for
    values. problem: problem_type in
    config.json, None for tokens."""

    what: str
    form: Form | None
    tensors: dict[str, Tensor]
    labels: list[str] | None = None
    problem: str | None = None

    def save(self, folder: Path) -> None:
        about = {"what": self.what, "form": self.form, "labels": self.labels, "problem": self.problem}
        write_json(folder / ABOUT, about)
        weights.save(folder / WEIGHTS, self.tensors)

    @staticmethod
    def load(folder: Path) -> "PlainHead | None":
        """Of a folder that `save` wrote; None if there is none."""
        if not (folder / ABOUT).exists():
            return None
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return PlainHead(tensors=weights.load(folder / WEIGHTS, MEND.format(folder)), **about)

    def settings(self, head: TaskHead) -> dict[str, Any]:
        """Those of config.json, by name."""
        labels = self.labels or [f"LABEL_{i}" for i in range(len(self.tensors["out.weight"]))]
        found = {**head.settings, **{name: len(self.tensors[of]) for name, of in head.sizes.items()}}
        if self.form != "answers":
            found |= {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        if self.problem is not None:
            found["problem_type"] = self.problem
        if self.form == "symbols_last":
            found |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}  # 0: CTC's blank
        return found


def joined(first: Mapping[str, Tensor], then: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of the one linear layer that two do: W2 (W1 x + b1) + b2, computed in float64."""
    w1, b1, w2, b2 = (x.double() for one in (first, then) for x in (one["weight"], one["bias"]))
    dtype = then["weight"].dtype
    return {"weight": (w2 @ w1).to(dtype), "bias": (w2 @ b1 + b2).to(dtype)}


def identity(dim: int) -> dict[str, Tensor]:
    """Weight and bias of a linear layer that changes nothing."""
    return {"weight": torch.eye(dim), "bias": torch.zeros(dim)}


def text_heads(name: str, item: list[TaskHead] | None = None) -> tuple[TaskHead, ...]:
    """Of a family of texts. name: how its classes begin. item: those about whole texts."""
    classifier, spans = layer("out", "classifier"), layer("out", "qa_outputs")
    found = [TaskHead("tokens_last", f"{name}ForTokenClassification", classifier)]
    return (*(item or []), *found, TaskHead("answers", f"{name}ForQuestionAnswering", spans))


def pooled_head(name: str, dense: str, out: str, pools: bool) -> list[TaskHead]:
    """The class about whole texts of a family whose pooler is BERT's."""
    table = [*layer("dense", dense), *layer("out", out)]
    return [TaskHead("item_pooler", f"{name}ForSequenceClassification", table, pools)]


def speech_heads(name: str) -> tuple[TaskHead, ...]:
    """Of a family of speech."""
    sizes, classifier = {"classifier_proj_size": "project.weight"}, layer("out", "classifier")
    items = [*layer("project", "projector"), *classifier]
    summed, plain = {"use_weighted_layer_sum": True}, {"use_weighted_layer_sum": False}
    layers = [Weight(("layer_weights",), "layer_weights")]
    sequence, frames = f"{name}ForSequenceClassification", f"{name}ForAudioFrameClassification"
    return (
        TaskHead("item_layers", sequence, [*layers, *items], settings=summed, sizes=sizes),
        TaskHead("item_mean", sequence, items, settings=plain, sizes=sizes),
        TaskHead("symbols_last", f"{name}ForCTC", layer("out", "lm_head"), sizes={"vocab_size": "out.weight"}),
        TaskHead("tokens_layers", frames, [*layers, *classifier], settings=summed),
        TaskHead("tokens_last", frames, classifier, settings=plain),
    )
