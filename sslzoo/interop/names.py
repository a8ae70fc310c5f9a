"""Weights under the names of another library: one table a family, read in both directions."""

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
    """A tensor of theirs, and what it is here. `{i}`, or another letter, in the names stands for the number of a layer.

    ours: the name here, or the names of several tensors that are one there, joined along the outputs (GPT-2's c_attn).
    form: how theirs is laid out, where otherwise: see `FORMS`. rows: what a row is of, where rows are placed otherwise
    here: see `Rows`. beside: a name of ours without which the encoder has not this one, but another of the same name.
    """

    ours: tuple[str, ...]
    theirs: str
    form: Literal["", "transposed", "batch", "batch2", "codes", "patches"] = ""
    rows: Literal["", "vocabulary", "positions"] = ""
    beside: str = ""

    def instances(self, names: Collection[str]) -> Iterator["Weight"]:
        """This weight for each number that its marks have among `names` of ours."""
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
    """The weight and the bias of a linear layer or a norm."""
    names = (ours,) if isinstance(ours, str) else ours
    return [Weight(tuple(f"{n}.{part}" for n in names), f"{theirs}.{part}", form) for part in ("weight", "bias")]


def expanded(table: Iterable[Weight], names: Collection[str]) -> list[Weight]:
    """The weights of a table that a module with these names has, an entry for each layer. Of several with the same names
    of ours the first counts."""
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
    """How rows of embeddings are placed here and there.

    specials: their ids of [PAD] [UNK] [CLS] [SEP] [MASK], which are 0 to 4 here; None for one that they have not. All
    other ids follow in their order. size: ids there. offset: rows of their positions that no token has (RoBERTa
    counts from pad_token_id + 1).

    Nothing is lost in the exchange: the rows that stand for a token are its own, to the bit. A special that they have
    not gets the mean of all rows, so that a tied head finds it about as likely as any (Hewitt 2021), and goes out again.
    """

    specials: tuple[int | None, ...]
    size: int
    offset: int = 0

    @property
    def others(self) -> list[int]:
        """Their ids from 5 on here."""
        taken = set(self.specials)
        return [i for i in range(self.size) if i not in taken]

    def here(self) -> list[int | None]:
        """Of each id here, theirs."""
        return [*self.specials, *self.others]

    def ids(self) -> dict[int, int]:
        """Of each id there, ours."""
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
    """Tensors by our names. like: those that they take the place of, for their shapes. Raises KeyError for one that is
    not there."""
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
    """Tensors by their names. channels: of a patch. Raises KeyError for one that is not there."""
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
    """The names that are `known` and not asked for. Raises UserError, naming them, where a wanted one is missing or one
    is left over that is neither. known: patterns. mend: advice."""
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
    """The first few names, and how many more there are."""
    return ", ".join(some[:SOME]) + (f" and {len(some) - SOME} more" if len(some) > SOME else "")
