"""Mapping of weight names and layouts to another library's: one table per family, used for import and export."""

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sslzoo.data.base import SPECIALS
from sslzoo.errors import UserError

SOME = 5  # names in a message


@dataclass(frozen=True)
class Weight:
    """One entry of a table. `{i}`, or another letter, in the names stands for the number of a layer.

    ours: this project's name, or the names of several tensors that the other library joins along the outputs (GPT-2's
    c_attn). theirs: the other library's name. form: its layout, if different: see `FORMS`. rows: for embeddings, what
    the rows stand for, if their order differs: see `Rows`. beside: another name of ours; the entry applies only to
    encoders that have it.
    """

    ours: tuple[str, ...]
    theirs: str
    form: Literal["", "transposed", "batch", "batch2", "codes", "patches"] = ""
    rows: Literal["", "vocabulary", "positions"] = ""
    beside: str = ""

    def instances(self, names: Collection[str]) -> Iterator["Weight"]:
        """The entry for each layer number that occurs in `names`, the tensors of our module."""
        pattern = re.sub(r"\\{(\w)\\}", r"(?P<\1>\\d+)", re.escape(self.ours[0]))
        for name in names:
            if found := re.fullmatch(pattern, name):
                marks = found.groupdict()
                one = replace(
                    self,
                    ours=tuple(x.format(**marks) for x in self.ours),
                    theirs=self.theirs.format(**marks),
                    beside=self.beside.format(**marks),
                )
                if all(x in names for x in (*one.ours, one.beside or name)):
                    yield one


# of each form, a tensor of ours as theirs; from theirs to ours is a change of axes, if any, and `reshape`
FORMS: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "": lambda x, channels: x,
    "transposed": lambda x, channels: x.t() if x.ndim == 2 else x,  # [inputs, outputs], GPT-2's Conv1D
    "batch": lambda x, channels: x[None],  # an axis of 1 before the others
    "batch2": lambda x, channels: x[None, None],
    "codes": lambda x, channels: x.flatten(0, 1)[None],  # [G, V, D] as [1, G V, D]
    # a linear layer over rows, columns and channels of a patch as a convolution [D, C, P, P]
    "patches": lambda x, channels: _as_convolution(x, channels),
}


def _as_convolution(x: Tensor, channels: int) -> Tensor:
    patch = math.isqrt(x.shape[1] // channels)
    return x.unflatten(1, (patch, patch, channels)).permute(0, 3, 1, 2)


def layer(ours: str | tuple[str, ...], theirs: str, form: Any = "") -> list[Weight]:
    """The entries for weight and bias of a linear layer or a norm."""
    names = (ours,) if isinstance(ours, str) else ours
    return [Weight(tuple(f"{n}.{part}" for n in names), f"{theirs}.{part}", form) for part in ("weight", "bias")]


def expanded(table: Iterable[Weight], names: Collection[str]) -> list[Weight]:
    """The entries of a table that apply to a module with these tensor names, one per layer. Of several entries for one
    of our names, the first is used."""
    found: list[Weight] = []
    taken: set[str] = set()
    for weight in table:
        for one in weight.instances(names):
            if taken.isdisjoint(one.ours):
                found.append(one)
                taken |= set(one.ours)
    return found


@dataclass(frozen=True)
class Rows:
    """The permutation of embedding rows between the other library and this project.

    specials: the other library's ids of [PAD] [UNK] [CLS] [SEP] [MASK], which have ids 0 to 4 here; None for a missing
    one. All other ids follow in the same order. size: number of ids in the other library. offset: leading rows of the
    position embedding that no token uses (RoBERTa counts from pad_token_id + 1).

    Import and export are inverse, bit for bit. A missing special token gets the mean of all rows, which a tied head
    predicts about as often as the average token (Hewitt 2021); export drops it.
    """

    specials: tuple[int | None, ...]
    size: int
    offset: int = 0

    @property
    def others(self) -> list[int]:
        """The other library's ids without special tokens, in the order of our ids from 5 on."""
        taken = set(self.specials)
        return [i for i in range(self.size) if i not in taken]

    def here(self) -> list[int | None]:
        """The other library's id for each of ours; None for a special token that it lacks."""
        return [*self.specials, *self.others]

    def ids(self) -> dict[int, int]:
        """{the other library's id: ours}."""
        return {theirs: ours for ours, theirs in enumerate(self.here()) if theirs is not None}

    def to_ours(self, x: Tensor, kind: str) -> Tensor:
        if kind == "positions":
            return x[self.offset :]
        if kind != "vocabulary":
            return x
        mean = x.float().mean(0).to(x.dtype)
        first = torch.stack([mean if i is None else x[i] for i in self.specials])
        return torch.cat([first, x[self.others]])

    def to_theirs(self, x: Tensor, kind: str) -> Tensor:
        if kind == "positions":
            return torch.cat([x.new_zeros(self.offset, *x.shape[1:]), x])
        if kind != "vocabulary":
            return x
        out = x.new_empty(self.size, *x.shape[1:])
        for place, i in enumerate(self.specials):
            if i is not None:
                out[i] = x[place]
        out[self.others] = x[SPECIALS:]
        return out


def to_ours(
    table: Iterable[Weight], theirs: Mapping[str, Tensor], rows: Rows, like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors by our names. like: the tensors to replace, for their shapes and dtypes. Raises KeyError for a missing
    one."""
    found: dict[str, Tensor] = {}
    for weight in table:
        x = rows.to_ours(theirs[weight.theirs], weight.rows)
        if weight.form == "patches":
            x = x.permute(0, 2, 3, 1)
        elif weight.form == "transposed":
            x = FORMS["transposed"](x, 0)
        parts = (x,) if len(weight.ours) == 1 else x.chunk(len(weight.ours))
        for name, part in zip(weight.ours, parts, strict=True):
            if weight.form not in ("", "transposed") and part.numel() == like[name].numel():  # else refused later
                part = part.reshape(like[name].shape)
            found[name] = part.to(like[name].dtype).contiguous()
    return found


def to_theirs(table: Iterable[Weight], ours: Mapping[str, Tensor], rows: Rows, channels: int = 0) -> dict[str, Tensor]:
    """Tensors by the other library's names. channels: of an image patch. Raises KeyError for a missing one."""
    found = {}
    for weight in table:
        x = ours[weight.ours[0]]
        if len(weight.ours) > 1:
            x = torch.cat([ours[name] for name in weight.ours])
        found[weight.theirs] = rows.to_theirs(FORMS[weight.form](x, channels), weight.rows).contiguous()
    return found


def check_complete(
    where: str, names: Iterable[str], wanted: Iterable[str], known: Iterable[str], mend: str
) -> list[str]:
    """The names that are not wanted but match `known`, a list of patterns. Raises UserError if a wanted name is missing
    or if a name is neither wanted nor known. mend: advice for the message."""
    names, wanted = list(names), list(wanted)
    missing = [name for name in wanted if name not in set(names)]
    left = [name for name in names if name not in set(wanted)]
    ignored = [name for name in left if matches(name, known)]
    over = [name for name in left if name not in ignored]
    for what, some in (("lacks", missing), ("has weights that this architecture has not:", over)):
        if some:
            raise UserError(f"{where} {what} {listed(some)} — {mend}")
    return ignored


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def listed(some: list[str]) -> str:
    """The first few names, and the number of the others."""
    return ", ".join(some[:SOME]) + (f" and {len(some) - SOME} more" if len(some) > SOME else "")
