"""Frame labels made by `sslzoo label`, joined to the data that they were made from.

<folder>/label.json          clusters, hop, sample_rate, a hash of each split; written last
<folder>/<split>.codes.npy   uint16 or int32 [sum of frames], item after item, signed
<folder>/<split>.starts.npy  int64 [N + 1], offset of each item's labels, signed
<folder>/codebook.safetensors
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslzoo.data import stored
from sslzoo.data.base import Data, Split, WrappedData
from sslzoo.errors import ConfigError, UserError
from sslzoo.run import check_signed

CODES = "codes"  # key in `Batch.targets`


def fingerprint(split: Split) -> str:
    """A hash of a split's item names and lengths, 16 hex digits."""
    found = hashlib.sha256()
    for piece in stored.joined(split.names):
        found.update(piece)
    found.update(np.asarray(split.lengths, np.int64).tobytes())
    return found.hexdigest()[:16]


@dataclass(frozen=True)
class PlannedTargets:
    """The attributes of `Targets` that are not made yet."""

    folder: Path
    clusters: int
    hop: int
    sample_rate: int


class Targets:
    """A folder of labels. clusters: number of classes. hop: samples between labels, at `sample_rate`.
    Raises ConfigError if the folder does not exist or is not finished."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ConfigError(f"there is no folder targets={folder}: make targets with `sslzoo label`")
        if not (self.folder / "label.json").exists():
            raise ConfigError(f"targets={folder} holds no label.json: not finished — run its `sslzoo label` again")
        try:
            self.info = json.loads((self.folder / "label.json").read_text(encoding="utf-8"))
            self.clusters, self.hop, self.sample_rate = (int(self.info[k]) for k in ("clusters", "hop", "sample_rate"))
            self.splits = {name: (split["hash"], split["items"]) for name, split in self.info["splits"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"targets={folder}: its label.json is damaged — make targets with `sslzoo label`"
            ) from error

    def join(self, name: str, split: Split) -> "LabelledSplit":
        """Add its labels to a split. Raises UserError if they were made from other data or are damaged."""
        if name not in self.splits:
            some = ", ".join(self.splits)
            raise UserError(f"{self.folder} has targets of {some}, but not of the {name} split: label that split too")
        hashed, items = self.splits[name]
        if hashed != fingerprint(split):
            raise UserError(
                f"{self.folder} was made from other data: its {name} split has {items} items, this one has "
                f"{len(split)}, or they have other names or lengths — run `sslzoo label` on this data"
            )
        codes, starts = (self._read(f"{name}.{kind}.npy") for kind in (CODES, "starts"))
        if len(starts) != len(split) + 1 or starts[-1] != len(codes):
            raise UserError(
                f"{self.folder}/{name}.codes.npy holds {len(codes)} labels, and {name}.starts.npy is not of that many: "
                "delete the folder, and run `sslzoo label` again"
            )
        return LabelledSplit(split, codes, starts, self.hop)

    def _read(self, name: str) -> np.ndarray:
        check_signed(self.folder / name, "delete the folder, and run `sslzoo label` again")
        return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)


class LabelledSplit(Split):
    """A split with frame labels. Crops start at a label's first sample; labels are cropped with the items."""

    def __init__(self, split: Split, codes: np.ndarray, starts: np.ndarray, hop: int):
        self.split, self.codes, self.starts, self.hop = split, codes, starts, hop
        self.names, self.lengths, self.cut = split.names, split.lengths, split.cut
        self.columns, self.intervals, self.on_error = split.columns, split.intervals, split.on_error
        self.align(hop)

    @property
    def cut_lengths(self) -> np.ndarray:
        return self.split.cut_lengths

    def align(self, grain: int) -> None:
        self.grain = grain
        self.split.align(grain)

    def for_views(self) -> Split:
        split = self.split.for_views()
        return self if split is self.split else LabelledSplit(split, self.codes, self.starts, self.hop)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        return self.split.read(index, seed)

    def stamp(self) -> str | None:
        return self.split.stamp()

    def window(self, index: int, seed: int | None) -> tuple[int, int]:
        return self.split.window(index, seed)

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        start, stop = self.window(index, seed)
        mine, length = self.codes[self.starts[index] : self.starts[index + 1]], int(self.lengths[index])
        if stop - start < length:
            # frames must lie within the input: a crop has as many fewer than length // hop as the whole item has
            lacking = length // self.hop - len(mine)
            first = start // self.hop
            mine = mine[first : first + max((stop - start) // self.hop - lacking, 1)]
        return {CODES: torch.from_numpy(mine.astype(np.int64))}


class Labelled(WrappedData):
    """A data set with targets; all other attributes are those of the data set."""

    def __init__(self, data: Data, targets: Targets | PlannedTargets):
        super().__init__(data)
        self.targets = targets

    def split(self, name: str) -> LabelledSplit:
        return self.targets.join(name, self.data.split(name))
