"""Sets that need no download: each is made once from what is installed here, and then read from the cache."""

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
    """The arrays that `make` returns, made once for these `ingredients` and read from the cache after that.

    sources: the files of the code that makes them, so that an edited recipe is made again. Raises UserError
    where the cached file is damaged or cannot be written.
    """
    code = b"".join(Path(source).read_bytes() for source in sources)
    digest = hashlib.sha256(code + repr(ingredients).encode()).hexdigest()[:16]

    def write(path: Path) -> None:
        with open(path, "wb") as file:  # a name would be given an ending
            np.savez(file, **make())

    path = cache.cached_file(f"{name}-{digest}.npz", write)
    try:
        with np.load(path, allow_pickle=False) as found:
            return dict(found)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged: {error} — delete it, and it is made again") from error
