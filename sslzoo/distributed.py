"""Differentiable sums and gathers over ranks; with one rank each is the identity.

The trainer averages gradients over ranks. A rank's loss is weighted so that the average is the gradient
of the global loss; hence the backward of a gather sums the gradients of all ranks for each rank's rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

_alone = False  # inside `alone()`


@contextmanager
def alone() -> Iterator[None]:
    """A context in which world_size() is 1: nothing is summed or gathered, so ranks may do different work."""
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
    """The number of rows of each rank, by an all-reduce; blocks the host."""
    if world_size() == 1:
        return [count]
    counts = torch.zeros(world_size(), dtype=torch.int64, device=device)
    counts[rank()] = count
    dist.all_reduce(counts)
    return counts.tolist()


def all_gather(x: Tensor, rows: list[int] | None = None) -> tuple[Tensor, int]:
    """(all ranks' rows [sum of n, ...] in order of rank, with gradient; the index of this rank's first row).

    rows: the number of rows of each rank, as in `Batch.rows`; None to communicate them, which blocks the host.
    """
    if world_size() == 1:
        return x, 0
    counts = row_counts(len(x), x.device) if rows is None else rows
    return _Gather.apply(x, counts), sum(counts[: rank()])


def gather_objects(x: Any) -> list:
    """Every rank's `x`, a picklable object, in order of rank. Blocks the host."""
    if world_size() == 1:
        return [x]
    found = [None] * world_size()
    dist.all_gather_object(found, x)
    return found


def whole(x: Any) -> Any:
    """A tensor that is sharded over the ranks (`trainer=fsdp`) as a whole one, by a gather that every rank must call;
    anything else as it is."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def shard_like(x: Any, parameter: Tensor) -> Any:
    """A whole tensor, equal on all ranks, sharded as a parameter of its shape is; anything else as it is."""
    if isinstance(x, DTensor) or not isinstance(x, Tensor) or not isinstance(parameter, DTensor):
        return x
    if x.shape != parameter.shape:
        return x
    return distribute_tensor(x.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None)


def all_reduce_mean(sums: Tensor, count: Tensor | float) -> Tensor:
    """The global mean, with gradient, from this rank's sums and their number of items."""
    return all_reduce_sum(sums) / all_reduce_sum(torch.as_tensor(count, dtype=sums.dtype, device=sums.device)).clamp(
        min=1
    )
