"""Limits loader workers to the space in /dev/shm, through which they pass batches: if it is full, a worker crashes or
hangs."""

import shutil
import sys
from functools import cache
from pathlib import Path

from sslzoo import distributed

PLACE = Path("/dev/shm")
PREFETCH = 2  # batches that a worker loads ahead; torch's default


def free() -> int | None:
    """Free bytes in /dev/shm; None if it does not exist."""
    return shutil.disk_usage(PLACE).free if PLACE.is_dir() else None


def fitting_workers(workers: int, batch_bytes: int) -> int:
    """At most `workers` workers, as many as /dev/shm has room for; prints a note once if it is fewer."""
    room = free()
    if not workers or not batch_bytes or room is None:
        return workers
    fit = max(0, (room // batch_bytes - 1) // PREFETCH)  # one more batch is in use by the training step
    if fit >= workers:
        return workers
    if distributed.rank() == 0:
        needed = batch_bytes * (PREFETCH * workers + 1)
        _say_once(
            f"sslzoo: {PLACE} has {_words(room)} free, and {workers} loader workers with batches of {_words(batch_bytes)} "
            f"need {_words(needed)}: {fit or 'no'} workers are used (trainer.workers; or give it more, in Docker "
            "by --shm-size)"
        )
    return fit


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _words(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
