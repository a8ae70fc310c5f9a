"""What takes long to make is made once and kept, in $SSLZOO_CACHE or ~/.cache/sslzoo."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sslzoo.errors import UserError
from sslzoo.run import write_whole

_PATIENCE = 1.0  # seconds before a bar is shown


def folder() -> Path:
    """The cache's folder, made where it is not."""
    path = Path(os.environ.get("SSLZOO_CACHE") or "~/.cache/sslzoo").expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the cache {path}: {error} — set SSLZOO_CACHE to a folder of yours") from error
    return path


def made(name: str, make: Callable[[Path], None]) -> Path:
    """The cached file `name`, which `make` fills if it is not there yet.

    It is whole or not there; of two processes at the same time one makes it and the other waits.
    """
    path = folder() / name
    if not path.exists():
        with locked(name):
            if not path.exists():
                write_whole(path, make)
    return path


def locked(name: str) -> FileLock:
    """A lock, for `with`, that one process at a time holds for the cached file `name`."""
    path = folder() / f".{name}.lock"
    try:
        path.touch()
    except OSError as error:
        raise UserError(f"cannot write to the cache: {error} — set SSLZOO_CACHE to a folder of yours") from error
    return FileLock(path)


def progress(items: Iterable, what: str, total: int) -> Iterator:
    """Go through `items`; if it takes longer than a second, with a bar on a terminal, a line elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    begun, shown, task = time.monotonic(), False, bar.add_task(what, total=total)
    try:
        for done, item in enumerate(items):
            if not shown and time.monotonic() - begun > _PATIENCE:
                shown = True
                if console.is_terminal:
                    bar.start()
                else:
                    print(f"{what}: {total} …", file=sys.stderr)
            if shown:
                bar.update(task, completed=done)
            yield item
    finally:
        if bar.live.is_started:
            bar.stop()
