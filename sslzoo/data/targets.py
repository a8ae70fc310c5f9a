"""Labels of frames that `sslzoo label` made, joined to the data that they were made from.

    <folder>/label.json        what they are: clusters, hop, sample_rate, the source, a hash of every split
    <folder>/<split>.codes.npy   uint16 or int32 [sum of frames], item after item
    <folder>/<split>.starts.npy  int64 [N + 1], where each item's begin
    <folder>/codebook.safetensors
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import Data, Split
from sslzoo.errors import ConfigError, UserError

CODES = "codes"  # the name of the targets in a batch


def fingerprint(split: Split) -> str:
    """16 characters that stand for a split's items: their names and lengths."""
    found = hashlib.sha256("\n".join(split.names).encode())
    found.update(np.asarray(split.lengths, np.int64).tobytes())
    return found.hexdigest()[:16]


class Targets:
    """A folder of labels. clusters: how many kinds there are. hop: samples from one label to the next, at
    `sample_rate`. Raises ConfigError where there is no such folder or it is not finished."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / "label.json").exists():
            raise ConfigError(f"targets={folder} holds no label.json: make targets with `sslzoo label`")
        self.said = json.loads((self.folder / "label.json").read_text())
        self.clusters, self.hop = self.said["clusters"], self.said["hop"]
        self.sample_rate = self.said["sample_rate"]

    def join(self, name: str, split: Split) -> "LabelledSplit":
        """A split with its labels. Raises UserError where they were made from other data."""
        known = self.said["splits"].get(name)
        if known is None:
            raise UserError(f"{self.folder} has no targets of the {name} split: label that split too")
        if known["hash"] != fingerprint(split):
            raise UserError(
                f"{self.folder} was made from other data: its {name} split has {known['items']} items, this one has "
                f"{len(split)}, or they have other names or lengths — run `sslzoo label` on this data"
            )
        codes, starts = (
            np.load(self.folder / f"{name}.{kind}.npy", mmap_mode="r", allow_pickle=False) for kind in (CODES, "starts")
        )
        if len(starts) != len(split) + 1 or starts[-1] != len(codes):
            raise UserError(f"{self.folder}/{name}.codes.npy is damaged: it holds {len(codes)} labels, not {starts[-1]}")
        return LabelledSplit(split, codes, starts, self.hop)


class LabelledSplit(Split):
    """A split whose items carry labels. A cut begins at a label's first sample, and its labels move with it."""

    def __init__(self, split: Split, codes: np.ndarray, starts: np.ndarray, hop: int):
        self.split, self.codes, self.starts, self.hop = split, codes, starts, hop
        self.names, self.lengths, self.cut = split.names, split.lengths, split.cut
        self.columns, self.intervals = split.columns, split.intervals
        split.align(hop)

    @property
    def cut_lengths(self) -> np.ndarray:
        return self.split.cut_lengths

    def read(self, index: int, key: int | None = None) -> Tensor:
        return self.split.read(index, key)

    def window(self, index: int, key: int | None) -> tuple[int, int]:
        return self.split.window(index, key)

    def targets(self, index: int, key: int | None = None) -> dict[str, Tensor]:
        start, stop = self.window(index, key)
        mine = self.codes[self.starts[index] : self.starts[index + 1]]
        mine = mine[start // self.hop : -(-stop // self.hop)]
        return {CODES: torch.from_numpy(mine.astype(np.int64))}


class Labelled(Data):
    """A data set with targets: in all else the data set itself."""

    def __init__(self, data: Data, targets: Targets):
        rate = getattr(data, "sample_rate", None)
        if rate != targets.sample_rate:
            raise ConfigError(
                f"targets={targets.folder} are of audio at {targets.sample_rate} Hz, but the data is read at {rate}: "
                "run `sslzoo label` on this data"
            )
        self.data, self.targets, self.seed = data, targets, data.seed

    def __getattr__(self, name: str):  # sample_rate, batch and whatever else the data set says of itself
        return getattr(self.__dict__["data"], name)

    @property
    def modality(self) -> str:
        return self.data.modality

    def split(self, name: str) -> LabelledSplit:
        return self.targets.join(name, self.data.split(name))

    def save(self, folder: Path) -> None:
        self.data.save(folder)

    def restore(self, folder: Path) -> None:
        self.data.restore(folder)

    def describe(self, inputs: Tensor) -> str:
        return self.data.describe(inputs)
