"""Data sets that need no download: each is made from installed packages and cached."""

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sslzoo.data import cache
from sslzoo.errors import UserError


def cached_arrays(
    name: str, sources: Sequence[str], ingredients: tuple, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays that `make` returns, cached under a hash of `ingredients` and of the `sources`.

    sources: source files of the code that makes them, so that edits invalidate the cache. Raises UserError if the
    cached file is damaged or cannot be written.
    """
    code = b"".join(Path(source).read_bytes() for source in sources)
    digest = hashlib.sha256(code + repr(ingredients).encode()).hexdigest()[:16]

    def write(path: Path) -> None:
        with open(path, "wb") as file:  # np.savez would append .npz to a path
            np.savez(file, **make())

    path = cache.cached_file(f"{name}-{digest}.npz", write)
    try:
        with np.load(path, allow_pickle=False) as found:
            return dict(found)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged: {error} — delete it, and it is made again") from error
