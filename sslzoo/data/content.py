"""Hashes of items' content: of what `Split.read` returns of a whole item, not of its file or its name.

Hashes of a split whose files can be told apart by size and time (`Split.stamp`) are kept in the cache; a read that was
interrupted goes on where it stopped.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch import Tensor

from sslzoo.data import cache
from sslzoo.data.base import Split
from sslzoo.disk import move_into_place
from sslzoo.errors import UserError
from sslzoo.progress import Progress, quiet

_CHUNK = 1024  # items between two writes


def item_hash(item: Tensor) -> int:
    """64 bits of BLAKE2b of an item's type, shape and values; never 0."""
    array = np.ascontiguousarray(item.numpy())
    found = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=8)
    found.update(array.data.cast("B") if array.size else b"")
    return int.from_bytes(found.digest(), "little") or 1


def item_hashes(split: Split, indices: np.ndarray | None = None, progress: Progress = quiet) -> np.ndarray:
    """uint64 [N], the hash of each item of a split, or of those at `indices`; 0 for an item that cannot be read, where
    the split leaves such items out (on_error="skip"). Reads the items, unless the hashes of all are kept.

    A few of many items (less than a quarter) are read each time; else those of all are made and kept.
    """
    stamp = split.stamp()
    kept = None if stamp is None else _load(cache.folder() / f"content-{stamp}", len(split))
    if kept is not None:
        return kept if indices is None else kept[indices]
    if indices is not None and (stamp is None or 4 * len(indices) < len(split)):
        return _read(split, indices, progress, 0, len(indices))
    if stamp is None:
        return _read(split, np.arange(len(split)), progress, 0, len(split))
    with cache.locked(f"content-{stamp}"):
        found = _load(cache.folder() / f"content-{stamp}", len(split))
        if found is None:
            found = _made(split, cache.folder() / f"content-{stamp}", progress)
    return found if indices is None else found[indices]


def digest_of(hashes: np.ndarray) -> str:
    """20 hex digits, of hashes in their order."""
    return hashlib.sha256(np.ascontiguousarray(hashes, "<u8").tobytes()).hexdigest()[:20]


def _made(split: Split, path: Path, progress: Progress) -> np.ndarray:
    """Read all items, appending their hashes to a file that a later attempt continues."""
    part = path.with_name(f"{path.name}.part")
    try:
        with open(part, "a+b") as file:
            done = file.tell() // 8
            file.truncate(8 * done)
            for first in range(done, len(split), _CHUNK):
                some = np.arange(first, min(first + _CHUNK, len(split)))
                file.write(_read(split, some, progress, first, len(split)).tobytes())
                file.flush()
            file.write(_checksum(path_bytes := part.read_bytes()))
        move_into_place(part, path)
    except OSError as error:
        raise UserError(f"cannot write {part}: {error} — make room, or set SSLZOO_CACHE") from error
    return np.frombuffer(path_bytes, np.uint64)


def _load(path: Path, count: int) -> np.ndarray | None:
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    if len(whole) != 8 * count + 8 or _checksum(whole[:-8]) != whole[-8:]:
        return None  # damaged: made again
    return np.frombuffer(whole[:-8], np.uint64)


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


def _read(split: Split, indices: np.ndarray, progress: Progress, done: int, total: int) -> np.ndarray:
    def one(index: int) -> int:
        try:
            return item_hash(split.read(index))
        except UserError:
            if split.on_error != "skip":
                raise
            return 0

    found = np.zeros(len(indices), np.uint64)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None) as workers:
        for first in range(0, len(indices), _CHUNK):
            some = indices[first : first + _CHUNK]
            found[first : first + len(some)] = list(workers.map(one, some.tolist()))
            progress("items' content", done + first + len(some), total)
    return found
