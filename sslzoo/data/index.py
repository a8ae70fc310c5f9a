"""What is known of every file of a set, in one mapped file in the cache: names, splits, labels, lengths.

It is made once, by one process under a lock, while others wait; a start that finds it as it should be reads no
file of the set and asks the disk for nothing but the folders' times of change. Of a set that grew only what is
new is read. An interrupted first reading goes on where it was.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
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
MANY = 5000  # files, up to which data.check=null means "whole", and above it "headers"
_VERSION = 3  # of what listings say of the same files: another one lists them anew
_log = logging.getLogger("sslzoo")
_CHUNK = 2048  # files that are given to the threads at a time


@dataclass
class Listing:
    """What a set holds: files relative to its root, the split of each, label columns [N].

    walks: the folders, with suffixes, that `tree.walk` was asked for; read: other files that it was taken from.
    Where `walks` is None it is not known what it was taken from, and the set is listed at every start.
    notes: what is said of the set at every start; misfits: what is, too, where it is allowed, and else refused.
    """

    root: Path
    names: list[str]
    split: Sequence[str]
    columns: dict[str, Sequence[str]]
    walks: list[tuple[Path, tuple[str, ...]]] | None = None
    read: Sequence[Path] = ()
    notes: Sequence[str] = ()
    misfits: str = ""


class Index:
    """An index as it lies in the cache. Rows are ordered by split.

    check: how the files were read. Beside `names` its arrays are the fields that were asked for, int64 [N].
    """

    def __init__(self, arrays: Arrays):
        self.arrays, self.meta = arrays, arrays.meta
        self.root, self.check = Path(self.meta["root"]), self.meta["check"]

    def rows(self, split: str) -> slice:
        """Those of a split."""
        return slice(*self.meta["splits"].get(split, (0, 0)))

    def names(self, rows: Rows) -> Names:
        return Names(self.arrays, "names", rows)

    def columns(self, rows: Rows) -> Columns:
        return Columns(self.arrays, self.meta["columns"], rows)

    def faults(self, rows: slice) -> dict[int, str]:
        """What is wrong with files, by their place in `rows`."""
        found = {int(row): fault for row, fault in self.meta["faults"].items()}
        return {row - rows.start: fault for row, fault in found.items() if rows.start <= row < rows.stop}


def identity(data, *free: str) -> str:
    """Stands for a data set's class and all that was set but for `free`: what its listing depends on."""
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
    """The index `name`, made if it is not there or not of the files as they are now.

    inspect: what is known of a file, an integer for each of `fields`; raises UserError if it is bad; not called
    where no fields are asked for. check: how it looks, null for "whole" up to `MANY` files and "headers" above. With "whole" a file that was written to
    in place is noticed too, by its size and time, at the price of asking for every file's at every start.
    """
    path = place(name, check)
    found = _load(path)
    if found is None or not _fresh(found):
        with cache.locked(path.name):  # the others wait, and find it made
            found = _load(path)
            if found is None or not _fresh(found):
                _make(path, listing(), fields, inspect, check)
                found = Index(Arrays(path))
    for note in [*found.meta.get("notes", ()), *file_labels.tolerated(found.meta.get("misfits", ""), on_error)]:
        _log.warning("%s", note)
    return found


def place(name: str, check: Check | None) -> Path:
    """Where the index `name` lies."""
    return cache.folder() / f"index-{name}-{check or 'auto'}"


def _load(path: Path) -> Index | None:
    try:
        return Index(Arrays(path))
    except (OSError, ValueError, KeyError):
        return None


def _fresh(index: Index) -> bool:
    """Whether the files are those that the index is of."""
    if index.meta["walks"] is None:
        return False
    first = 0
    try:
        for root, suffixes, version in index.meta["walks"]:
            found = tree.look(Path(root), suffixes)
            if found.version != version:
                return False
            last = first + len(found.changed)
            holds = np.diff(found.first) > 0  # a file in another folder is none of the set
            differ = (found.changed != index.arrays["folder.changed"][first:last]) | (found.changed == tree.UNSETTLED)
            if index.check != "whole" and (holds & differ).any():
                return False  # a file may have been replaced
            first = last
    except UserError:
        return False  # the listing says what is the matter
    if any(_stamp(path) != tuple(stamp) for path, stamp in index.meta["read"]):
        return False
    # what was bad may have been mended in place
    rows = slice(0, None) if index.check == "whole" else np.array(sorted(map(int, index.meta["faults"])), np.int64)
    stamps = zip(index.arrays["changed"][rows].tolist(), index.arrays["size"][rows].tolist(), strict=True)
    names = Names(index.arrays, rows=None if index.check == "whole" else rows)
    return all(_stamp(f"{index.root}/{name}") == stamp for name, stamp in zip(names, stamps, strict=True))


def _make(path: Path, listing: Listing, fields, inspect, check: Check | None) -> None:
    """Read what no earlier index knows, into `path`.part, and put that in its place."""
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
    arrays.clear()  # they are in the file now
    kept = Arrays(part, "r+")
    meta["faults"] = {
        int(row): fault for row, fault in _read(kept, names, listing.root, fields, inspect, check) if fault is not None
    }
    meta["notes"] += duplicates.across_splits(listing.root, names, split, kept["size"])
    content = [kept[key] for key in kept if not key.startswith("folder")]
    stored.rewrite_meta(part, meta, stored.digest(json.dumps(meta, sort_keys=True), *content))
    move_into_place(part, path)


def _read(kept: Arrays, names, root: Path, fields, inspect, check: Check) -> Iterator[tuple[int, str | None]]:
    """Read the files that are not done, as many at a time as there are cores; each, and what is wrong with it."""
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
    finally:  # what was read before an interruption is in the file, and not read again
        workers.shutdown(cancel_futures=True)


def _carry(known: Index, arrays: dict[str, np.ndarray], names: list[str], root: Path, fields: Sequence[str]) -> None:
    """Take over what an earlier index says of files that are as they were."""
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
            continue  # its folder has not changed since, so that the file has not been replaced
        same[row] = _stamp(root / names[row]) == (known.arrays["changed"][old], known.arrays["size"][old])
    rows, old = np.flatnonzero(same), order[at[same]]
    for field in fields:
        arrays[field][rows] = known.arrays[field][old]
    arrays["done"][rows] = True


def _folders(root: Path, trees) -> dict[str, np.ndarray]:
    """The folders that were walked, relative to the set's root, and their times of change."""
    folders, changed = [], []
    for walked, _, found in trees:
        head = os.path.relpath(walked, root)
        paths = (os.path.normpath(os.path.join(head, folder)) for folder in found.folders)
        folders += ["" if path == "." else path for path in paths]
        changed += found.changed.tolist()
    return {**stored.encode("folders", folders), "folder.changed": np.array(changed, np.int64)}


def _settled(known: Index, arrays: dict[str, np.ndarray]) -> set[str]:
    """Folders in which nothing was added, removed or replaced since `known` was made."""
    then = dict(zip(Names(known.arrays, "folders"), known.arrays["folder.changed"].tolist(), strict=True))
    now = dict(zip(Names(arrays, "folders"), arrays["folder.changed"].tolist(), strict=True))
    return {folder for folder, changed in now.items() if changed != tree.UNSETTLED and then.get(folder) == changed}


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest(), "little")


def _stamp(path: Path | str) -> tuple[int, int]:
    """(time of change in ns, bytes); zeros where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
