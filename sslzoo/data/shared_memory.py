"""Room for the batches that loader workers hand over: they lie in /dev/shm, and where it is full a worker dies or waits
for ever, so what fits is reckoned beforehand."""

import shutil
import sys
from functools import cache
from pathlib import Path

from sslzoo import distributed

PLACE = Path("/dev/shm")
PREFETCH = 2  # batches a worker is ahead, as torch's loader has it


def free() -> int | None:
    """Bytes that are free where workers hand over; None where that is no folder of limited size."""
    return shutil.disk_usage(PLACE).free if PLACE.is_dir() else None


def fitting_workers(workers: int, batch_bytes: int) -> int:
    """`workers`, or as many of them as have room for batches of so many bytes, which is then said once."""
    room = free()
    if not workers or not batch_bytes or room is None:
        return workers
    fit = max(0, (room // batch_bytes - 1) // PREFETCH)  # one batch more is being learned from
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
