"""Reads text files in pieces, in constant memory."""

import codecs
import io
import logging
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

from sslzoo.data import compressed
from sslzoo.data.pointers import unfetched
from sslzoo.errors import UserError

SUFFIXES = compressed.packed(".txt")
UNREAD = (
    ".gz", ".bz2", ".xz", ".zst", ".zip", ".parquet", ".arrow", ".pdf", ".doc", ".docx", ".odt", ".epub", ".rtf",
    ".html", ".htm",
)  # fmt: skip
MEND = "unpack or convert them to .txt"
_BLOCK = 1 << 20  # bytes read at a time
_LONGEST = 1 << 20  # maximum characters of a line; longer ones are split, at a space if possible
_MARKS = {  # longer marks first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_log = logging.getLogger("sslzoo")
_LINES, CHARACTERS = 20_000, 1 << 20  # maximum lines and characters of a chunk, exceeded by its last line at most


class Repeatable(Iterable):
    """An iterable that calls `make()` for each iteration."""

    def __init__(self, make: Callable[[], Iterator]):
        self._make = make

    def __iter__(self) -> Iterator:
        return self._make()


def decoded(path: Path) -> Iterator[str]:
    """Decode a UTF-8 file in pieces, without its byte order mark. UTF-16 and UTF-32 are read, with a warning, if they
    have a byte order mark (Excel's and Notepad's "Unicode").

    Raises UserError, naming the first invalid byte and its line.
    """
    decoder, encoding, begun, line, at = None, "utf-8", False, 1, 0
    try:
        for block in chain(filter(None, compressed.blocks(path, _BLOCK)), [b""]):
            if decoder is None:
                encoding = _encoding(path, block)
                decoder = codecs.getincrementaldecoder(encoding)()
            held = len(decoder.getstate()[0])  # bytes of a character that the last block split
            if text := decoder.decode(block, final=not block):
                yield text if begun else text.removeprefix("\ufeff")
                begun = True
                line += text.count("\n")
            at += len(block)
    except UnicodeDecodeError as error:
        byte, before = error.object[error.start], error.object[: error.start]
        line += before.decode(error.encoding, "ignore").count("\n")
        mend = f"convert it: {_convert('latin1', path)}" if encoding == "utf-8" else "it may be cut off: write it anew"
        raise UserError(
            f"{path} is not {encoding.upper()}: byte {at - held + error.start} is 0x{byte:02x} (line {line}) — {mend}"
        ) from error


def _encoding(path: Path, block: bytes) -> str:
    """A file's encoding, from its first block. Raises UserError for LFS pointers, binary data, UTF-16 without mark."""
    for mark, name in _MARKS.items():
        if block.startswith(mark):
            _say_encoding(path, name)
            return name
    if said := unfetched(block):
        raise UserError(f"{path} {said}")
    if block.count(0) > len(block) / 10:
        name = "utf-16be" if block[:1] == b"\0" else "utf-16le"
        raise UserError(
            f"{path} is no text, or UTF-16 (line 1 has bytes of zero) — if it is, convert it: {_convert(name, path)}"
        )
    return "utf-8"


@cache
def _say_encoding(path: Path, name: str) -> None:
    _log.warning("%s is %s, not UTF-8, and is read as such", path, name.upper())


def _convert(encoding: str, path: Path) -> str:
    if path.suffix.lower() in compressed.SUFFIXES:
        return f"unpack it, and then iconv -f {encoding} -t utf-8"
    return f"iconv -f {encoding} -t utf-8 {shlex.quote(path.name)} > new{path.suffix}"


def rows(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text in pieces, with their ends (\\n, \\r\\n or \\r), of any length."""
    held, end = [], ""
    for piece in pieces:
        piece = end + piece
        end = "\r" if piece.endswith("\r") else ""  # the next piece may begin with \n
        for line in io.StringIO(piece.removesuffix("\r"), newline=""):
            held.append(line)
            if line.endswith(("\n", "\r")):
                yield "".join(held)
                held = []
    if held or end:
        yield "".join([*held, end])


def after_line_ends(pieces: Iterable[str], places: Sequence[int]) -> list[int]:
    """For each character offset in a text, the offset after the next newline; unchanged if there is none."""
    found, missing, at = list(places), set(range(len(places))), 0
    for piece in pieces if places else ():
        for i in sorted(missing):
            newline = piece.find("\n", max(places[i] - at, 0))
            if newline >= 0:
                found[i] = at + newline + 1
                missing.remove(i)
        if not missing:
            break
        at += len(piece)
    return found


def stretch(pieces: Iterable[str], start: int, stop: int) -> Iterator[str]:
    """Characters `start` to `stop` of a text, in pieces."""
    at = 0
    for piece in pieces:
        if part := piece[max(start - at, 0) : max(stop - at, 0)]:
            yield part
        at += len(piece)
        if at >= stop:
            return


def split_lines(text: str) -> list[str]:
    """The lines of a text with their ends (\\n, \\r\\n or \\r). `str.splitlines` also splits at form feeds, U+0085,
    U+2028 and others."""
    return list(io.StringIO(text, newline=""))


def lines(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text in pieces, with their ends (see `split_lines`), split after a million characters."""
    held = ""
    for piece in pieces:
        parts = split_lines(held + piece)
        held = parts.pop() if parts else ""  # the next piece may continue it
        yield from parts
        while len(held) > _LONGEST:
            cut = held.rfind(" ", 0, _LONGEST) + 1 or _LONGEST
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


def chunked(texts: Iterable[str]) -> Iterator[list[str]]:
    """Group texts into lists of bounded size."""
    chunk, characters = [], 0
    for text in texts:
        chunk.append(text)
        characters += len(text)
        if len(chunk) >= _LINES or characters >= CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def chunks_about(characters: int) -> int:
    """The approximate number of chunks of a text, for a progress bar."""
    return characters // CHARACTERS + 1
