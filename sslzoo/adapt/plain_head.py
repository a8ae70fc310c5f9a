"""A task's trained head in the form that other libraries have it in."""

from torch import Tensor, nn

from sslzoo.interop.task_heads import Form, PlainHead, identity, joined
from sslzoo.tasks.answering import Answering
from sslzoo.tasks.base import TaskObjective
from sslzoo.tasks.classification import Classification
from sslzoo.tasks.ctc import CTC
from sslzoo.tasks.items import ItemTask
from sslzoo.tasks.regression import Regression
from sslzoo.tasks.tagging import Tagging


def plain_head(encoder: nn.Module, objective: TaskObjective, classes: list[str] | None) -> PlainHead:
    """The head of an adapted encoder, which has been merged, for `sslzoo export`."""
    what = type(objective).__name__
    if isinstance(objective, Classification | Regression):
        problem = "regression" if isinstance(objective, Regression) else "single_label_classification"
        form, tensors, how = item_head(encoder, objective)
        return PlainHead(f"{what} of {how}", form, tensors, classes, problem)
    if isinstance(objective, Tagging):
        tokens: Form = "tokens_last" if objective.layers is None else "tokens_layers"
        how = "the last layer" if objective.layers is None else "a weighted sum of layers"
        return PlainHead(f"{what} of {how}", tokens, {**layers_of(objective), **state("out", objective.head)}, classes)
    if isinstance(objective, Answering):
        return PlainHead(what, "answers", state("out", objective.head))
    if isinstance(objective, CTC):
        mixed, deep = objective.layers is not None, objective.network is not None
        how = "a weighted sum of layers" if mixed else "the last layer"
        out = named("out", joined(objective.project.state_dict(), objective.head.state_dict())) if not deep else {}
        form = None if mixed or deep else "symbols_last"
        return PlainHead(f"{what} of {how}{' through LSTM layers' if deep else ''}", form, out, classes)
    return PlainHead(what, None, {})


def item_head(encoder: nn.Module, objective: ItemTask) -> tuple[Form | None, dict[str, Tensor], str]:
    """(the form of a head about whole items, its tensors, what it reads in words)."""
    source = "layers" if objective.layers is not None else str(getattr(encoder, "pool", None))
    project, head = objective.project, objective.head.state_dict()
    if objective.pooler is not None and source != "first":
        return None, {}, f"{source} through a pooler"
    if source in ("mean", "layers"):
        kept = identity(objective.head.in_features) if project is None else project.state_dict()
        form: Form = "item_mean" if source == "mean" else "item_layers"
        how = "the mean over tokens" if source == "mean" else "a weighted sum of layers"
        return form, {**layers_of(objective), **named("project", kept), **named("out", head)}, how
    out = named("out", head if project is None else joined(project.state_dict(), head))
    dense = objective.pooler if source == "first" else getattr(encoder, "pooler", None)
    if source not in ("first", "pooler") or (source == "pooler" and dense is None):
        return None, {}, "a pooled vector of its own kind"
    if dense is None:
        return "item_first", out, "the first token"
    return "item_pooler", {**state("dense", dense), **out}, "a pooler's output"


def layers_of(objective: ItemTask | Tagging) -> dict[str, Tensor]:
    return {} if objective.layers is None else {"layer_weights": objective.layers.logits.detach()}


def state(name: str, module: nn.Module) -> dict[str, Tensor]:
    return named(name, module.state_dict())


def named(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{part}": x for part, x in tensors.items()}
