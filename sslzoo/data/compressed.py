"""Reads files in blocks, decompressing gzip (.gz) and zstandard (.zst); no file is held in memory."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath

from sslzoo.errors import UserError

SUFFIXES = (".gz", ".zst")
_PART = 1 << 16  # compressed bytes decompressed at a time; they may expand many times


def packed(*suffixes: str) -> tuple[str, ...]:
    """These suffixes, also with .gz and .zst appended."""
    return tuple(suffix + end for suffix in suffixes for end in ("", *SUFFIXES))


def kind(name: str | PurePath) -> str:
    """A file's lowercase suffix without compression: ".jsonl" for "a.jsonl.gz"."""
    path = PurePath(str(name).lower())
    return PurePath(path.stem).suffix if path.suffix in SUFFIXES else path.suffix


def blocks(path: Path, size: int) -> Iterator[bytes]:
    """Decompressed bytes of a file, about `size` at a time. Raises UserError if it is cut off or damaged."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".zst":
            yield from _zstandard(path)
            return
        with gzip.open(path) if suffix == ".gz" else open(path, "rb") as file:
            while block := file.read(size):
                yield block
    except EOFError as error:
        raise UserError(f"{path} is cut off: its compressed data ends early — get it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is no gzip file, or damaged ({error}) — get it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _zstandard(path: Path) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        message = f"reading {path} needs the package zstandard: pip install 'sslzoo[zstd]', or unpack it (zstd -d)"
        raise UserError(message) from error
    frame, begun = zstandard.ZstdDecompressor().decompressobj(), False
    try:
        with open(path, "rb") as file:
            while part := file.read(_PART):
                while part:  # a file may have several frames
                    if frame.eof:
                        frame = zstandard.ZstdDecompressor().decompressobj()
                    begun = True
                    yield frame.decompress(part)
                    part = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise UserError(f"{path} is no zstandard file, or damaged ({error}) — get it again") from error
    if begun and not frame.eof:
        raise EOFError
