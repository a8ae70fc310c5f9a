"""Files that outlast a power cut: their content is on the disk before they have their names."""

import errno
import os
from pathlib import Path


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
