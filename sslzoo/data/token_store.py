"""Token ids in memory-mapped cache files, shared by all ranks and loader workers of a machine.

<cache>/<name>/ids.npy       uint16 [M] if the vocabulary fits, else uint32
<cache>/<name>/<array>.npy   other arrays

A folder is written as `.<name>.partial`, from which an interrupted `write_ids` resumes, and renamed when complete.
One process of a machine writes it, on all cores, while the others wait: the offset of an id depends on all texts
before it.
"""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from sslzoo.data import cache, labels
from sslzoo.data.base import Intervals
from sslzoo.disk import move_into_place
from sslzoo.errors import UserError
from sslzoo.progress import track
from sslzoo.run import write_json

_PROGRESS = "progress.json"
_SAVE_EVERY = 10.0  # seconds between checkpoints of the progress
_HEADER = 128  # bytes of a .npy header, fixed for any number of ids


class MappedArray(np.memmap):
    """A read-only .npy file, memory-mapped and pickled as its path; slices of it are pickled by value."""

    path: Path | None = None

    def __array_finalize__(self, obj):
        super().__array_finalize__(obj)
        self.path = None  # slices and copies are not the whole file

    def __reduce__(self):
        return (np.asarray(self).copy().__reduce__()) if self.path is None else (open_array, (self.path,))


def open_array(path: Path) -> MappedArray:
    """Memory-map a .npy file. Raises UserError if it is damaged."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False).view(MappedArray)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged: {error} — delete its folder, and it is made again") from error
    array.path = path
    return array


def open_arrays(folder: Path) -> dict[str, MappedArray]:
    """Every array in a folder, by name."""
    return {path.stem: open_array(path) for path in sorted(folder.glob("*.npy"))}


def token_dtype(vocab_size: int) -> type:
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def digest(*parts) -> str:
    """A hash of the `repr` of `parts`, 24 hex digits."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def stored(name: str, make: Callable[[Path], None]) -> Path:
    """The path of the cached folder `name`, filled by `make` if it does not exist.

    Creation is atomic, under a lock: of two processes one makes it and the other waits. After an interruption, the
    next `make` gets the folder with what was written so far.
    """
    path = cache.folder() / name
    if not path.exists():
        with cache.locked(name):
            if not path.exists():
                partial = path.with_name(f".{name}.partial")
                try:
                    partial.mkdir(exist_ok=True)
                    make(partial)
                    (partial / _PROGRESS).unlink(missing_ok=True)
                    move_into_place(partial, path)
                except OSError as error:
                    raise UserError(f"cannot write {path}: {error} — make room, or set SSLZOO_CACHE") from error
    return path


def write_ids(
    folder: Path,
    inputs: int,
    chunks: Callable[[int], Iterator[list[str]]],
    encode: Callable[[list[str]], np.ndarray],
    vocab_size: int,
    total: int,
    what: str,
) -> None:
    """`write_arrays` for one array, `ids.npy`. encode: texts to ids [n]."""
    write_arrays(folder, inputs, chunks, lambda x: {"ids": encode(x)}, {"ids": token_dtype(vocab_size)}, total, what)


def write_arrays(
    folder: Path,
    inputs: int,
    chunks: Callable[[int], Iterator],
    encode: Callable[..., dict[str, np.ndarray]],
    dtypes: dict[str, type],
    total: int,
    what: str,
) -> None:
    """Write `<name>.npy` for each name of `dtypes`: the outputs of `encode` for all chunks of all inputs, concatenated.

    inputs: their number. chunks(i): the chunks of input i, the same each time. total: approximate number of chunks,
    for the progress bar, labelled `what`. Resumes after the last chunk recorded in the folder. One chunk per core is
    encoded, and held in memory, at a time.
    """
    sizes = {name: np.dtype(dtype).itemsize for name, dtype in dtypes.items()}
    first, skip, counts = _written(folder, sizes)
    with ExitStack() as stack:
        opened = {}
        for name, size in sizes.items():
            path = folder / f"{name}.npy"
            opened[name] = stack.enter_context(open(path, "r+b" if path.exists() else "w+b"))
            opened[name].truncate(_HEADER + counts[name] * size)
            opened[name].seek(0, os.SEEK_END)

        def left() -> Iterator[tuple]:
            for i in range(first, inputs):
                for j, chunk in enumerate(chunks(i)):
                    if i > first or j >= skip:
                        yield i, j, chunk

        saved = time.monotonic()
        for i, j, made in track(_encoded(left(), encode, _cores()), what, total):
            for name, values in made.items():
                opened[name].write(values.astype(dtypes[name]).tobytes())
                counts[name] += len(values)
            if time.monotonic() - saved >= _SAVE_EVERY:
                for file in opened.values():
                    _flush(file)
                write_json(folder / _PROGRESS, [i, j + 1, counts])
                saved = time.monotonic()
        for name, file in opened.items():
            file.seek(0)
            file.write(_header(np.dtype(dtypes[name]), counts[name]))
            _flush(file)


def _encoded(chunks: Iterable[tuple], encode: Callable[..., dict], threads: int) -> Iterator[tuple]:
    """(i, j, encode(chunk)) of each (i, j, chunk), in order, with `threads` threads: tokenizers release the GIL."""
    if threads == 1:
        yield from ((i, j, encode(chunk)) for i, j, chunk in chunks)
        return
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[tuple] = deque()
        for i, j, chunk in chunks:
            begun.append((i, j, pool.submit(encode, chunk)))
            if len(begun) > threads:
                first, part, made = begun.popleft()
                yield first, part, made.result()
        yield from ((i, j, made.result()) for i, j, made in begun)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_parts(path: Path, parts: Iterable[np.ndarray], dtype: type) -> None:
    """Concatenate arrays [n] into one .npy file, with one of them in memory at a time."""
    count = 0
    with open(path, "w+b") as file:
        file.truncate(_HEADER)
        file.seek(_HEADER)
        for part in parts:
            file.write(part.astype(dtype).tobytes())
            count += len(part)
        file.seek(0)
        file.write(_header(np.dtype(dtype), count))
        _flush(file)


def _header(dtype: np.dtype, count: int) -> bytes:
    """The header of a .npy file of `count` numbers (numpy.lib.format, version 1.0)."""
    magic = b"\x93NUMPY\x01\x00"
    said = repr({"descr": dtype.str, "fortran_order": False, "shape": (count,)})
    room = _HEADER - len(magic) - 2
    return magic + room.to_bytes(2, "little") + said.ljust(room - 1).encode() + b"\n"


def _flush(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _written(folder: Path, sizes: dict[str, int]) -> tuple[int, int, dict[str, int]]:
    """(input, chunk) to resume at, and the number of elements written of each array."""
    try:
        first, skip, counts = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
        there = {name: (folder / f"{name}.npy").stat().st_size for name in sizes}
        if all(there[name] >= _HEADER + counts[name] * size for name, size in sizes.items()):
            return first, skip, counts
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, 0, dict.fromkeys(sizes, 0)


class Strings(Sequence):
    """N strings in two arrays: their UTF-8 bytes, uint8 [M], and offsets, int64 [N + 1]."""

    def __init__(self, text: np.ndarray, starts: np.ndarray):
        self.text, self.starts = text, starts

    @staticmethod
    def pack(strings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        parts = [string.encode(errors="surrogateescape") for string in strings]  # file names may be any bytes
        return np.frombuffer(b"".join(parts), np.uint8), row_starts([len(part) for part in parts])

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return self.text[self.starts[index] : self.starts[index + 1]].tobytes().decode(errors="surrogateescape")


class StringColumns(Mapping):
    """Label columns in flat arrays; strings as codes of distinct values, decoded on access (object [N]).

    arrays: column.<name>, and for strings kinds.<name> and kind_starts.<name>.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays

    @staticmethod
    def pack(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = {}
        for name, values in columns.items():
            values = np.asarray(values)
            if values.dtype.kind in "OU":
                kinds = sorted(set(values.tolist()))
                number = {kind: i for i, kind in enumerate(kinds)}
                arrays[f"kinds.{name}"], arrays[f"kind_starts.{name}"] = Strings.pack(kinds)
                values = np.array([number[value] for value in values.tolist()], np.int32)
            arrays[f"column.{name}"] = values
        return arrays

    def __getitem__(self, name: str) -> np.ndarray:
        values, kinds = self.arrays[f"column.{name}"], self.arrays.get(f"kinds.{name}")
        if kinds is None:
            return values
        return labels.column(Strings(kinds, self.arrays[f"kind_starts.{name}"]))[values]

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix("column.") for key in self.arrays if key.startswith("column."))

    def __len__(self) -> int:
        return len(list(iter(self)))


class RaggedIntervals(Sequence):
    """The `Intervals` of N items in flat arrays [M], with the offset of each item, int64 [N + 1]."""

    def __init__(self, starts: np.ndarray, start: np.ndarray, end: np.ndarray, label: np.ndarray):
        self.starts, self.start, self.end, self.label = starts, start, end, label

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        mine = slice(int(self.starts[index]), int(self.starts[index + 1]))
        return Intervals(*(np.array(array[mine]) for array in (self.start, self.end, self.label)))


def row_starts(lengths: ArrayLike) -> np.ndarray:
    """int64 [N + 1]: offsets of rows of these lengths, and the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
