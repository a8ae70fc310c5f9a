"""Features on disk, found again by what they depend on.

$SSLZOO_CACHE/features/<key>/
    about.json     what the key is a hash of, the layers' names, the rows' shape
    rows           float32 [N, L, D]
    sums           uint32 [N], the CRC-32 of each row; 0 for a row that is not there yet

Rows are written as they are computed and read memory-mapped, so a set may be larger than memory; a pass that was killed
left the rows that it had. A row that does not match its checksum is computed again.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from torch import Tensor

from sslzoo.data import cache
from sslzoo.errors import UserError
from sslzoo.run import write_json

_log = logging.getLogger("sslzoo")


class Rows:
    """The features of N rows, float32 [N, L, D], in a folder. about: what they depend on.

    `missing` and `put` are called while `FeatureCache.lock` is held: other processes may open the folder at any time,
    and find in it then what was filled in the meantime.
    """

    def __init__(self, folder: Path, about: dict, count: int):
        self.folder, self.count = folder, count
        self._map: np.ndarray | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.about = self._read() or {**about, "rows": count}
        self._checked = np.zeros(count, bool)
        os.utime(folder)  # when it was last used

    def _read(self) -> dict | None:
        try:
            found = json.loads((self.folder / "about.json").read_text(encoding="utf-8"))
            return found if found["rows"] == self.count else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _refresh(self) -> None:
        """Read what another process has filled since, or begin anew what is not whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.about, sums = self._read() or self.about, self.folder / "sums"
        if "shape" not in self.about or not sums.exists() or sums.stat().st_size != 4 * self.count:
            self.about.pop("shape", None)
            self._write("sums", 0, bytes(4 * self.count), fresh=True)
            write_json(self.folder / "about.json", self.about)

    @property
    def layers(self) -> list[str] | None:
        """The names of the L layers; None before the first row is there."""
        return self.about.get("layers")

    @property
    def shape(self) -> list[int] | None:
        """[L, D]; None before the first row is there."""
        return self.about.get("shape")

    @property
    def sums(self) -> np.ndarray:
        return np.fromfile(self.folder / "sums", np.uint32, self.count)

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Those of `rows` that are not there, or are damaged (which is said)."""
        self._refresh()
        sums = self.sums
        there = rows[sums[rows] != 0]
        fresh = there[~self._checked[there]]
        if len(fresh) and (path := self.folder / "rows").stat().st_size < (int(fresh.max()) + 1) * self._bytes:
            fresh = fresh[(fresh + 1) * self._bytes <= path.stat().st_size]
        held = self._values()
        good = np.array([row for row in fresh.tolist() if _sum(held[row]) == sums[row]], np.int64)
        self._checked[good] = True
        bad = there[~self._checked[there]]
        if len(bad):
            _log.warning("%s: %d of its features are damaged, and are computed again", self.folder, len(bad))
        return np.concatenate([rows[sums[rows] == 0], bad])

    def put(self, rows: np.ndarray, values: Tensor, layers: Sequence[str]) -> None:
        """Write float32 [n, L, D] of these rows. layers: the names of the L layers."""
        if self.shape is None:
            self.about |= {"layers": list(layers), "shape": list(values.shape[1:])}
            write_json(self.folder / "about.json", self.about)
        array = np.ascontiguousarray(values.numpy(), np.float32)
        for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):  # of rows side by side
            first = int(rows[run[0]])
            self._write("rows", first * self._bytes, array[run].tobytes())
            self._write("sums", 4 * first, np.array([_sum(array[i]) for i in run], np.uint32).tobytes())
        self._checked[rows] = True

    def get(self, rows: np.ndarray) -> np.ndarray:
        """[n, L, D] of rows that `missing` found there."""
        return self._values()[rows]

    @property
    def _bytes(self) -> int:
        return 4 * int(np.prod(self.shape)) if self.shape else 0

    def _values(self) -> np.ndarray:
        path = self.folder / "rows"
        size = path.stat().st_size // self._bytes if self._bytes and path.exists() else 0
        if not size:
            return np.zeros((0, 1, 1), np.float32)
        if self._map is None or len(self._map) != size:
            self._map = np.memmap(str(path), np.float32, "r", shape=(size, *(self.shape or ())))
        return self._map

    def _write(self, name: str, offset: int, content: bytes, fresh: bool = False) -> None:
        path = self.folder / name
        try:
            if not path.exists():
                path.touch()
            # not through the map: a full disk is an error here, and a signal there
            with open(path, "wb" if fresh else "r+b") as file:
                file.seek(offset)
                file.write(content)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error} — make room, or set SSLZOO_CACHE to another disk") from error


class FeatureCache:
    """The entries of a cache folder, of which the least recently used are removed beyond `gb` GB. gb=0: a temporary
    folder, for this process alone."""

    def __init__(self, gb: float = 0.0):
        self.gb = gb
        self._own = tempfile.TemporaryDirectory(prefix="sslzoo-features-") if gb <= 0 else None

    @property
    def folder(self) -> Path:
        return Path(self._own.name) if self._own else cache.folder() / "features"

    def opened(self, about: dict, count: int) -> Rows:
        """The entry of what `about` says: all that its features depend on."""
        return Rows(self.folder / key_of(about), about, count)

    def lock(self, rows: Rows) -> FileLock:
        """Held while an entry is filled: another process waits, then finds it there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f".{rows.folder.name}.lock")

    def trim(self) -> None:
        """Remove the entries used longest ago until `gb` GB are left. Those that are being filled stay."""
        if self._own:
            return
        found = entries()
        total = sum(size for *_, size in found)
        for folder, _, size in sorted(found, key=lambda entry: entry[0].stat().st_mtime):
            if total <= self.gb * 2**30:
                return
            total -= size * remove(folder)


def key_of(about: dict) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]


def entries() -> list[tuple[Path, dict, int]]:
    """(folder, content of about.json, bytes) of each entry of the cache."""
    found = []
    for path in sorted((cache.folder() / "features").glob("*/about.json")):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # damaged: listed, so that it can be cleared
            said = {}
        size = sum(file.stat().st_blocks * 512 for file in path.parent.iterdir())
        found.append((path.parent, said, size))
    return found


def remove(folder: Path) -> bool:
    """Remove an entry, unless another process is filling it."""
    lock = folder.parent / f".{folder.name}.lock"
    try:
        with FileLock(lock).acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
    except Timeout:
        return False
    return True


def _sum(row: np.ndarray) -> int:
    """CRC-32, but never 0, which marks a row that is not there."""
    return zlib.crc32(np.ascontiguousarray(row).data.cast("B")) or 1
