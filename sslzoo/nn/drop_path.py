"""Stochastic depth: in training, residual branches are dropped at random, each item's by itself (1603.09382)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from sslzoo import rng


@dataclass(frozen=True)
class _Rows:
    seeds: Tensor  # int64 [B] on the host
    copies: int
    calls: "count[int]"  # counts what was drawn since the step began


_ROWS: ContextVar[_Rows | None] = ContextVar("rows", default=None)


@contextmanager
def rows_of(seeds: Tensor | None = None, copies: int = 1) -> Iterator[None]:
    """Within, an encoder's rows are items with these seeds, int64 [B] on the host (None: those of the context around),
    for each item `copies` adjacent rows; of several views of a batch, all rows of one come before those of the next.

    The trainer opens it for each batch. An objective does so where it encodes other rows: those of some items only, or
    several parts of an item next to each other."""
    around = _ROWS.get()
    if seeds is None:
        if around is None:
            yield
            return
        seeds, copies = around.seeds, copies * around.copies
    token = _ROWS.set(_Rows(seeds, copies, around.calls if around else count()))
    try:
        yield
    finally:
        _ROWS.reset(token)


def draw_row_seeds(rows: int) -> Tensor:
    """A seed for each row of an encoder's input, int64 [rows] on the host, other ones at each call. Within `rows_of` it
    is a function of the item's seed, the number of the call, the view and the copy. Elsewhere, or where the rows are no
    multiple of the items, it is drawn from torch's generator, as dropout is."""
    known = _ROWS.get()
    items = len(known.seeds) * known.copies if known else 0
    if known is None or items == 0 or rows % items:
        return torch.randint(2**62, (rows,))
    call, views = next(known.calls), rows // items
    place = torch.arange(views * known.copies).view(views, 1, known.copies).expand(views, len(known.seeds), -1)
    seeds = rng.fold_in(known.seeds[None, :, None].expand_as(place), place)
    return rng.fold_in(seeds, torch.full_like(place, call)).flatten()


def linear_rates(last: float, depth: int, device: torch.device | None = None) -> Tensor:
    """The probability of dropping a branch of each of `depth` blocks, float32: from 0 at the first block to `last` at
    the last in a straight line, as in the code of DeiT, DINO and BEiT (the paper's eq. 4 begins with last / depth)."""
    return torch.arange(depth, device=device) * (last / max(1, depth - 1))


def branch_scales(x: Tensor, last: float, depth: int, branches: int = 1, items: Tensor | None = None) -> Tensor:
    """What to multiply the residual branches of blocks with: 0 with the probability p of `linear_rates`, else
    1 / (1 - p), so that the expectation stays as it is; float32 [B, depth, branches, 1].

    x: the input [B, ...]. items: int64 [B, T], which of a packed row's items a token is of; each item's branches are
    then dropped by themselves, [B, depth, branches, T]."""
    rates, seeds = linear_rates(last, depth, x.device), draw_row_seeds(len(x)).to(x.device, non_blocking=True)[:, None]
    if items is not None:
        seeds = rng.fold_in(seeds, items.to(x.device, non_blocking=True))
    drawn = rng.uniform(seeds.flatten(), "drop path", depth, branches)
    scales = torch.where(drawn >= rates[:, None], 1 / (1 - rates[:, None]), 0.0)
    return scales.unflatten(0, seeds.shape).permute(0, 2, 3, 1)
