"""Sums and gathers over ranks that gradients flow through; with one rank each is the identity.

The trainer averages gradients over ranks. A rank's loss is weighed so that the average is the gradient
of the global loss; hence the backward of a gather is the sum of what every rank asks of its rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_alone = False  # whether this rank works by itself just now


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this rank is the only one: nothing is summed or gathered, so ranks may do different work."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def world_size() -> int:
    if _alone:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        largest = max(counts)
        mine = x.new_zeros(largest, *x.shape[1:])
        mine[: len(x)] = x
        parts = [torch.empty_like(mine) for _ in counts]
        dist.all_gather(parts, mine)
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        start = sum(ctx.counts[: dist.get_rank()])
        return grad[start : start + ctx.counts[dist.get_rank()]], None


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of `x` over ranks, with gradient."""
    return _Sum.apply(x) if world_size() > 1 else x


def broadcast(x: Tensor) -> Tensor:
    """The first rank's `x`, on every rank."""
    return all_reduce_sum(x * (rank() == 0))


def row_counts(count: int, device: torch.device | str) -> list[int]:
    """How many rows each rank has, asked of them: the host waits for the answer."""
    if world_size() == 1:
        return [count]
    counts = torch.zeros(world_size(), dtype=torch.int64, device=device)
    counts[rank()] = count
    dist.all_reduce(counts)
    return counts.tolist()


def all_gather(x: Tensor, rows: list[int] | None = None) -> tuple[Tensor, int]:
    """Every rank's rows [sum of n, ...] in order of rank, with gradient, and where this rank's begin.

    rows: how many each rank has, as `Batch.rows` says; None to ask for them, for which the host waits.
    """
    if world_size() == 1:
        return x, 0
    counts = row_counts(len(x), x.device) if rows is None else rows
    return _Gather.apply(x, counts), sum(counts[: rank()])


def gather_objects(x: Any) -> list:
    """What every rank has, in order of rank: any object that can be pickled. The host waits for it."""
    if world_size() == 1:
        return [x]
    found = [None] * world_size()
    dist.all_gather_object(found, x)
    return found


def all_reduce_mean(sums: Tensor, count: Tensor | float) -> Tensor:
    """The global mean, with gradient, from this rank's sums and how many items they are over."""
    return all_reduce_sum(sums) / all_reduce_sum(torch.as_tensor(count, dtype=sums.dtype, device=sums.device)).clamp(
        min=1
    )
