"""Text files read piece by piece: what is held in memory does not grow with a file."""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sslzoo.errors import UserError

_BLOCK = 1 << 20  # bytes that are read at a time
_LONGEST = 1 << 20  # characters of a line at most; a longer one is cut, at a space where it has one
_LINES, _CHARACTERS = 20_000, 1 << 20  # of a chunk, give or take its last line


class Repeatable(Iterable):
    """What `make()` yields, made anew each time it is gone through."""

    def __init__(self, make: Callable[[], Iterator]):
        self._make = make

    def __iter__(self) -> Iterator:
        return self._make()


def decoded(path: Path) -> Iterator[str]:
    """A UTF-8 file in pieces, without its byte order mark.

    Raises UserError, naming the first byte that is not UTF-8.
    """
    decoder, begun = codecs.getincrementaldecoder("utf-8")(), False
    try:
        with open(path, "rb") as file:
            block = None
            while block != b"":
                at = file.tell() - len(decoder.getstate()[0])  # of a character that the last block broke off
                block = file.read(_BLOCK)
                if text := decoder.decode(block, final=not block):
                    yield text if begun else text.removeprefix("\ufeff")
                    begun = True
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(
            f"{path} is not UTF-8: byte {at + error.start} is 0x{byte:02x} — convert it (iconv -f latin1 -t utf-8)"
        ) from error


def count_characters(path: Path) -> list[int]:
    """[characters of a UTF-8 file]. Raises UserError where it is not UTF-8."""
    return [sum(map(len, decoded(path)))]


def after_line_ends(path: Path, places: Sequence[int]) -> list[int]:
    """For each place, in characters, the one after the first newline from there on; itself where there is none."""
    found, missing, at = list(places), set(range(len(places))), 0
    for piece in decoded(path) if places else ():
        for i in sorted(missing):
            newline = piece.find("\n", max(places[i] - at, 0))
            if newline >= 0:
                found[i] = at + newline + 1
                missing.remove(i)
        if not missing:
            break
        at += len(piece)
    return found


def stretch(path: Path, start: int, stop: int) -> Iterator[str]:
    """The characters from `start` to `stop` of a file, in pieces."""
    at = 0
    for piece in decoded(path):
        if part := piece[max(start - at, 0) : max(stop - at, 0)]:
            yield part
        at += len(piece)
        if at >= stop:
            return


def lines(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text in pieces, with their ends, as `str.splitlines` cuts the whole of it."""
    held = ""
    for piece in pieces:
        parts = (held + piece).splitlines(keepends=True)
        held = parts.pop() if parts else ""  # the next piece may go on with it
        yield from parts
        while len(held) > _LONGEST:
            cut = held.rfind(" ", 0, _LONGEST) + 1 or _LONGEST
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


def chunked(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists that bound the memory of what is done with each."""
    chunk, characters = [], 0
    for text in texts:
        chunk.append(text)
        characters += len(text)
        if len(chunk) >= _LINES or characters >= _CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def chunks_about(characters: int) -> int:
    """How many chunks so many characters are, for a progress bar."""
    return characters // _CHARACTERS + 1
