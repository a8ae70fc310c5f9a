"""One process at a time writes in a folder, by a lock that ends with its process, however that ends."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sslzoo.errors import UserError

HELD = "SSLZOO_HELD"  # the folders that this process's ancestors hold
PATIENCE = 30.0  # seconds in which what a killed process has begun, such as its loader's workers, ends too


@contextmanager
def sole_writer(folder: Path, first: bool = True, name: str = "") -> Iterator[None]:
    """Inside, no other process may write to the same folder, or of it to `name` alone: it would raise UserError, naming
    host and process. The folder is made, and is gone again afterwards where nothing was written to it.

    first: whether this is the first of a launch's ranks; it holds the folder for all of them. A process that was begun
    within is let through.
    """
    path = Path(folder) / (f".{name}.lock" if name else ".lock")
    said, here = path.with_name(f"{path.name}.holder"), str(path.resolve())
    inherited = os.environ.get(HELD, "")
    if not first or here in inherited.split("\n"):
        yield
        return
    made = not path.parent.exists()
    lock = _acquired(path, said, Path(folder) / name)
    os.environ[HELD] = f"{inherited}\n{here}".strip()
    try:
        yield
    finally:
        os.environ[HELD] = inherited
        if lock is not None:
            for file in (said, path):
                with suppress(OSError):
                    file.unlink()
            lock.release()
        if made:
            with suppress(OSError):
                path.parent.rmdir()  # holds nothing


def holder(folder: Path) -> str | None:
    """The process that writes to a folder, in words; None where none does."""
    path = Path(folder) / ".lock"
    if not path.exists():
        return None
    lock = FileLock(path)
    try:
        with lock.acquire(timeout=0):
            return None
    except Timeout:
        return _words(_read(path.with_name(f"{path.name}.holder")))
    except (OSError, NotImplementedError):
        return None


def _acquired(path: Path, said: Path, written: Path) -> FileLock | None:
    """The lock, held; None where the file system has none, or lets nobody write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {path.parent}: {error.strerror} — choose another root=…") from error
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            lock.acquire(timeout=PATIENCE if _ended(_read(said)) else 0)
    except Timeout:
        raise UserError(
            f"{written} is being written by another process ({_words(_read(said))}): wait for it, or end it"
        ) from None
    except (OSError, NotImplementedError):
        return None
    with suppress(OSError):
        said.write_text(f"{socket.gethostname()} {os.getpid()}\n", encoding="utf-8")
    return lock


def _read(said: Path) -> tuple[str, int] | None:
    try:
        host, process = said.read_text(encoding="utf-8").split()
        return host, int(process)
    except (OSError, ValueError):
        return None


def _words(found: tuple[str, int] | None) -> str:
    return "it does not say which" if found is None else f"pid {found[1]} on {found[0]}"


def _ended(found: tuple[str, int] | None) -> bool:
    """Whether a process of this host is no more."""
    if found is None or found[0] != socket.gethostname():
        return False
    try:
        os.kill(found[1], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
