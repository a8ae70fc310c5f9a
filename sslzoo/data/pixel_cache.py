"""Decoded pictures, kept in memory that a process and the workers it starts have in common."""

import mmap
import weakref
import zlib

import numpy as np

LIMIT = 1 << 30  # bytes that all of a process's caches may take together
_taken = [0]


class PixelCache:
    """Pictures uint8 [N, *] of a split; nothing is kept of a split that does not fit in what is left of `LIMIT`.

    Workers that are forked read and fill the same memory, so that it is taken once, however many there are;
    memory grows as pictures are put into it. To a process that is started otherwise it goes empty, and stays so.
    A picture is trusted only if its checksum is right: another worker may be writing it.
    """

    def __init__(self, shape: tuple[int, ...]):
        self._pixels = self._sums = None
        size = int(np.prod(shape)) + 4 * shape[0]
        if 0 < size <= LIMIT - _taken[0]:
            _taken[0] += size
            weakref.finalize(self, _release, size)
            memory = np.frombuffer(mmap.mmap(-1, size), np.uint8)
            self._sums = memory[: 4 * shape[0]].view(np.uint32)
            self._pixels = memory[4 * shape[0] :].reshape(shape)

    def get(self, index: int) -> np.ndarray | None:
        """A copy of picture `index`, if it was put here."""
        if self._pixels is None or not (checksum := self._sums[index]):
            return None
        found = self._pixels[index].copy()
        return found if _checksum(found) == checksum else None

    def put(self, index: int, picture: np.ndarray) -> None:
        if self._pixels is not None:
            self._pixels[index] = picture
            self._sums[index] = _checksum(picture)

    def __reduce__(self):
        return PixelCache, ((0, 0),)


def _checksum(picture: np.ndarray) -> int:
    """Never 0, which stands for a picture that is not there."""
    return zlib.crc32(picture) or 1


def _release(size: int) -> None:
    _taken[0] -= size
