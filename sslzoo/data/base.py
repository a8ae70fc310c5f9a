"""What a data set is: a cheap description, and splits of items that are opened when asked for.

A `Data` object is made without touching the disk, so that a config is checked before any data is.
`Data.split(name)` opens a split; an item is one tensor, and everything random about it (only where a
long one is cut) comes from the key that the sampler gives it. Views and masks are drawn later, on the
batch, by the objective.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslzoo import draws
from sslzoo.errors import UserError

MODALITIES = ("image", "speech", "text")
SPLITS = ("train", "valid", "test")
PAD, UNK, CLS, SEP, MASK = range(5)  # the ids of a tokenizer's special pieces
SPECIALS = 5


@dataclass
class Batch:
    """A padded batch.

    inputs: image uint8 or float in 0..1 [B, C, H, W]; speech float [B, N]; text int64 [B, T].
    lengths: int64 [B], valid samples or tokens of each row (for images, 1).
    keys: int64 [B], the seed of everything random about a row (see `sslzoo.draws`).
    index: int64 [B], each row's place in its split.
    targets: labels of frames made beforehand, by name, int64 [B, T], padded with -100.
    """

    inputs: Tensor
    lengths: Tensor
    keys: Tensor
    index: Tensor
    targets: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device, non_blocking: bool = False) -> "Batch":
        def move(x):
            return x.to(device, non_blocking=non_blocking)

        return replace(
            self,
            inputs=move(self.inputs),
            lengths=move(self.lengths),
            keys=move(self.keys),
            index=move(self.index),
            targets={k: move(v) for k, v in self.targets.items()},
        )


@dataclass
class Intervals:
    """Labels that hold for a stretch of an item, such as phones: start and end in seconds
    (for text, in token ids)."""

    start: np.ndarray
    end: np.ndarray
    label: np.ndarray


class Split(torch.utils.data.Dataset):
    """One split: `len`, `read`, and what is known of each item.

    names [N]: what to call item i in a message (its file, or its place in a file).
    lengths [N]: samples or tokens of each item, known without reading it; 1 for images.
    cut: the most samples or tokens that are read at a time in training, or None.
    grain: a cut begins at a multiple of so many samples or tokens.
    columns: label columns by name, each an array [N] of strings, integers or floats.
    intervals: time-aligned labels by name, each a list of N `Intervals`.
    """

    names: list[str]
    lengths: np.ndarray
    cut: int | None = None
    grain: int = 1
    columns: dict[str, np.ndarray]
    intervals: dict[str, list[Intervals]]

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, index: int, key: int | None = None) -> Tensor:
        """Item `index`: uint8 [C, H, W], float32 [N] or int64 [T].

        `key` seeds the place at which a long item is cut; without it, the item is whole.
        """
        raise NotImplementedError

    def window(self, index: int, key: int | None) -> tuple[int, int]:
        """First and last + 1 sample or token that `read(index, key)` takes."""
        length = int(self.lengths[index])
        if key is None or self.cut is None or length <= self.cut:
            return 0, length
        start = draws.key(key, "cut") % ((length - self.cut) // self.grain + 1) * self.grain
        return start, start + self.cut

    def align(self, grain: int) -> None:
        """Let cuts begin at multiples of `grain`."""
        self.grain = grain

    def targets(self, index: int, key: int | None = None) -> dict[str, Tensor]:
        """What is known of every frame that `read(index, key)` takes, by name: int64 [T] (see `data.targets`)."""
        return {}

    def item(self, index: int, key: int | None = None) -> tuple[Tensor, int, int, dict[str, Tensor]]:
        """A row of a batch: what `read` takes, the index, the key (-1 for none), the targets."""
        return self.read(index, key), index, -1 if key is None else key, self.targets(index, key)

    @property
    def cut_lengths(self) -> np.ndarray:
        """[N], the lengths that training reads."""
        return self.lengths if self.cut is None else np.minimum(self.lengths, self.cut)

    def column(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise UserError(f"this data has no labels '{name}'; it has: {', '.join(self.columns) or 'none'}")
        return self.columns[name]


class Data:
    """A data set as a config names it. Subclasses set `modality` and implement `split`.

    Images also say `size`, `channels`, `mean`, `std`; speech `sample_rate`; text `vocab_size` and
    `max_tokens`: an encoder's config refers to them as `${data.size}` and so on.
    """

    modality: str
    seed: int = 0
    targets = None  # a `data.targets.Targets` where `data.targets.Labelled` has joined them to the data

    def split(self, name: str) -> Split:
        """Open "train", "valid" or "test". Raises UserError with the mend where it cannot."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write what a later run needs to read other data in the same way (a tokenizer)."""

    def restore(self, folder: Path) -> None:
        """Take over what `save` wrote."""

    def describe(self, inputs: Tensor) -> str:
        """An input in words, for a report; speech and images are drawn, so only text says more."""
        return ""


def valid(lengths: Tensor, size: int) -> Tensor:
    """bool [B, size], True before each row's length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def standardize(x: Tensor, lengths: Tensor, eps: float = 1e-7) -> Tensor:
    """x [B, T, C] with zero mean and unit variance over each row's valid steps; padding becomes zero."""
    inside = valid(lengths, x.shape[1])[..., None].to(x.dtype)
    count = lengths[:, None, None].clamp(min=1)
    mean = (x * inside).sum(1, keepdim=True) / count
    var = ((x - mean).square() * inside).sum(1, keepdim=True) / count
    return (x - mean) * torch.rsqrt(var + eps) * inside


def pixels(images: Tensor) -> Tensor:
    """uint8 or float images as floats in 0..1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
