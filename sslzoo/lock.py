"""File locks, so that one process at a time writes to a folder; a lock ends with its process."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sslzoo.errors import UserError

HELD = "SSLZOO_HELD"  # environment variable: the folders locked by this process's ancestors
PATIENCE = 30.0  # seconds to wait for the children of a killed process, such as loader workers, to end


@contextmanager
def sole_writer(folder: Path, first: bool = True, name: str = "", patience: float = 0.0) -> Iterator[None]:
    """A context that locks a folder, or only `name` in it: another process that enters it gets a UserError with host
    and pid. The folder is created, and removed afterwards if still empty.

    first: whether this is the first rank of a launch, which locks for all ranks. Child processes started inside may
    write too. patience: seconds to wait for the other process.
    """
    path = Path(folder) / (f".{name}.lock" if name else ".lock")
    said, here = path.with_name(f"{path.name}.holder"), str(path.resolve())
    inherited = os.environ.get(HELD, "")
    if not first or here in inherited.split("\n"):
        yield
        return
    made = not path.parent.exists()
    lock = _acquired(path, said, Path(folder) / name, patience)
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
    """The process that has locked a folder, in words; None if none has."""
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


def _acquired(path: Path, said: Path, written: Path, patience: float) -> FileLock | None:
    """The acquired lock; None if the file system has no locks or is read-only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {path.parent}: {error.strerror} — choose another root=…") from error
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=patience)
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
    """Whether the process was on this host and has ended."""
    if found is None or found[0] != socket.gethostname():
        return False
    try:
        os.kill(found[1], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
