"""The description of an architecture of transformers: its settings and weights beside ours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from sslzoo.interop.configs import Setting
from sslzoo.interop.names import Weight, layer
from sslzoo.interop.task_heads import TaskHead

BLOCK = "trunk.blocks.{i}"
TASK_HEADS = (r"(pre_)?classifier\..*", r"qa_outputs\..*", r"score\..*")


@dataclass(frozen=True)
class Head:
    """A pretraining head of transformers as the state of an objective (an option of conf/objective).

    model: transformers' class with this head. weights, inside: the table; `inside` are weights that transformers keeps
    in the encoder (a mask token). activation: the encoder's activation, by our name, that the head must share; None if
    it has its own. settings: of the objective. reads: whether an import can make the objective from it, as it has all
    of the objective's weights.
    """

    objective: str
    model: str
    weights: list[Weight] = field(default_factory=list)
    inside: list[Weight] = field(default_factory=list)
    activation: str | None = None
    settings: tuple[Setting, ...] = ()
    reads: bool = True

    @property
    def table(self) -> list[Weight]:
        return [*self.weights, *self.inside]


@dataclass(frozen=True)
class Family:
    """name: `model_type` in config.json. model: transformers' class without a head. prefix: of the encoder's weight
    names in models with a head.

    constants: settings of our node that are the same for all, by dotted key. settings: the others. fixed: settings of
    config.json that must have these values.

    weights: the table of the encoder; of several entries for one of our names, the first that the encoder has is used.
    heads: of pretraining; an import takes the first that the weights contain. tasks: heads of downstream tasks, by
    form. tied: {weight that is stored twice: the weight that it equals}. ignored: patterns of weights without a use
    here, such as buffers and task heads. made: patterns of our tensors that are computed from settings. renamed:
    {pattern of an older name: the present one}.

    alike: dotted keys of constants in which an exported encoder may differ, as its weights are the same.
    preprocessor: settings to write to preprocessor_config.json. exports: whether the encoder can be exported; False if
    transformers' has parts that an import drops. at: prefix of the encoder's names in `model`,
    which has `lacks` beside it.
    """

    name: str
    model: str
    modality: Literal["text", "speech", "image"]
    prefix: str
    weights: list[Weight]
    constants: Mapping[str, Any]
    settings: tuple[Setting, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    offset: bool = False
    heads: tuple[Head, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    exports: bool = True
    alike: tuple[str, ...] = ()
    tasks: tuple[TaskHead, ...] = ()
    at: str = ""
    lacks: str = ""

    @property
    def causal(self) -> bool:
        return bool(self.constants.get("trunk.causal"))

    @property
    def pools(self) -> bool:
        """Whether the architecture may have BERT's pooler."""
        return any(w.ours[0].startswith("pooler.") for w in self.weights)


def blocks(theirs: str, names: Mapping[str, str], ours: str = BLOCK) -> list[Weight]:
    """names: their parts of a layer by ours."""
    return [w for part, name in names.items() for w in layer(f"{ours}.{part}", f"{theirs}.{name}")]


def names_of_now(tensors: dict[str, Tensor], family: Family) -> dict[str, Tensor]:
    """Without the prefix that a model with a head puts before its encoder's names, and as they are called now."""
    found = {}
    for name, x in tensors.items():
        for old, new in family.renamed.items():
            name = re.sub(old, new, name)
        found[name.removeprefix(family.prefix)] = x
    return found
