"""Files that outlast a power cut: their content is on the disk before they have their names."""

import errno
import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path

UNFINISHED = ".unfinished"  # the end of a file's name while it is written
_BEFORE = re.compile(r"\..+\.(ckpt|sha256|safetensors|json|csv|yaml|pt)\.[a-z0-9_]{8}")  # names that it had once
_DAY = 86400.0  # seconds, after which nothing is written any more that is not locked


def move_into_place(beside: Path, path: Path) -> None:
    """Rename a file or folder once its content is on the disk, so that after a power cut too what has the name is whole:
    a file system may keep a rename and lose what was written before it."""
    for part in (*beside.iterdir(), beside) if beside.is_dir() else (beside,):
        to_disk(part)
    os.replace(beside, path)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    try:
        held = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to and not be read
        return
    try:
        os.fsync(held)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # where the file system knows of no such thing
            raise
    finally:
        os.close(held)


def remove_unfinished(folder: Path) -> int:
    """Remove what killed processes had begun to write in a folder, and say how many files that were. What is being
    written by one that lives is locked, and stays."""
    removed = 0
    for path in folder.glob(".*"):
        with suppress(OSError):
            old = _BEFORE.fullmatch(path.name) and path.stat().st_mtime < time.time() - _DAY
            if not old and not path.name.endswith(UNFINISHED):
                continue
            with open(path, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
                removed += 1
    return removed
