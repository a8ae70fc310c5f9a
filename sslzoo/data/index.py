"""The index of a data set: names, splits, labels and lengths of its files, in one memory-mapped cache file.

One process builds it under a lock while others wait. A run that finds an up-to-date index reads no file of the set
and only stats its folders (mtime). If files were added, only those are read. An interrupted build resumes where it
stopped.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import cache, duplicates, file_labels, stored, tree
from sslzoo.data.base import SPLITS
from sslzoo.data.stored import Arrays, Columns, Names, Rows
from sslzoo.disk import move_into_place
from sslzoo.errors import UserError
from sslzoo.progress import track
from sslzoo.run import write_atomic

Check = Literal["headers", "whole", "none"]
MANY = 5000  # files: up to this many, data.check=null means "whole", above it "headers"
_VERSION = 3  # increase when listings of the same files change: invalidates old indexes
_log = logging.getLogger("sslzoo")
_CHUNK = 2048  # files submitted to the threads at a time


@dataclass
class Listing:
    """The files of a set: names [N] relative to root, the split of each, label columns [N].

    walks: the (folder, suffixes) passed to `tree.look`; read: other files that the listing depends on. If `walks` is
    None, its inputs are unknown and the set is listed again at every start.
    notes: warnings logged at every start; misfits: a warning with on_error="skip", else an error.
    """

    root: Path
    names: list[str]
    split: Sequence[str] | np.ndarray
    columns: Mapping[str, Sequence[str] | np.ndarray]
    walks: Sequence[tuple[Path, tuple[str, ...]]] | None = None
    read: Sequence[Path] = ()
    notes: Sequence[str] = ()
    misfits: str = ""


class Index:
    """An index in the cache. Rows are sorted by split.

    check: how the files were read. Its arrays are `names` and the requested fields, int64 [N].
    """

    def __init__(self, arrays: Arrays):
        self.arrays, self.meta = arrays, arrays.meta
        self.root, self.check = Path(self.meta["root"]), self.meta["check"]

    def rows(self, split: str) -> slice:
        """The rows of a split."""
        return slice(*self.meta["splits"].get(split, (0, 0)))

    def names(self, rows: Rows) -> Names:
        return Names(self.arrays, "names", rows)

    def columns(self, rows: Rows) -> Columns:
        return Columns(self.arrays, self.meta["columns"], rows)

    def faults(self, rows: slice) -> dict[int, str]:
        """Error messages of bad files, by position in `rows`."""
        found = {int(row): fault for row, fault in self.meta["faults"].items()}
        return {row - rows.start: fault for row, fault in found.items() if rows.start <= row < rows.stop}


def identity(data, *free: str) -> str:
    """A hash of a data set's class and settings except `free`: all that its listing depends on."""
    said = {key: value for key, value in vars(data).items() if key not in free and not key.startswith("_")}
    said["path"] = str(Path(data.path).resolve())
    text = json.dumps([_VERSION, type(data).__module__, type(data).__qualname__, said], default=repr, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def opened(
    name: str,
    listing: Callable[[], Listing],
    fields: Sequence[str],
    inspect: Callable[[Path, Check], Sequence[int]],
    check: Check | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Index:
    """The index `name`, built if it is missing or out of date.

    inspect: returns an integer for each of `fields` of a file; raises UserError if the file is bad; not called if
    `fields` is empty. check: how files are read; null: "whole" up to `MANY` files, "headers" above. "whole" also
    detects files modified in place, by size and mtime, at the cost of a stat of every file at every start.
    """
    path = place(name, check)
    found = _load(path)
    if found is None or not _fresh(found):
        with cache.locked(path.name):  # other processes wait, then find it built
            found = _load(path)
            if found is None or not _fresh(found):
                _make(path, listing(), fields, inspect, check)
                found = Index(Arrays(path))
    for note in [*found.meta.get("notes", ()), *file_labels.tolerated(found.meta.get("misfits", ""), on_error)]:
        _log.warning("%s", note)
    return found


def place(name: str, check: Check | None) -> Path:
    """The path of the index `name`."""
    return cache.folder() / f"index-{name}-{check or 'auto'}"


def _load(path: Path) -> Index | None:
    try:
        return Index(Arrays(path))
    except (OSError, ValueError, KeyError):
        return None


def _fresh(index: Index) -> bool:
    """Whether the index is up to date with the files."""
    if index.meta["walks"] is None:
        return False
    first = 0
    try:
        for root, suffixes, version in index.meta["walks"]:
            found = tree.look(Path(root), suffixes)
            if found.version != version:
                return False
            last = first + len(found.changed)
            holds = np.diff(found.first) > 0  # folders without files of the set do not matter
            differ = (found.changed != index.arrays["folder.changed"][first:last]) | (found.changed == tree.UNSETTLED)
            if index.check != "whole" and (holds & differ).any():
                return False  # a file may have been replaced
            first = last
    except UserError:
        return False  # listing the set again raises the error
    if any(_stamp(path) != tuple(stamp) for path, stamp in index.meta["read"]):
        return False
    # bad files may have been repaired in place
    rows = slice(0, None) if index.check == "whole" else np.array(sorted(map(int, index.meta["faults"])), np.int64)
    stamps = zip(index.arrays["changed"][rows].tolist(), index.arrays["size"][rows].tolist(), strict=True)
    names = Names(index.arrays, rows=None if index.check == "whole" else rows)
    return all(_stamp(f"{index.root}/{name}") == stamp for name, stamp in zip(names, stamps, strict=True))


def _make(path: Path, listing: Listing, fields, inspect, check: Check | None) -> None:
    """Build `path`.part, reading the files that no earlier index has, then rename it to `path`."""
    check = check or ("whole" if len(listing.names) <= MANY else "headers")
    order = np.argsort(np.asarray(listing.split), kind="stable")
    names, split = [listing.names[i] for i in order], np.asarray(listing.split)[order]
    count, part = len(names), path.with_name(f"{path.name}.part")
    ends = {name: (int(np.searchsorted(split, name)), int(np.searchsorted(split, name, "right"))) for name in SPLITS}
    trees = [(root, suffixes, tree.look(root, suffixes)) for root, suffixes in listing.walks or []]
    arrays = {
        **stored.encode("names", names),
        "hash": np.fromiter(map(_hash, names), np.uint64, count),
        "done": np.zeros(count, bool),
        **{field: np.zeros(count, np.int64) for field in ("changed", "size", *fields)},
        **_folders(listing.root, trees),
    }
    for key, values in listing.columns.items():
        arrays |= Columns.encode(key, [values[i] for i in order])
    meta = {
        "root": str(listing.root),
        "check": check,
        "splits": ends,
        "columns": list(listing.columns),
        "walks": None if listing.walks is None else [[str(r), list(s), found.version] for r, s, found in trees],
        "read": [[str(file), _stamp(file)] for file in listing.read],
        "faults": {},
        "notes": [*listing.notes, *(note for *_, found in trees for note in found.notes())],
        "misfits": listing.misfits,
    }
    for known in (_load(path), _load(part)):
        if known is not None and known.check == check and all(field in known.arrays for field in fields):
            _carry(known, arrays, names, listing.root, ("changed", "size", *fields))
    write_atomic(part, lambda beside: stored.write(beside, arrays, meta))
    arrays.clear()  # free memory: they are in the file now
    kept = Arrays(part, "r+")
    meta["faults"] = {
        int(row): fault for row, fault in _read(kept, names, listing.root, fields, inspect, check) if fault is not None
    }
    meta["notes"] += duplicates.across_splits(listing.root, names, split, kept["size"])
    content = [kept[key] for key in kept if not key.startswith("folder")]
    stored.rewrite_meta(part, meta, stored.digest(json.dumps(meta, sort_keys=True), *content))
    move_into_place(part, path)


def _read(kept: Arrays, names, root: Path, fields, inspect, check: Check) -> Iterator[tuple[int, str | None]]:
    """Read files not yet done, one thread per core. Yields (row, error message or None)."""
    new = np.flatnonzero(~kept["done"]) if fields else np.empty(0, np.int64)
    columns = [kept[field] for field in fields]
    changed, size, done = kept["changed"], kept["size"], kept["done"]

    def look(row: int) -> tuple[int, str | None]:
        path = root / names[row]
        changed[row], size[row] = _stamp(path)
        try:
            for column, value in zip(columns, inspect(path, check), strict=True):
                column[row] = value
        except UserError as error:
            return row, str(error)
        done[row] = True
        return row, None

    workers = ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    chunks = (new[first : first + _CHUNK].tolist() for first in range(0, len(new), _CHUNK))
    try:
        looked = (found for chunk in chunks for found in workers.map(look, chunk))
        yield from track(looked, f"reading {root}", len(new))
    finally:  # files read before an interruption are stored and not read again
        workers.shutdown(cancel_futures=True)


def _carry(known: Index, arrays: dict[str, np.ndarray], names: list[str], root: Path, fields: Sequence[str]) -> None:
    """Copy the fields of unchanged files from an earlier index."""
    if not len(known.arrays["hash"]) or str(known.root) != str(root):
        return
    order = np.argsort(known.arrays["hash"])
    hashes = known.arrays["hash"][order]
    at = np.minimum(np.searchsorted(hashes, arrays["hash"]), len(hashes) - 1)
    same = (hashes[at] == arrays["hash"]) & known.arrays["done"][order[at]] & ~arrays["done"]
    settled = _settled(known, arrays)
    for row in np.flatnonzero(same).tolist():
        old = order[at[row]]
        if known.check != "whole" and names[row].rpartition("/")[0] in settled:
            continue  # unchanged folder: the file has not been replaced
        same[row] = _stamp(root / names[row]) == (known.arrays["changed"][old], known.arrays["size"][old])
    rows, old = np.flatnonzero(same), order[at[same]]
    for field in fields:
        arrays[field][rows] = known.arrays[field][old]
    arrays["done"][rows] = True


def _folders(root: Path, trees) -> dict[str, np.ndarray]:
    """The walked folders, relative to the set's root, and their mtimes in ns."""
    folders, changed = [], []
    for walked, _, found in trees:
        head = os.path.relpath(walked, root)
        paths = (os.path.normpath(os.path.join(head, folder)) for folder in found.folders)
        folders += ["" if path == "." else path for path in paths]
        changed += found.changed.tolist()
    return {**stored.encode("folders", folders), "folder.changed": np.array(changed, np.int64)}


def _settled(known: Index, arrays: dict[str, np.ndarray]) -> set[str]:
    """Folders in which no file was added, removed or replaced since `known` was built."""
    then = dict(zip(Names(known.arrays, "folders"), known.arrays["folder.changed"].tolist(), strict=True))
    now = dict(zip(Names(arrays, "folders"), arrays["folder.changed"].tolist(), strict=True))
    return {folder for folder, changed in now.items() if changed != tree.UNSETTLED and then.get(folder) == changed}


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest(), "little")


def _stamp(path: Path | str) -> tuple[int, int]:
    """(mtime in ns, size in bytes); zeros if there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
