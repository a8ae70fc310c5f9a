"""What tells the architectures of transformers apart: of each, its settings and its weights beside ours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from sslzoo.interop.configs import Setting
from sslzoo.interop.names import Weight, layer

BLOCK = "trunk.blocks.{i}"
TASK_HEADS = (r"(pre_)?classifier\..*", r"qa_outputs\..*", r"score\..*")


@dataclass(frozen=True)
class Head:
    """Weights that are the state of an objective, by the option of conf/objective.

    model: the class of theirs that has it. inside: weights that lie within the encoder there (a mask token).
    activation: ours, that the encoder must have for the head to have it, too; None where it has its own. settings: of
    the objective, dotted keys beside theirs. reads: whether it is all that the objective has, so that an import makes
    one of it.
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
    """name: theirs (`model_type`). model: their class without a head. prefix: of the encoder's names in models with one.

    constants: settings of our node that are the same for all, by dotted key. settings: the others. fixed: settings of
    theirs that must be as they are here.

    weights: of the encoder. Where several have the same names of ours, the first of which the encoder has all counts;
    those of which it has none do not. heads: what heads for pretraining are here, of which the first is taken that is
    there. tied: weights that are stored twice, by which. ignored: patterns of weights that may be there and have no
    place here: buffers, and heads of tasks. made: patterns of ours that are made from settings. renamed: patterns of
    older names, by those of now.

    alike: dotted keys of constants that an export need not find as they are, for the weights are the same.
    preprocessor: settings that are written to preprocessor_config.json as they are. exports: whether an encoder goes
    out again; not where theirs has parts that are not kept here.
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

    @property
    def causal(self) -> bool:
        return bool(self.constants.get("trunk.causal"))

    @property
    def pools(self) -> bool:
        """Whether it may have BERT's pooler."""
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
