"""Files of a set: found, read once from end to end before anything is trained on, left out or refused.

A truncated file often shows only when it is decoded. Met in the middle of a run it would either stop it
or change what is trained on, so every file is decoded when its set is opened; what was found is remembered
in the cache by path, size and time of change, so that this is done once.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sslzoo.data import cache
from sslzoo.errors import UserError
from sslzoo.run import write_whole

_SHOWN = 3  # bad files that are named; the others are counted
_log = logging.getLogger("sslzoo")


def rooted(path: str, *inside: str) -> Path:
    """The first of `path`/`inside` that is a folder, else `path` itself, which must be one."""
    for folder in (*(Path(path) / name for name in inside), Path(path)):
        if folder.is_dir():
            return folder
    if Path(path).exists():
        raise UserError(f"{path} is not a folder — data.path must name the folder that the set is in")
    raise UserError(f"there is no folder {path} — set data.path to where the set is")


def walk(root: Path, suffixes: Sequence[str]) -> list[str]:
    """Every file under `root` with one of `suffixes`, relative to it, sorted; hidden ones are left out."""
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.lower().endswith(tuple(suffixes)) and not name.startswith("."):
                found.append((Path(folder) / name).relative_to(root).as_posix())
    if not found:
        raise UserError(f"{root} has no {' '.join(suffixes)} files in it or under it")
    return sorted(found)


def read_utf8(path: Path) -> str:
    """A text file, without its byte order mark. Raises UserError, naming the first byte that is not UTF-8."""
    try:
        return path.read_bytes().decode().removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(
            f"{path} is not UTF-8: byte {error.start} is 0x{byte:02x} — convert it (iconv -f latin1 -t utf-8)"
        ) from error


def inspected(
    root: Path, names: Sequence[str], inspect: Callable[[Path], list[int]], kind: str
) -> tuple[list[list[int]], dict[int, str]]:
    """What `inspect` says of each file, [] for a bad one; and by place, what is wrong with the bad ones.

    `inspect` reads the file from end to end and raises UserError if it is bad. `kind` names it in the cache.
    """
    record = f"{kind}-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:20]}.json"
    known = _load(cache.folder() / record)
    stamps = [_stamp(root / name) for name in names]
    new = [i for i, name in enumerate(names) if known.get(name, [None])[0] != stamps[i]]

    def look(i: int) -> list[int] | str:
        try:
            return inspect(root / names[i])
        except UserError as error:
            return str(error)

    if new:
        fresh = {}
        workers = ThreadPoolExecutor(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        )
        try:
            for i, found in zip(new, cache.progress(workers.map(look, new), f"reading {root}", len(new)), strict=True):
                fresh[names[i]] = [stamps[i], found]
        finally:  # what was read before an interruption is not read again
            workers.shutdown(cancel_futures=True)
            with cache.locked(record):
                known = _load(cache.folder() / record) | fresh
                write_whole(cache.folder() / record, lambda path: path.write_text(json.dumps(known)))
    found = [known[name][1] for name in names]
    faults = {i: value for i, value in enumerate(found) if isinstance(value, str)}
    return [[] if i in faults else value for i, value in enumerate(found)], faults


def sift(where: str, count: int, faults: dict[int, str], on_error: str) -> np.ndarray:
    """The places of the `count` items that have no fault; with on_error="raise" a fault is a UserError."""
    messages = [faults[i] for i in sorted(faults)]
    if messages and on_error == "raise":
        others = f" (and {len(messages) - 1} more like it)" if len(messages) > 1 else ""
        raise UserError(f"{messages[0]}{others} — mend or remove it, or leave it out with data.on_error=skip")
    if len(messages) == count:
        raise UserError(f"{where}: none of its {count} items can be used; the first: {messages[0]}")
    if messages:
        others = f"; and {len(messages) - _SHOWN} more" if len(messages) > _SHOWN else ""
        _log.warning("%s: left out %d of %d: %s%s", where, len(messages), count, "; ".join(messages[:_SHOWN]), others)
    return np.array([i for i in range(count) if i not in faults], np.int64)


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return [0, 0]  # `inspect` says what is the matter
    return [status.st_mtime_ns, status.st_size]


def _load(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
