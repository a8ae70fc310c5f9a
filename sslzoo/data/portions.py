"""Splits of one text file: train is its beginning, valid and test its end."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sslzoo.data import text_files
from sslzoo.errors import ConfigError

SHARE = 0.05  # of the file's characters, for each split without its own file


def check_shares(shares: dict[str, float], files: dict[str, str]) -> None:
    if not shares or set(shares) - {"valid", "test"} or min(shares.values()) <= 0 or sum(shares.values()) >= 1:
        message = f"data.shares gives valid and test parts of the text above 0 and together below 1; got {shares}"
        raise ConfigError(message)
    if both := sorted(set(shares) & set(files)):
        raise ConfigError(f"{both[0]} is in data.files and in data.shares: leave out one of them")


@dataclass(frozen=True)
class Portion:
    """One of 1 + `parts` consecutive parts of a file: each part after 0 has its share, by default a twentieth."""

    root: Path
    name: str
    size: int  # characters of the file
    part: int = 0
    parts: int = 0
    shares: tuple[float, ...] | None = None

    @property
    def cuts(self) -> list[int]:
        """Character offsets at which the parts but the last end; `bounds` moves default ones to line ends."""
        if self.shares is not None:
            return [int(self.size * (1 - sum(self.shares[i:]))) for i in range(self.parts)]
        return [round(self.size * (1 - SHARE * (self.parts - i))) for i in range(self.parts)]

    @property
    def about(self) -> int:
        """Its approximate number of characters (within a line)."""
        ends = [0, *self.cuts, self.size]
        return ends[self.part + 1] - ends[self.part]

    def bounds(self, pieces: Iterable[str]) -> tuple[int, int]:
        """(start, stop) of this part in characters. pieces: the whole text."""
        cuts = self.cuts
        if self.shares is None:  # a text without line ends is cut between characters
            cuts = text_files.after_line_ends(pieces, cuts)
        ends = [0, *cuts, self.size]
        return ends[self.part], ends[self.part + 1]
