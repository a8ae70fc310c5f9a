"""The cache: files that take long to make, in $SSLZOO_CACHE or ~/.cache/sslzoo."""

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from sslzoo.disk import remove_unfinished
from sslzoo.errors import UserError
from sslzoo.run import write_atomic


def folder() -> Path:
    """The cache folder, created if missing."""
    path = Path(os.environ.get("SSLZOO_CACHE") or "~/.cache/sslzoo").expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the cache {path}: {error} — set SSLZOO_CACHE to a folder of yours") from error
    return path


def cached_file(name: str, make: Callable[[Path], None]) -> Path:
    """The path of the cached file `name`, written by `make` if it does not exist.

    Writing is atomic, under a lock: of two processes one writes and the other waits.
    """
    path = folder() / name
    if not path.exists():
        with locked(name):
            if not path.exists():
                remove_unfinished(path.parent)
                write_atomic(path, make)
    return path


def locked(name: str) -> FileLock:
    """The lock file of the cached file `name`, a context manager."""
    path = folder() / f".{name}.lock"
    try:
        path.touch()
    except OSError as error:
        raise UserError(f"cannot write to the cache: {error} — set SSLZOO_CACHE to a folder of yours") from error
    return FileLock(path)
