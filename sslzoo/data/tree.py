"""The files under a folder, remembered by folder: at the next start a folder is listed again only if it changed.

A folder's time of change says that a file in it was added, removed, renamed or replaced; it does not say that
one was written to in place.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sslzoo.data import cache, stored
from sslzoo.data.stored import Arrays, Names
from sslzoo.errors import UserError
from sslzoo.run import write_atomic

_SETTLED = 2 * 10**9  # ns: a folder that changed later than that before it was listed may change again unseen
UNSETTLED = -1  # the time of change of such a folder


class Tree:
    """Folders under a root, and the files in them with one of some suffixes.

    folders: relative to the root, sorted; changed [F]: ns, the time of each's last change. first [F + 1]: where
    each's files begin in `files`, base names. version: stands for all names.
    """

    def __init__(self, arrays: Arrays):
        self.folders, self.files = Names(arrays, "folders"), Names(arrays, "files")
        self.changed, self.first, self.version = arrays["changed"], arrays["first"], arrays.ident

    def names(self) -> list[str]:
        """Every file relative to the root, sorted."""
        files, found = list(self.files), []
        for folder, first, last in zip(self.folders, self.first[:-1].tolist(), self.first[1:].tolist(), strict=True):
            found += [f"{folder}/{name}" for name in files[first:last]] if folder else files[first:last]
        return sorted(found)


def walk(root: Path, suffixes: Sequence[str]) -> list[str]:
    """`files.walk`, remembered: every file under `root` with one of `suffixes`, relative to it, sorted."""
    names = look(root, suffixes).names()
    if not names:
        raise UserError(f"{root} has no {' '.join(suffixes)} files in it or under it")
    return names


def look(root: Path, suffixes: Sequence[str]) -> Tree:
    """The files under `root` as they are now; hidden ones are left out. One call of `stat` for each folder."""
    suffixes = tuple(suffixes)
    path = place(root, suffixes)
    try:
        known = Tree(Arrays(path))
    except (OSError, ValueError):
        known = None
    found, news = _visited(Path(root), suffixes, known)
    if not news:
        return known
    folders, files, sizes = sorted(found), [], []
    for folder in folders:
        names = found[folder][1]
        names = known.files[names] if isinstance(names, slice) else names
        files += names
        sizes.append(len(names))
    arrays = {
        **stored.encode("folders", folders),
        **stored.encode("files", files),
        "changed": np.array([found[folder][0] for folder in folders], np.int64),
        "first": np.cumsum([0, *sizes], dtype=np.int64),
    }
    version = stored.digest(arrays["folders"], arrays["files"], arrays["first"])
    with cache.locked(path.name):
        write_atomic(path, lambda beside: stored.write(beside, arrays, {}, version))
    return Tree(Arrays(path))


def place(root: Path, suffixes: Sequence[str]) -> Path:
    """Where what is known of a root lies."""
    return cache.folder() / f"tree-{stored.digest(str(Path(root).resolve()), *suffixes)}"


def _visited(
    root: Path, suffixes: tuple[str, ...], known: Tree | None
) -> tuple[dict[str, tuple[int, list[str] | slice]], bool]:
    """Of each folder its time of change and its files, sorted, or where they are among the known ones; and whether
    anything is not as it was known."""
    before, inside = {}, {}
    if known is not None:
        bounds = zip(
            known.folders, known.changed.tolist(), known.first.tolist(), known.first[1:].tolist(), strict=False
        )
        for folder, changed, first, last in bounds:
            before[folder] = changed, first, last
            if folder:
                inside.setdefault(folder.rpartition("/")[0], []).append(folder)
    found, news, left = {}, known is None, [""]
    while left:
        folder = left.pop()
        path = os.path.join(root, folder)
        try:
            changed = os.stat(path).st_mtime_ns
        except OSError as error:
            if not folder:
                raise UserError(f"cannot read {path}: {error.strerror}") from error
            continue
        then, first, last = before.get(folder, (None, 0, 0))
        if changed == then:
            found[folder] = changed, slice(first, last)
            left += inside.get(folder, [])
            continue
        settled = time.time_ns() - changed > _SETTLED
        folders, names = _listed(path, suffixes)
        # one that was not settled, is not yet, and is as it was is no news
        news = news or settled or then != UNSETTLED or names != known.files[first:last]
        found[folder] = (changed if settled else UNSETTLED), names
        left += [f"{folder}/{name}" if folder else name for name in folders]
    return found, news or len(found) != len(before)


def _listed(path: str, suffixes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The folders in a folder, and its files with one of `suffixes`, both sorted, without hidden ones."""
    folders, names = [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.name.lower().endswith(suffixes):
                    names.append(entry.name)
    except OSError:  # a folder that may not be read is as if it were empty, as for os.walk
        pass
    return sorted(folders), sorted(names)
