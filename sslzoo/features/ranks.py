"""Work shared by the ranks of a launch by torchrun: `torchrun --nproc-per-node 4 -m sslzoo extract …`."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from sslzoo import distributed
from sslzoo.errors import UserError

PATIENCE = timedelta(hours=12)  # one rank may work, at clusters, while the others wait; torchrun ends all if one fails


def number() -> int:
    """This process's rank, before and within `joined`."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def size() -> int:
    """The number of ranks that torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextmanager
def joined() -> Iterator[tuple[int, int]]:
    """A context in which this process is one of a group: (rank, ranks). Each rank has the GPU of its place on its
    machine, if there is one."""
    if size() == 1 or dist.is_initialized():
        yield (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield number(), size()
    finally:
        dist.destroy_process_group()


def by_first(work: Callable[[], Any]) -> Any:
    """What `work()` returns on the first rank, on every rank; a UserError is raised on every rank."""
    found, wrong = None, None
    if distributed.rank() == 0:
        try:
            found = work()
        except UserError as error:
            wrong = error
    found, wrong = distributed.gather_objects((found, wrong))[0]
    if wrong is not None:
        raise wrong
    return found
