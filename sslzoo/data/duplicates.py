"""Finds duplicates across the splits of a set. Files are compared by size, then a few bytes, then whole content; texts
by their stored hashes."""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np

MOST = 20_000  # maximum files opened; those with the rarest sizes first
_FEW = 4096  # bytes compared first


def across_splits(root: Path, names: Sequence[str], split: np.ndarray, size: np.ndarray) -> list[str]:
    """Warnings about files with the same content in two splits.

    names [N]: relative to root; split [N], sorted; size [N]: bytes, 0 if unknown. Of equal files the first of train
    is the original, or else the first.
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
    """uint64 [N], hashes of texts, stripped of surrounding whitespace, or of pairs of texts."""
    whole = (text.strip() for text in texts) if pairs is None else map("{0}\0{1}".format, texts, pairs)
    parts = (hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest() for text in whole)
    return np.frombuffer(b"".join(parts), np.uint64)


def texts_across(found: Mapping[str, tuple[np.ndarray, Sequence[str]]]) -> list[str]:
    """Warnings about texts that are in two splits. found: (`text_hashes`, names [N]) of each split."""
    said = []
    for first, second in combinations(found, 2):
        (earlier, _), (hashes, names) = found[first], found[second]
        twice = np.flatnonzero(np.isin(hashes, earlier))
        if len(twice):
            many = f"{len(twice):,} of {len(hashes):,} {second} texts are"
            said.append(f"{many} in {first}, too, such as {names[int(twice[0])]}")
    return said


def _kept(group: Sequence[int], split: np.ndarray) -> int:
    """The row of a group's original: the first of train, else the first."""
    return min(group, key=lambda row: (split[row] != "train", row))


def _shared(codes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The rows whose size occurs in at least two splits, at most `MOST`."""
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
    """Groups of rows with equal keys, of keys that occur in at least two splits."""
    found: dict[Hashable, list[int]] = {}
    for key, row in zip(keys, rows.tolist(), strict=True):
        found.setdefault(key, []).append(row)
    return [group for group in found.values() if len({int(codes[row]) for row in group}) > 1]


def _hashed(read: Callable) -> Callable[[Path], bytes]:
    def of(path: Path) -> bytes:
        try:
            with open(path, "rb") as file:
                return read(file)
        except OSError:  # the path instead: it equals no other hash, and reading the file reports the error
            return str(path).encode(errors="surrogateescape")

    return of


@_hashed
def _some(file) -> bytes:
    file.seek(max(file.seek(0, 2) // 2 - _FEW // 2, 0))
    return hashlib.blake2b(file.read(_FEW)).digest()


@_hashed
def _whole(file) -> bytes:
    return hashlib.file_digest(file, "blake2b").digest()
