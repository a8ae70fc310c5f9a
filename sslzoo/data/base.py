"""What a data set is: a cheap description, and splits of items that are opened when asked for.

A `Data` object is made without touching the disk, so that a config is checked before any data is.
`Data.split(name)` opens a split; an item is one tensor, and everything random about it (only where a
long one is cut) comes from the seed that the sampler gives it. Views and masks are drawn later, on the
batch, by the objective.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sslzoo import distributed, rng
from sslzoo.errors import UserError, nearest

MODALITIES = ("image", "speech", "text")
SPLITS = ("train", "valid", "test")
PAD, UNK, CLS, SEP, MASK = range(5)  # the ids of a tokenizer's special pieces
SPECIALS = 5
PAIR = "pair"  # in `Batch.targets`, of a row of two parts: 0 where the second goes on with the first, else 1


@dataclass
class Batch:
    """A padded batch. `inputs` are where the model is; all else stays in host memory, where Python may read it
    without waiting for an accelerator, and goes to the device as it is needed.

    inputs: image uint8 or float in 0..1 [B, C, H, W]; speech float [B, N]; text int64 [B, T].
    lengths: int64 [B] on the host, valid samples or tokens of each row (for images, 1).
    row_seeds: int64 [B] on the host, the seed of everything random about a row (see `sslzoo.rng`).
    index: int64 [B] on the host, each row's place in its split.
    targets: what is known of a row beforehand, by name, on the host: labels of frames made by `sslzoo label`,
    int64 [B, T] padded with -100, or one number a row [B].
    global_row_seeds: int64 [N] on the host, the seeds of all rows of the global batch; rank r has rows r, r + world, ….
    None stands for a batch of this rank alone.
    host_inputs: the inputs in host memory, for ids of text; see `ids`.
    skipped: rows whose item could not be read, and another was read instead. errors: what was wrong with the first of
    those items, a line each, three at most.
    """

    inputs: Tensor
    lengths: Tensor
    row_seeds: Tensor
    index: Tensor
    targets: dict[str, Tensor] = field(default_factory=dict)
    global_row_seeds: Tensor | None = None
    host_inputs: Tensor | None = None
    skipped: int = 0
    errors: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def ids(self) -> Tensor:
        """The inputs in host memory (text)."""
        return self.inputs if self.host_inputs is None else self.host_inputs

    def rows(self) -> list[int] | None:
        """How many rows of the global batch each rank has; None where only this rank's are known."""
        if self.global_row_seeds is None:
            return None
        return [
            len(range(r, len(self.global_row_seeds), distributed.world_size())) for r in range(distributed.world_size())
        ]

    def gathered_row_seeds(self) -> Tensor:
        """The seeds of the global batch in the order in which ranks are gathered: rank by rank."""
        if self.global_row_seeds is None:
            return self.row_seeds
        return torch.cat(
            [self.global_row_seeds[r :: distributed.world_size()] for r in range(distributed.world_size())]
        )

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its inputs on `device`; from pinned memory the copy is asynchronous."""
        text = self.inputs.dtype == torch.int64
        moved = self.inputs.to(device, non_blocking=torch.device(device).type != "cpu")
        return replace(self, inputs=moved, host_inputs=self.ids if text else None)

    def pin_memory(self) -> "Batch":
        """In memory that a GPU copies from while the host goes on; torch's loader calls it."""
        return replace(
            self,
            **{name: getattr(self, name).pin_memory() for name in ("inputs", "lengths", "row_seeds", "index")},
            targets={name: x.pin_memory() for name, x in self.targets.items()},
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
    columns: label columns by name, each an array [N] of strings (object), integers or floats.
    intervals: time-aligned labels by name, each a list of N `Intervals`.
    mixture: how often training draws the items (a `data.mixture.Mixture`); None for each once an epoch.
    on_error: what a loader does with an item that cannot be read: "raise", or "skip", which reads another of like
    length instead.
    """

    names: Sequence[str]
    lengths: np.ndarray
    cut: int | None = None
    grain: int = 1
    mixture: Any = None
    on_error: str = "raise"
    columns: Mapping[str, np.ndarray]
    intervals: dict[str, list[Intervals]]

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        """Item `index`: uint8 [C, H, W], float32 [N] or int64 [T].

        `seed` seeds the place at which a long item is cut; without it, the item is whole.
        """
        raise NotImplementedError

    def window(self, index: int, seed: int | None) -> tuple[int, int]:
        """First and last + 1 sample or token that `read(index, seed)` takes."""
        length = int(self.lengths[index])
        if seed is None or self.cut is None or length <= self.cut:
            return 0, length
        start = rng.derive_seed(seed, "cut") % ((length - self.cut) // self.grain + 1) * self.grain
        return start, start + self.cut

    def for_views(self) -> "Split":
        """The same items as views that crop want them: images that are larger than `data.size`, if they are kept."""
        return self

    def align(self, grain: int) -> None:
        """Let cuts begin at multiples of `grain`."""
        self.grain = grain

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        """What is known of every frame that `read(index, seed)` takes, by name: int64 [T] (see `data.targets`)."""
        return {}

    def item(self, index: int, seed: int | None = None) -> tuple[Tensor, int, int, dict[str, Tensor]]:
        """A row of a batch: what `read` takes, the index, the seed (-1 for none), the targets."""
        return self.read(index, seed), index, -1 if seed is None else seed, self.targets(index, seed)

    @property
    def cut_lengths(self) -> np.ndarray:
        """[N], the lengths that training reads."""
        return self.lengths if self.cut is None else np.minimum(self.lengths, self.cut)

    def column(self, name: str) -> np.ndarray:
        if name not in self.columns:
            some = ", ".join(self.columns) or "none"
            raise UserError(f"this data has no labels '{name}'; it has: {some}{nearest(name, self.columns)}")
        return self.columns[name]


class Data:
    """A data set as a config names it. Subclasses set `modality` and implement `split`.

    Images also say `size`, `channels`, `mean`, `std`; speech `sample_rate`; text `vocab_size` and
    `max_tokens`: an encoder's config refers to them as `${data.size}` and so on.
    """

    modality: str
    size: int
    channels: int
    mean: list[float]
    std: list[float]
    sample_rate: int
    vocab_size: int
    max_tokens: int
    batch: Any  # how items are batched: see `data.sampler`
    seed: int = 0
    targets: Any = None  # a `data.targets.Targets` where `data.targets.Labelled` has joined them to the data

    def split(self, name: str) -> Split:
        """Open "train", "valid" or "test". Raises UserError with the mend where it cannot."""
        raise NotImplementedError

    @property
    def real_vocab_size(self) -> int:
        """Text: how many ids its tokenizer knows, at most `vocab_size`; this opens the data."""
        return self.vocab_size

    @property
    def is_continuation(self) -> np.ndarray:
        """Text: which ids go on the word before them, bool [V]; this opens the data."""
        return np.zeros(self.real_vocab_size, bool)

    @property
    def unigram_entropy(self) -> float:
        """Text: the entropy, in nats, of how frequent each token is in the training split; this opens the data. Infinite
        where it is not known."""
        return math.inf

    def save(self, folder: Path) -> None:
        """Write what a later run needs to read other data in the same way (a tokenizer)."""

    def restore(self, folder: Path) -> None:
        """Take over what `save` wrote."""

    def describe(self, inputs: Tensor) -> str:
        """An input in words, for a report; speech and images are drawn, so only text says more."""
        return ""


class WrappedData(Data):
    """A data set to which something is joined: in all else the data set itself."""

    def __init__(self, data: Data):
        self.data, self.seed = data, data.seed

    def __getattr__(self, name: str) -> Any:  # sample_rate, batch and whatever else the data set says of itself
        if name == "data":  # not there yet: a copy is being made
            raise AttributeError(name)
        return getattr(self.data, name)

    @property
    def real_vocab_size(self) -> int:
        return self.data.real_vocab_size

    @property
    def is_continuation(self) -> np.ndarray:
        return self.data.is_continuation

    @property
    def unigram_entropy(self) -> float:
        return self.data.unigram_entropy

    def save(self, folder: Path) -> None:
        self.data.save(folder)

    def restore(self, folder: Path) -> None:
        self.data.restore(folder)

    def describe(self, inputs: Tensor) -> str:
        return self.data.describe(inputs)


def continuation(describe: Callable[[Tensor], str], ids: Tensor, more: Tensor) -> list[str]:
    """A text, and how it goes on: the first of `more` may be a piece of its last word."""
    text, whole = describe(ids), describe(torch.cat([ids, more]))
    return [text, whole[len(text) :]]


def maskable(ids: Tensor) -> Tensor:
    """bool like `ids` [B, T]: pieces that stand for text, [UNK] among them; not [PAD], [CLS], [SEP], [MASK]."""
    return (ids >= SPECIALS) | (ids == UNK)
