"""Weights under the names of another library: one table a family, read in both directions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sslzoo.data.base import SPECIALS
from sslzoo.errors import UserError

SOME = 5  # names in a message


@dataclass(frozen=True)
class Weight:
    """A tensor of theirs, and what it is here. `{i}` in the names stands for the number of a layer.

    ours: the name here, or the names of several tensors that are one there, joined along the outputs (GPT-2's c_attn).
    transposed: their matrices are [inputs, outputs] (GPT-2's Conv1D). rows: what a row is of, where rows are placed
    otherwise here: see `Rows`.
    """

    ours: tuple[str, ...]
    theirs: str
    transposed: bool = False
    rows: Literal["", "vocabulary", "positions"] = ""

    def numbered(self, i: int) -> "Weight":
        return Weight(
            tuple(name.replace("{i}", str(i)) for name in self.ours),
            self.theirs.replace("{i}", str(i)),
            self.transposed,
            self.rows,
        )


def layer(ours: str | tuple[str, ...], theirs: str, transposed: bool = False) -> list[Weight]:
    """The weight and the bias of a linear layer or a norm."""
    names = (ours,) if isinstance(ours, str) else ours
    return [Weight(tuple(f"{n}.{part}" for n in names), f"{theirs}.{part}", transposed) for part in ("weight", "bias")]


def numbered(table: Iterable[Weight], depth: int) -> list[Weight]:
    """A table with an entry for each layer of `depth`."""
    return [w.numbered(i) for w in table for i in range(depth if "{i}" in w.theirs else 1)]


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


def to_ours(table: Iterable[Weight], theirs: Mapping[str, Tensor], rows: Rows) -> dict[str, Tensor]:
    """Tensors by our names. Raises KeyError for one that is not there."""
    found: dict[str, Tensor] = {}
    for weight in table:
        x = rows.to_ours(theirs[weight.theirs], weight.rows)
        x = x.t() if weight.transposed and x.ndim == 2 else x
        found |= dict(zip(weight.ours, x.chunk(len(weight.ours)), strict=True))
    return {name: x.float().contiguous() for name, x in found.items()}


def to_theirs(table: Iterable[Weight], ours: Mapping[str, Tensor], rows: Rows) -> dict[str, Tensor]:
    """Tensors by their names. Raises KeyError for one that is not there."""
    found = {}
    for weight in table:
        x = torch.cat([ours[name] for name in weight.ours])
        x = x.t() if weight.transposed and x.ndim == 2 else x
        found[weight.theirs] = rows.to_theirs(x, weight.rows).contiguous()
    return found


def check_complete(where: str, names: Iterable[str], wanted: Iterable[str], known: Iterable[str]) -> list[str]:
    """The names that are `known` and not asked for. Raises UserError, naming them, where a wanted one is missing or one
    is left over that is neither. known: patterns."""
    names, wanted = list(names), list(wanted)
    missing = [name for name in wanted if name not in set(names)]
    left = [name for name in names if name not in set(wanted)]
    ignored = [name for name in left if any(re.fullmatch(pattern, name) for pattern in known)]
    over = [name for name in left if name not in ignored]
    for what, some in (("lacks", missing), ("has weights that this architecture has not:", over)):
        if some:
            more = f" and {len(some) - SOME} more" if len(some) > SOME else ""
            raise UserError(
                f"{where} {what} {', '.join(some[:SOME])}{more} — does config.json belong to these weights? Save both "
                "together with transformers' save_pretrained"
            )
    return ignored
