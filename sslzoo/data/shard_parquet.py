"""Shards in Parquet: a row an item, in small row groups, of which one is decoded at a time."""

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from sslzoo.data.remote import Folder
from sslzoo.errors import UserError

GROUP = 16  # rows of a row group: what is decoded to read one item
_NEEDS = "shards in Parquet need the package pyarrow: pip install 'sslzoo[parquet]', or write format=tar"


def arrow() -> Any:
    """The package pyarrow. UserError where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(_NEEDS) from error
    return pyarrow


class ParquetShard:
    """Writes one shard. size: bytes of the items so far."""

    def __init__(self, path: Path):
        self._arrow = pa = arrow()
        kinds = {"key": pa.string(), "suffix": pa.string(), "content": pa.binary(), "about": pa.string()}
        self._schema = pa.schema(list(kinds.items()))
        self._writer = pa.parquet.ParquetWriter(path, self._schema, compression="none")
        self._rows: list[dict] = []
        self._groups = self.size = 0

    def add(self, key: str, suffix: str, content: bytes, about: bytes) -> tuple[int, int]:
        """(row group, row in it) of the item that is added."""
        place = self._groups, len(self._rows)
        self._rows.append({"key": key, "suffix": suffix, "content": content, "about": about.decode()})
        self.size += len(content)
        if len(self._rows) == GROUP:
            self._flush()
        return place

    def _flush(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema), row_group_size=GROUP)
        self._rows, self._groups = [], self._groups + 1

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()


class _Part(io.RawIOBase):
    """A file of a folder as one that pyarrow reads in places."""

    def __init__(self, folder: Folder, name: str, size: int):
        self._folder, self._name, self._size, self._at = folder, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        found = self._folder.read(self._name, self._at, stop) if stop > self._at else b""
        self._at += len(found)
        return found


@lru_cache(maxsize=16)
def _opened(process: int, path: str, name: str, folder: Folder) -> Any:
    size = folder.listing()[name][0]
    return arrow().parquet.ParquetFile(_Part(folder, name, size))


@lru_cache(maxsize=4)
def _group(process: int, path: str, name: str, group: int, folder: Folder) -> list[bytes]:
    try:
        table = _opened(process, path, name, folder).read_row_group(group, columns=["content"])
    except UserError:
        raise
    except Exception as error:  # pyarrow's own, of damaged bytes
        raise UserError(f"{folder}/{name} cannot be read: {str(error).splitlines()[0]}") from error
    return table.column("content").to_pylist()


def read_row(folder: Folder, name: str, group: int, row: int) -> bytes:
    """The bytes of an item. Raises UserError if the shard cannot be read, or has no such row."""
    found = _group(os.getpid(), folder.path, name, group, folder)
    if row >= len(found):
        raise UserError(f"{folder}/{name} has fewer items than its index says")
    return found[row]
