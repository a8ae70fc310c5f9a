"""Some of many items, by a fixed hash: how `task.max_items` and `task.max_frames` choose."""

import logging
from functools import cache

import numpy as np

from sslzoo import rng

_log = logging.getLogger("sslzoo")


def subset(count: int, most: int | None, *words: str, kinds: np.ndarray | None = None) -> np.ndarray:
    """`most` of range(count), or all if fewer, sorted; deterministic. words: what is counted, the task and the part,
    which choose among them. kinds [count]: keep one of each kind, if `most` allows."""
    if most is None or count <= most:
        return np.arange(count)
    order = rng.permutation(0, *words, n=count)
    if kinds is not None and len(np.setdiff1d(kinds, kinds[order[:most]])):
        firsts = np.sort(np.unique(kinds[order], return_index=True)[1])
        order = np.concatenate([order[firsts], np.delete(order, firsts)])
    return np.sort(order[:most])


@cache  # said once
def tell(task: str, part: str, count: int, most: int) -> None:
    """Say that a part of a task has more items than are used."""
    _log.warning(
        "task %s: %s of %s items of %s are used: task.max_items=null for all", task, f"{most:,}", f"{count:,}", part
    )
