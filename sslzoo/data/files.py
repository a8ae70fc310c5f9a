"""Helpers for the files of a set: find, read, leave out or reject them."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sslzoo.data import stored, text_files
from sslzoo.errors import UserError, nearest

SHOWN = 3  # number of bad files named in messages; the others are counted
_log = logging.getLogger("sslzoo")


def rooted(path: str, *inside: str) -> Path:
    """The first of `path`/`inside` that is a folder, else `path`. Raises UserError if that is no folder."""
    for folder in (*(Path(path) / name for name in inside), Path(path)):
        if folder.is_dir():
            return folder
    if Path(path).exists():
        raise UserError(f"{path} is not a folder — data.path must name the folder that the set is in")
    raise UserError(f"there is no folder {path} — set data.path to where the set is")


def elsewhere(path: Path) -> str:
    """A hint " — …" at where a missing file may be, or ""."""
    near = sorted(str(found.relative_to(path.parent)) for found in path.parent.glob(f"*/{path.name}"))
    if near:
        some = ", ".join(near[:SHOWN]) + (" …" if len(near) > SHOWN else "")
        return f" — {path.parent} has {some}: set data.path to the folder that is meant"
    return nearest(path.name, sorted(found.name for found in path.parent.glob("*") if found.is_file()))


def readable(
    root: Path, names: Sequence[str], suffixes: Sequence[str], others: Sequence[str], mend: str
) -> tuple[list[str], list[str]]:
    """The files of `names` with one of `suffixes`, and warnings about those with one of `others`.

    mend: what to do with the latter. Raises UserError if none has one of `suffixes`.
    """
    kept = [name for name in names if name.lower().endswith(tuple(suffixes))]
    unread = set(names).difference(kept)
    left = Counter(
        Path(name).suffix.lower() for name in names if name in unread and name.lower().endswith(tuple(others))
    )
    some = ", ".join(f"{count} {suffix}" for suffix, count in left.most_common())
    said = f"{some} file{'s' if left.total() > 1 else ''} cannot be read and {'are' if left.total() > 1 else 'is'}"
    if not kept:
        beside = f"; {said} left out — {mend}" if left else ""
        kinds = " ".join(suffix for suffix in suffixes if suffix.count(".") == 1)
        raise UserError(f"{root} has no {kinds} files in it or under it{beside}")
    return kept, [f"{root}: {said} left out: {mend}"] if left else []


def read_text(path: Path) -> str:
    """The content of a text file (see `text_files.decoded`)."""
    return "".join(text_files.decoded(path))


def lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends (\\n, \\r\\n, \\r)."""
    return [line.rstrip("\r\n") for line in text_files.rows(text_files.decoded(path))]


def drop_faulty(where: str, count: int, faults: dict[int, str], on_error: str) -> np.ndarray:
    """Indices of the items, of `count`, without a fault. Raises UserError for a fault if on_error="raise"."""
    messages = [faults[i] for i in sorted(faults)]
    if messages and on_error == "raise":
        others = f" (and {len(messages) - 1} more like it)" if len(messages) > 1 else ""
        raise UserError(f"{messages[0]}{others} — mend or remove it, or leave it out with data.on_error=skip")
    if len(messages) == count:
        raise UserError(f"{where}: none of its {count} items can be used; the first: {messages[0]}")
    if messages:
        others = f"; and {len(messages) - SHOWN} more" if len(messages) > SHOWN else ""
        _log.warning("%s: left out %d of %d: %s%s", where, len(messages), count, "; ".join(messages[:SHOWN]), others)
    kept = np.ones(count, bool)
    kept[list(faults)] = False
    return np.flatnonzero(kept)


def stamp(root: Path, names: Sequence[str], *more: object) -> str | None:
    """A hash of files' names, sizes and times, and of what else reading them depends on (strings and arrays). None if a
    file is gone."""
    found = np.empty((len(names), 2), np.int64)
    try:
        for row, name in enumerate(names):
            status = os.stat(root / name)
            found[row] = status.st_size, status.st_mtime_ns
    except OSError:
        return None
    return stored.digest(
        str(Path(root).resolve()), np.frombuffer(b"".join(stored.joined(names)), np.uint8), found, *more
    )
