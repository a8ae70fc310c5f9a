"""The same content in two splits of a set. Files are found by size, then by a few bytes, then by all of them; texts by
their hashes, which are kept with them."""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np

MOST = 20_000  # files that are opened; of more the ones whose sizes are rarest
_FEW = 4096  # bytes


def across_splits(root: Path, names: Sequence[str], split: np.ndarray, size: np.ndarray) -> list[str]:
    """What should be said of files of one content in two splits.

    names [N]: relative to root; split [N], ordered: the first of two splits that a file is in is the one it is said
    to be of; size [N]: bytes, 0 where they are not known.
    """
    codes = np.unique(split, return_inverse=True)[1]
    rows = _shared(codes, size)
    with ThreadPoolExecutor() as workers:
        for read in (_some, _whole):
            keys = workers.map(lambda row, read=read: read(root / names[row]), rows.tolist())
            groups = _groups([(int(size[row]), key) for row, key in zip(rows, keys, strict=True)], rows, codes)
            rows = np.array([row for group in groups for row in group], np.int64)
    if not groups:
        return []
    held_out = [row for group in groups for row in group if split[row] != split[_kept(group, split)]]
    row, of = held_out[0], next(_kept(group, split) for group in groups if held_out[0] in group)
    some = f"such as {names[row]} ({split[row]}), which is {names[of]} ({split[of]})"
    many = f"{len(held_out)} files have" if len(held_out) > 1 else "1 file has"
    return [f"{root}: {many} the content of a file of another split, {some}"]


def text_hashes(texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
    """uint64 [N], of each text, with its second one where there are pairs; blanks around a text are none of it."""
    whole = (text.strip() for text in texts) if pairs is None else map("{0}\0{1}".format, texts, pairs)
    parts = (hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest() for text in whole)
    return np.frombuffer(b"".join(parts), np.uint64)


def texts_across(found: Mapping[str, tuple[np.ndarray, Sequence[str]]]) -> list[str]:
    """What should be said of texts that are in two splits. found: of each split its `text_hashes` and names [N]."""
    said = []
    for first, second in combinations(found, 2):
        (earlier, _), (hashes, names) = found[first], found[second]
        twice = np.flatnonzero(np.isin(hashes, earlier))
        if len(twice):
            many = f"{len(twice):,} of {len(hashes):,} {second} texts are"
            said.append(f"{many} in {first}, too, such as {names[int(twice[0])]}")
    return said


def _kept(group: Sequence[int], split: np.ndarray) -> int:
    """The file of a group that others are said to be copies of: one of train, if there is one."""
    return min(group, key=lambda row: (split[row] != "train", row))


def _shared(codes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The rows whose size is found in two splits or more, at most `MOST`."""
    order = np.argsort(size, kind="stable")
    order = order[size[order] > 0]
    if not len(order):
        return order
    starts = np.flatnonzero(np.diff(size[order], prepend=-1))
    of = codes[order]
    mixed = np.minimum.reduceat(of, starts) != np.maximum.reduceat(of, starts)
    counts = np.diff(starts, append=len(order))
    rarest = np.argsort(np.where(mixed, counts, len(order) + 1), kind="stable")[: int(mixed.sum())]
    rarest = rarest[np.cumsum(counts[rarest]) <= MOST]
    taken = np.repeat(np.isin(np.arange(len(starts)), rarest), counts)
    return np.sort(order[taken])


def _groups(keys: Sequence[Hashable], rows: np.ndarray, codes: np.ndarray) -> list[list[int]]:
    """The rows of one key, of keys that are found in two splits or more."""
    found: dict[Hashable, list[int]] = {}
    for key, row in zip(keys, rows.tolist(), strict=True):
        found.setdefault(key, []).append(row)
    return [group for group in found.values() if len({int(codes[row]) for row in group}) > 1]


def _hashed(read: Callable) -> Callable[[Path], bytes]:
    def of(path: Path) -> bytes:
        try:
            with open(path, "rb") as file:
                return read(file)
        except OSError:  # named by whoever reads it
            return str(path).encode(errors="surrogateescape")

    return of


@_hashed
def _some(file) -> bytes:
    file.seek(max(file.seek(0, 2) // 2 - _FEW // 2, 0))
    return hashlib.blake2b(file.read(_FEW)).digest()


@_hashed
def _whole(file) -> bytes:
    return hashlib.file_digest(file, "blake2b").digest()
