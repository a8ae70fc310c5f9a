"""Files of a folder that may be anywhere: a path, or a URL that fsspec knows
(s3://…, gs://…, https://…, memory://…)."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sslzoo.errors import UserError


class Member(io.BytesIO):
    """The bytes of an item of a shard, that say as text where they are from, for messages. suffix: of the file that it
    was."""

    def __init__(self, content: bytes, where: str, suffix: str = ""):
        super().__init__(content)
        self.where, self.suffix = where, suffix

    def read_bytes(self) -> bytes:
        """All of it, as `Path.read_bytes`."""
        return self.getvalue()

    def __str__(self) -> str:
        return self.where


class Folder:
    """A folder, by its path or URL. File systems are opened in each process anew, as they are not fork-safe."""

    def __init__(self, path: str):
        self.path = str(path)
        self._opened: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict:
        return {"path": self.path, "_opened": None}

    def __str__(self) -> str:
        return self.path

    def _files(self) -> tuple[Any, str]:
        """(the file system, the folder's path in it). Raises UserError if there is none for this URL."""
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec

            try:
                system, root = fsspec.core.url_to_fs(self.path, skip_instance_cache=True)
            except (ImportError, ValueError) as error:
                raise UserError(f"cannot read {self.path}: {' '.join(str(error).split())}") from error
            self._opened = os.getpid(), system, root.rstrip("/")
        return self._opened[1:]

    @property
    def local(self) -> Path | None:
        """Its path, if it is on this machine's file system."""
        system, root = self._files()
        kinds = system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)
        return Path(root) if "file" in kinds else None

    def listing(self) -> dict[str, tuple[int, float]]:
        """{name: (bytes, time of the last change, 0 if unknown)} of the files in it and in folders below it. Raises
        UserError if it cannot be read."""
        system, root = self._files()
        try:
            found = system.find(root, detail=True)
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {_why(error)}") from error
        if not found and not system.exists(root):
            raise UserError(f"there is no folder {self.path} — set data.path to where the shards are")
        return {
            name.removeprefix(root).lstrip("/"): (int(about["size"] or 0), float(about.get("mtime") or 0))
            for name, about in sorted(found.items())
        }

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Bytes `start` to `stop` of a file, by default all. Raises UserError if that fails."""
        system, root = self._files()
        try:
            return system.cat_file(f"{root}/{name}", start, stop)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {self.path}/{name}: {_why(error)}") from error

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """A context with a file, for reading in places."""
        system, root = self._files()
        try:
            with system.open(f"{root}/{name}", "rb") as file:
                yield file
        except OSError as error:
            raise UserError(f"cannot read {self.path}/{name}: {_why(error)}") from error

    def copied(self, name: str, to: Path) -> None:
        """Copy a file to a path on this machine."""
        system, root = self._files()
        try:
            system.get_file(f"{root}/{name}", str(to))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {self.path}/{name}: {_why(error)}") from error


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "No such file"
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
