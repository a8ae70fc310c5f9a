"""The interface of data sets: `Data`, its `Split`s, and `Batch`.

Constructing a `Data` object does not touch the disk, so a config is checked before any data is read.
`Data.split(name)` opens a split. An item is one tensor; its only randomness, the position at which a long item
is cropped, comes from the seed that the sampler passes. Views and masks are drawn later, on the batch, by the
objective.
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
PAD, UNK, CLS, SEP, MASK = range(5)  # ids of a tokenizer's special tokens
SPECIALS = 5
PAIR = "pair"  # key of `Batch.targets` for sentence pairs: 0 if the second follows the first, else 1


@dataclass
class Batch:
    """A padded batch. `inputs` are on the model's device. All other tensors stay in host memory, where Python can read
    them without a device synchronization, and are copied to the device when needed.

    inputs: image uint8 or float in 0..1 [B, C, H, W]; speech float [B, N]; text int64 [B, T].
    lengths: int64 [B] on the host, valid samples or tokens in each row (1 for images).
    row_seeds: int64 [B] on the host, the seed of all random draws for each row (see `sslzoo.rng`).
    index: int64 [B] on the host, each row's index in its split.
    targets: labels by name, on the host: frame labels made by `sslzoo label`, int64 [B, T] padded with -100, or
    one number per row [B].
    global_row_seeds: int64 [N] on the host, the seeds of all rows of the global batch; rank r has rows r, r + world, ….
    None: the batch is not part of a global batch.
    step_seed: see `seed`.
    host_inputs: text only, a copy of the inputs in host memory; see `ids`.
    skipped: number of rows whose item could not be read and was replaced by another. errors: the error messages of the
    first three of those items at most.
    """

    inputs: Tensor
    lengths: Tensor
    row_seeds: Tensor
    index: Tensor
    targets: dict[str, Tensor] = field(default_factory=dict)
    global_row_seeds: Tensor | None = None
    step_seed: Tensor | None = None
    host_inputs: Tensor | None = None
    skipped: int = 0
    errors: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def ids(self) -> Tensor:
        """The inputs in host memory (text)."""
        return self.inputs if self.host_inputs is None else self.host_inputs

    @property
    def seed(self) -> Tensor:
        """int64 [1], for draws of the whole batch: the seed of the first row of the step's batch, which is the same on
        all ranks and, with accumulation, in all parts of a step."""
        if self.step_seed is not None:
            return self.step_seed
        return (self.row_seeds if self.global_row_seeds is None else self.global_row_seeds)[:1]

    def rows(self) -> list[int] | None:
        """Number of rows of the global batch on each rank; None without `global_row_seeds`."""
        if self.global_row_seeds is None:
            return None
        return [
            len(range(r, len(self.global_row_seeds), distributed.world_size())) for r in range(distributed.world_size())
        ]

    def gathered_row_seeds(self) -> Tensor:
        """Seeds of the global batch in the order of all_gather: rank by rank."""
        if self.global_row_seeds is None:
            return self.row_seeds
        return torch.cat(
            [self.global_row_seeds[r :: distributed.world_size()] for r in range(distributed.world_size())]
        )

    def to(self, device: torch.device | str) -> "Batch":
        """A copy with its inputs on `device`; from pinned memory the transfer is asynchronous."""
        text = self.inputs.dtype == torch.int64
        moved = self.inputs.to(device, non_blocking=torch.device(device).type != "cpu")
        return replace(self, inputs=moved, host_inputs=self.ids if text else None)

    def pin_memory(self) -> "Batch":
        """A copy in pinned memory; called by torch's DataLoader."""
        return replace(
            self,
            **{name: getattr(self, name).pin_memory() for name in ("inputs", "lengths", "row_seeds", "index")},
            targets={name: x.pin_memory() for name, x in self.targets.items()},
        )


@dataclass
class Intervals:
    """Time-aligned labels of an item, such as phones: start and end in seconds (for text, in token positions)."""

    start: np.ndarray
    end: np.ndarray
    label: np.ndarray


class Split(torch.utils.data.Dataset):
    """One split of a data set: items, their lengths and their labels.

    names [N]: the name of item i in messages (its file, or file and line).
    lengths [N]: samples or tokens in each item, known without reading it; 1 for images.
    cut: maximum samples or tokens of an item that training reads; longer items are cropped. None: no limit.
    grain: crops start at multiples of this many samples or tokens.
    columns: label columns by name, each an array [N] of strings (object), integers or floats.
    intervals: time-aligned labels by name, each a list of N `Intervals`.
    mixture: how often training draws each item (a `data.mixture.Mixture`); None: once per epoch.
    on_error: what a loader does with an unreadable item: "raise", or "skip", which reads another item of similar
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

        seed: of the position at which a long item is cropped; None reads the whole item.
        """
        raise NotImplementedError

    def file(self, index: int) -> Any:
        """The file that holds item `index` and nothing else (a path, or an item of a shard); None: there is none."""
        return None

    def window(self, index: int, seed: int | None) -> tuple[int, int]:
        """(start, stop): the samples or tokens that `read(index, seed)` returns."""
        length = int(self.lengths[index])
        if seed is None or self.cut is None or length <= self.cut:
            return 0, length
        start = rng.derive_seed(seed, "cut") % ((length - self.cut) // self.grain + 1) * self.grain
        return start, start + self.cut

    def for_views(self) -> "Split":
        """The same items for cropping views: images at `data.resolution` instead of `data.size`, if it is set."""
        return self

    def align(self, grain: int) -> None:
        """Let crops start at multiples of `grain`."""
        self.grain = grain

    def stamp(self) -> str | None:
        """A hash that changes whenever what `read` returns may have changed, found without reading the items; None
        where there is none (see `data.content`)."""
        return None

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        """Frame labels of what `read(index, seed)` returns, by name: int64 [T] (see `data.targets`)."""
        return {}

    def item(self, index: int, seed: int | None = None) -> tuple[Tensor, int, int, dict[str, Tensor]]:
        """A row of a batch: (`read`'s tensor, index, seed or -1 for None, targets)."""
        return self.read(index, seed), index, -1 if seed is None else seed, self.targets(index, seed)

    @property
    def cut_lengths(self) -> np.ndarray:
        """[N], item lengths after cropping."""
        return self.lengths if self.cut is None else np.minimum(self.lengths, self.cut)

    def column(self, name: str) -> np.ndarray:
        if name not in self.columns:
            some = ", ".join(self.columns) or "none"
            raise UserError(f"this data has no labels '{name}'; it has: {some}{nearest(name, self.columns)}")
        return self.columns[name]


class Data:
    """A data set, as constructed from a config. Subclasses set `modality` and implement `split`.

    Image sets also have `size`, `channels`, `mean`, `std`; speech `sample_rate`; text `vocab_size` and
    `max_tokens`. An encoder's config refers to them as `${data.size}` and so on.
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
    targets: Any = None  # a `data.targets.Targets` if wrapped by `data.targets.Labelled`

    def split(self, name: str) -> Split:
        """Open "train", "valid" or "test". Raises UserError, saying how to fix it, if that fails."""
        raise NotImplementedError

    @property
    def real_vocab_size(self) -> int:
        """Text: the tokenizer's actual number of ids, at most `vocab_size`. Opens the data."""
        return self.vocab_size

    @property
    def is_continuation(self) -> np.ndarray:
        """Text: bool [V], ids that continue a word (such as ##ing). Opens the data."""
        return np.zeros(self.real_vocab_size, bool)

    @property
    def unigram_entropy(self) -> float:
        """Text: unigram entropy of the training split in nats; infinite if unknown. Opens the data."""
        return math.inf

    def save(self, folder: Path) -> None:
        """Write what a later run needs to read other data the same way (a tokenizer)."""

    def restore(self, folder: Path) -> None:
        """Load what `save` wrote."""

    def describe(self, inputs: Tensor) -> str:
        """An input as text, for a report; "" for speech and images, which are drawn instead."""
        return ""


class WrappedData(Data):
    """Base of wrappers around a data set: all other attributes are those of `data`."""

    def __init__(self, data: Data):
        self.data, self.seed = data, data.seed

    def __getattr__(self, name: str) -> Any:  # sample_rate, batch and other attributes
        if name == "data":  # not set yet: the object is being copied
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
    """[text of `ids`, text of `more`]; decoded together, as `more` may begin inside a word."""
    text, whole = describe(ids), describe(torch.cat([ids, more]))
    return [text, whole[len(text) :]]


def maskable(ids: Tensor) -> Tensor:
    """bool [B, T], as `ids`: True for text tokens and [UNK]; False for [PAD], [CLS], [SEP], [MASK]."""
    return (ids >= SPECIALS) | (ids == UNK)
