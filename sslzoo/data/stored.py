"""Named arrays in one memory-mapped file, and lists of strings stored in such a file.

A rank that opens a file of ten million names copies none of them: pages are read on access and shared by the ranks
and workers of a machine. Pickling stores only the path.

Layout: the arrays, each aligned to 64 bytes; a JSON header; the header's length as 8 bytes, little-endian.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sslzoo.data import labels
from sslzoo.errors import UserError

_ALIGN, _CHUNK = 64, 1 << 16

Rows = slice | np.ndarray  # indices into a file's arrays: a slice, or int64 [N]


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of a file written by `write`, memory-mapped. meta: the JSON stored with them.

    mode: "r+" makes the arrays writable. Raises OSError if the file does not exist, ValueError if it is not such a
    file.
    """

    def __init__(self, path: Path, mode: str = "r"):
        self.path, self._header = Path(path), _header(Path(path))
        self.meta: dict = self._header["meta"]
        self._map = np.memmap(path, np.uint8, mode)

    @property
    def ident(self) -> str:
        """The hash of the content that was passed to `write`, or ""."""
        return self._header["ident"]

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, offset = self._header["arrays"][name]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        # asarray: indexing a `memmap` returns a `memmap` scalar, a microsecond slower per element
        return np.asarray(self._map[offset : offset + size]).view(dtype).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._header["arrays"])

    def __len__(self) -> int:
        return len(self._header["arrays"])

    def __reduce__(self):
        return _again, (self.path, self.ident)


def _again(path: Path, ident: str) -> Arrays:
    arrays = Arrays(path)
    if arrays.ident != ident:
        raise UserError(f"{path} was made anew while it was in use: the data has changed — start again")
    return arrays


def write(path: Path, arrays: Mapping[str, np.ndarray], meta: dict, ident: str = "") -> None:
    """Write arrays and `meta` (JSON) to one file. ident: a hash of the content."""
    places = {}
    with open(path, "wb") as file:
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            file.write(bytes(-file.tell() % _ALIGN))
            places[name] = [array.dtype.str, list(array.shape), file.tell()]
            array.tofile(file)
        _trail(file, {"arrays": places, "meta": meta, "ident": ident})


def rewrite_meta(path: Path, meta: dict, ident: str) -> None:
    """Replace `meta` and `ident` of a file; its arrays are unchanged."""
    header = _header(path) | {"meta": meta, "ident": ident}
    with open(path, "r+b") as file:
        file.seek(-8, 2)
        file.seek(-8 - int.from_bytes(file.read(8), "little"), 2)
        file.truncate()
        _trail(file, header)


def _trail(file, header: dict) -> None:
    text = json.dumps(header).encode()
    file.write(text + len(text).to_bytes(8, "little"))


def _header(path: Path) -> dict:
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 8, 0))
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"{path} is cut off")
        file.seek(size - 8 - length)
        return json.loads(file.read(length))


def encode(field: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays for `Names(arrays, field)`: the names joined, each followed by a newline, and their start offsets."""
    encoded = [name.encode(errors="surrogateescape") for name in names]  # file names may be any bytes
    ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1)
    blob = b"\n".join(encoded) + b"\n" if encoded else b""
    return {field: np.frombuffer(blob, np.uint8), f"{field}.starts": np.concatenate([[0], ends]).astype(np.int64)}


class Names(Sequence[str]):
    """Strings [N] stored by `encode` as `field` in a file of arrays; rows: a subset of them."""

    def __init__(self, arrays: Arrays, field: str = "names", rows: Rows | None = None):
        self.arrays, self.field = arrays, field
        self._blob, self._starts = arrays[field], arrays[f"{field}.starts"]
        self.rows = slice(0, len(self._starts) - 1) if rows is None else rows

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start if isinstance(self.rows, slice) else len(self.rows)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return Names(self.arrays, self.field, narrowed(self.rows, place))
        row = self.rows[place] if isinstance(self.rows, np.ndarray) else range(self.rows.start, self.rows.stop)[place]
        return self._blob[self._starts[row] : self._starts[row + 1] - 1].tobytes().decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _CHUNK):  # offsets in chunks: ten times faster
            rows = narrowed(self.rows, slice(first, min(first + _CHUNK, len(self))))
            starts = self._starts[:-1][rows].tolist()
            for start, stop in zip(starts, self._starts[1:][rows].tolist(), strict=True):
                yield self._blob[start : stop - 1].tobytes().decode(errors="surrogateescape")

    def __eq__(self, other) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None

    def __repr__(self) -> str:
        some = ", ".join(map(repr, self[:3]))
        return f"Names({some}{', …' if len(self) > 3 else ''}; {len(self)})"

    def __reduce__(self):
        return Names, (self.arrays, self.field, self.rows)


class Columns(Mapping[str, np.ndarray]):
    """Label columns stored as integer codes of distinct values; decoded on access, to strings [N] (object)."""

    def __init__(self, arrays: Arrays, names: Sequence[str], rows: Rows):
        self.arrays, self.names, self.rows = arrays, list(names), rows

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise KeyError(name)
        return labels.column(Names(self.arrays, f"column.{name}.kinds"))[self.arrays[f"column.{name}"][self.rows]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @staticmethod
    def encode(name: str, values: Sequence[str]) -> dict[str, np.ndarray]:
        """Arrays of a column to store: codes int32 [N], and the sorted distinct values."""
        values = [str(value) for value in values]
        kinds = sorted(set(values))
        code = {kind: i for i, kind in enumerate(kinds)}
        codes = np.fromiter((code[value] for value in values), np.int32, len(values))
        return {f"column.{name}": codes, **encode(f"column.{name}.kinds", kinds)}


def narrowed(rows: Rows, part: Rows) -> Rows:
    """`rows` indexed by `part`."""
    if isinstance(rows, np.ndarray):
        return rows[part]
    if isinstance(part, np.ndarray):
        return rows.start + part
    chosen = range(rows.start, rows.stop)[part]
    return slice(chosen.start, chosen.stop) if chosen.step == 1 else np.array(chosen, np.int64)


def joined(names: Sequence[str]) -> Iterator[bytes]:
    """The pieces of "\\n".join(names) in UTF-8, for hashing."""
    if isinstance(names, Names) and isinstance(names.rows, slice) and len(names):
        first, last = (int(names._starts[row]) for row in (names.rows.start, names.rows.stop))
        yield names._blob[first : last - 1].data
        return
    for first in range(0, len(names), _CHUNK):
        yield (b"\n" if first else b"") + "\n".join(names[first : first + _CHUNK]).encode(errors="surrogateescape")


def digest(*parts) -> str:
    """A hash of arrays and strings, 20 hex digits."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            found.update(part.encode(errors="surrogateescape"))
        elif len(part):
            found.update(np.ascontiguousarray(part).data.cast("B"))
    return found.hexdigest()[:20]
