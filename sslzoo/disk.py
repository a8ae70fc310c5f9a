"""Durable writes: a file's content is synced to disk before it gets its final name."""

import errno
import fcntl
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

UNFINISHED = ".unfinished"  # suffix of a file's name while it is written
_BEFORE = re.compile(r"\..+\.(ckpt|sha256|safetensors|json|csv|yaml|pt)\.[a-z0-9_]{8}")  # the names in former versions
_DAY = 86400.0  # seconds, after which an unlocked file of a former version is taken for abandoned


def move_into_place(beside: Path, path: Path) -> None:
    """Sync a file or folder to disk, then rename it, so that it is complete even after a power cut: a file system may
    keep a rename and lose the content written before it."""
    for part in (*beside.iterdir(), beside) if beside.is_dir() else (beside,):
        to_disk(part)
    os.replace(beside, path)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """fsync a file's content or a folder's entries."""
    try:
        held = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that is writable but not readable
        return
    try:
        os.fsync(held)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without fsync
            raise
    finally:
        os.close(held)


def remove_unfinished(folder: Path) -> int:
    """Remove the unfinished files of killed processes in a folder, and return their number. Files that a live process
    is writing are locked, and stay."""
    removed = 0
    for path in folder.glob(".*"):
        with suppress(OSError):
            old = _BEFORE.fullmatch(path.name) and path.stat().st_mtime < time.time() - _DAY
            if not old and not path.name.endswith(UNFINISHED):
                continue
            if path.is_dir():  # a checkpoint of several files: of the run's own process, which holds the run's lock
                shutil.rmtree(path)
                removed += 1
                continue
            with open(path, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
                removed += 1
    return removed
