"""An in-memory cache of decoded images, shared by a process and its forked workers."""

import mmap
import weakref
import zlib

import numpy as np

LIMIT = 1 << 30  # bytes of all caches of a process together
_taken = [0]


class PixelCache:
    """Images uint8 [N, *] of a split; caches nothing if the split does not fit in what is left of `LIMIT`.

    Forked workers read and fill the same memory, so it is used once for any number of them, and grows as images are
    added. A pickled copy (spawned workers) is empty and caches nothing. An image is returned only if its checksum
    matches: another worker may be writing it.
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
        """A copy of image `index` if it is cached, else None."""
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
    """CRC-32, but never 0, which marks a missing image."""
    return zlib.crc32(picture) or 1


def _release(size: int) -> None:
    _taken[0] -= size
