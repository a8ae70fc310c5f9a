"""Cached listings of the files under a folder: at the next start only folders whose mtime changed are listed again.

A folder's mtime changes if a file in it is added, removed, renamed or replaced, but not if a file is modified in
place.
"""

import heapq
import os
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sslzoo.data import cache, stored
from sslzoo.data.stored import Arrays, Names
from sslzoo.errors import UserError
from sslzoo.run import write_atomic

_SETTLED = 2 * 10**9  # ns: a folder modified less than this before it was listed may change again with the same mtime
_VERSION = "2"  # increase when a walk omits other files: invalidates old listings
UNSETTLED, _ELSEWHERE = -1, -2  # mtimes that mark such a folder; a folder already in the set by another path


class Tree:
    """The folders under a root, and their files with one of some suffixes.

    folders [F]: relative to the root, sorted; changed [F]: mtimes in ns. files [N]: base names; first [F + 1]: the
    offset of each folder's files in them. linked [F], link [N]: whether a folder or file is a symbolic link.
    version: a hash of all names.
    """

    def __init__(self, arrays: Arrays):
        self.folders, self.files = Names(arrays, "folders"), Names(arrays, "files")
        self.changed, self.first, self.version = arrays["changed"], arrays["first"], arrays.ident
        self.linked, self.link, self.root = arrays["linked"], arrays["link"], arrays.meta["root"]

    def names(self) -> list[str]:
        """All files relative to the root, sorted, without `copies`."""
        found = self._all()
        copies = set(self.copies(found))
        return sorted(name for name in found if name not in copies) if copies else sorted(found)

    def copies(self, names: Sequence[str] | None = None) -> list[str]:
        """Links to files that are also in the set by another path. names: `_all()`, if already computed."""
        if not self.link.any():
            return []
        names = self._all() if names is None else names
        folders = {os.path.realpath(f"{self.root}/{folder}"): i for i, folder in enumerate(self.folders)}
        found, seen = [], set()
        for place in np.flatnonzero(self.link).tolist():
            target = os.path.realpath(f"{self.root}/{names[place]}")
            folder, base = os.path.split(target)
            if target in seen or self._has_file(folders.get(folder), base):
                found.append(names[place])
            seen.add(target)
        return found

    def notes(self) -> list[str]:
        """Warnings about links to files that are already in the set."""
        again = [folder for folder, at in zip(self.folders, self.changed.tolist(), strict=True) if at == _ELSEWHERE]
        found = [*again, *self.copies()]
        if not found:
            return []
        links = f"{len(found)} links lead" if len(found) > 1 else "1 link leads"
        return [f"{self.root}: {links} to what is in the set already, such as {found[0]}: it is read once"]

    def _all(self) -> list[str]:
        files, found = list(self.files), []
        for folder, first, last in zip(self.folders, self.first[:-1].tolist(), self.first[1:].tolist(), strict=True):
            found += [f"{folder}/{name}" for name in files[first:last]] if folder else files[first:last]
        return found

    def _has_file(self, folder: int | None, name: str) -> bool:
        """Whether folder number `folder` has a file of that name that is not a link."""
        if folder is None:
            return False
        first, last = int(self.first[folder]), int(self.first[folder + 1])
        place = first + bisect_left(self.files[first:last], name)
        return place < last and self.files[place] == name and not self.link[place]


@dataclass
class _Folder:
    """A folder: its files and whether each is a link, as lists or as slices of an earlier `Tree`."""

    changed: int
    files: list[str] | slice
    link: list[bool] | slice
    linked: bool


def walk(root: Path, suffixes: Sequence[str]) -> list[str]:
    """Files under `root` with one of `suffixes`, relative to it, sorted; cached. Raises UserError if none."""
    names = look(root, suffixes).names()
    if not names:
        raise UserError(f"{root} has no {' '.join(suffixes)} files in it or under it")
    return names


def look(root: Path, suffixes: Sequence[str]) -> Tree:
    """The files under `root` as they are now, without hidden ones. One `stat` per folder.

    Links to folders are followed, except to folders already visited and to ancestors of `root`.
    """
    suffixes = tuple(suffixes)
    path = place(root, suffixes)
    try:
        known = Tree(Arrays(path))
    except (OSError, ValueError, KeyError):
        known = None
    found, news = _visited(Path(root), suffixes, known)
    if not news:
        return known
    folders = sorted(found)
    each = [found[folder] for folder in folders]
    files = [known.files[x.files] if isinstance(x.files, slice) else x.files for x in each]
    link = [known.link[x.link] if isinstance(x.link, slice) else x.link for x in each]
    arrays = {
        **stored.encode("folders", folders),
        **stored.encode("files", [name for names in files for name in names]),
        "changed": np.array([x.changed for x in each], np.int64),
        "first": np.cumsum([0, *map(len, files)], dtype=np.int64),
        "linked": np.array([x.linked for x in each], bool),
        "link": np.concatenate([np.zeros(0, bool), *(np.asarray(x, bool) for x in link)]),
    }
    version = stored.digest(*(arrays[key] for key in ("folders", "files", "first", "linked", "link")))
    meta = {"root": os.path.realpath(root)}
    with cache.locked(path.name):
        write_atomic(path, lambda beside: stored.write(beside, arrays, meta, version))
    return Tree(Arrays(path))


def place(root: Path, suffixes: Sequence[str]) -> Path:
    """The path of a root's cached listing."""
    return cache.folder() / f"tree-{stored.digest(_VERSION, str(Path(root).resolve()), *suffixes)}"


def _visited(root: Path, suffixes: tuple[str, ...], known: Tree | None) -> tuple[dict[str, _Folder], bool]:
    """The content of each folder, and whether anything differs from `known`."""
    before, inside = {}, {}
    if known is not None:
        bounds = zip(known.changed.tolist(), known.first.tolist(), known.first[1:].tolist(), strict=False)
        for folder, linked, (changed, first, last) in zip(known.folders, known.linked.tolist(), bounds, strict=True):
            before[folder] = _Folder(changed, slice(first, last), slice(first, last), linked)
            if folder:
                inside.setdefault(folder.rpartition("/")[0], []).append((folder, linked))
    found, news = {}, known is None
    home = os.path.realpath(root)
    real, seen = {"": home}, set()
    left, links = [("", False)], []  # links are visited after all real folders
    while left or links:
        folder, linked = left.pop() if left else (heapq.heappop(links), True)
        path, then = os.path.join(root, folder), before.get(folder)
        if folder:
            real[folder] = (
                os.path.realpath(path) if linked else f"{real[folder.rpartition('/')[0]]}/{folder.rpartition('/')[2]}"
            )
        if real[folder] in seen or (linked and f"{home}/".startswith(os.path.join(real[folder], ""))):
            found[folder] = _Folder(_ELSEWHERE, [], [], linked)
            news = news or then is None or then.changed != _ELSEWHERE
            continue
        seen.add(real[folder])
        try:
            changed = os.stat(path).st_mtime_ns
        except OSError as error:
            if not folder:
                raise UserError(f"cannot read {path}: {error.strerror}") from error
            continue
        if then is not None and (changed, linked) == (then.changed, then.linked):
            found[folder], children = then, inside.get(folder, [])
        else:
            settled = time.time_ns() - changed > _SETTLED
            children, names, link = _listed(path, suffixes)
            # still unsettled with the same content: nothing new
            same = then is not None and (UNSETTLED, linked) == (then.changed, then.linked)
            same = same and names == known.files[then.files] and link == known.link[then.link].tolist()
            news = news or settled or not same
            found[folder] = _Folder(changed if settled else UNSETTLED, names, link, linked)
            children = [(f"{folder}/{name}" if folder else name, is_link) for name, is_link in children]
        for child, is_link in children:
            if is_link:
                heapq.heappush(links, child)
            else:
                left.append((child, False))
    return found, news or len(found) != len(before)


def _listed(path: str, suffixes: tuple[str, ...]) -> tuple[list[tuple[str, bool]], list[str], list[bool]]:
    """Subfolders [(name, is link)], files with one of `suffixes`, and whether each file is a link; sorted, without
    hidden ones."""
    folders, names = [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":  # metadata in archives made on macOS
                    continue
                if entry.is_dir():
                    folders.append((entry.name, entry.is_symlink()))
                elif entry.name.lower().endswith(suffixes):
                    names.append((entry.name, entry.is_symlink()))
    except OSError:  # an unreadable folder counts as empty, as in os.walk
        pass
    names.sort()
    return sorted(folders), [name for name, _ in names], [is_link for _, is_link in names]
