"""Samplers: the items of each step's batch are a function of (seed, step), so training can start at any step.

An epoch is a fixed number of global batches. `ByCount` shuffles. `BySeconds` shuffles within buckets of similar
length; each bucket has the batch size that fills the seconds, with padding. A rank takes every `world`-th row of
the global batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import Sampler

from sslzoo import rng
from sslzoo.errors import ConfigError, UserError

SPARES = 3  # replacements drawn for each item, in case it cannot be read


@dataclass
class Rows:
    """The rows of a batch on one rank. index, row_seeds: int64 [B], items of the split and their seeds; a seed below 0
    means None: the item is read whole. global_row_seeds: int64 [N], seeds of the global batch; None if there is none.
    step_seed: int64 [1], the first of those of the step's whole batch, of which the global batch may be a part.
    spares: int64 [SPARES, B], replacements for unreadable items, or None. size: minimum length, in samples or tokens,
    to which rows are padded; 0: the longest row."""

    index: np.ndarray
    row_seeds: np.ndarray
    global_row_seeds: np.ndarray | None = None
    spares: np.ndarray | None = None
    size: int = 0
    step_seed: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.index)

    def of(self, rank: int, world: int) -> "Rows":
        """The rows of a global batch that `rank` reads."""
        spares = None if self.spares is None else self.spares[:, rank::world]
        own = slice(rank, None, world)
        return replace(self, index=self.index[own], row_seeds=self.row_seeds[own], spares=spares)

    def parts(self, number: int) -> list["Rows"]:
        """Split a global batch into `number` consecutive global batches."""
        cuts = np.array_split(np.arange(len(self)), number)
        return [
            replace(
                self,
                index=self.index[c],
                row_seeds=self.row_seeds[c],
                global_row_seeds=self.global_row_seeds[c],
                spares=self.spares[:, c],
            )
            for c in cuts
        ]


class ByCount:
    """Batches of `size` items, reshuffled every epoch; the last incomplete batch is dropped."""

    def __init__(self, size: int = 64):
        if size < 1:
            raise ConfigError(f"batch size must be at least 1, got {size}")
        self.size = size

    def row_units(self, lengths: np.ndarray) -> float:
        """Units of a row in a batch of items of these lengths, as `size` counts: 1 item."""
        return 1.0

    def units(self, lengths: np.ndarray) -> float:
        """Maximum units (padded samples or tokens) of a batch of `ordered_loader`."""
        return self.size * lengths.max()

    def check(self, smallest: int) -> None:
        """Raise ConfigError, before data is read, if a batch is too small for the objective and ranks."""
        if self.size < smallest:
            raise ConfigError(
                f"a batch of {self.size} is too small: this objective on these ranks needs at least "
                f"{smallest} — set data.batch.size={smallest} or more"
            )

    def plan(self, lengths: np.ndarray, smallest: int) -> list[tuple[np.ndarray, int]]:
        """Buckets: (indices, batch size) of each."""
        if len(lengths) < self.size:
            raise UserError(
                f"the training split has {len(lengths)} items, fewer than a batch of {self.size} — "
                f"set data.batch.size={len(lengths)} or less"
            )
        return [(np.arange(len(lengths)), self.size)]


class BySeconds:
    """Batches of up to `seconds` of audio and `max_items` items, from `buckets` of similar length.

    Every item counts with the longest length of its bucket, as if padded.
    """

    unit = "seconds"

    def __init__(self, seconds: float = 60.0, buckets: int = 8, max_items: int = 512):
        if seconds <= 0 or buckets < 1 or max_items < 1:
            raise ConfigError(
                f"batching needs {self.unit} > 0, buckets >= 1 and max_items >= 1; got {seconds}, {buckets}, {max_items}"
            )
        self.seconds, self.buckets, self.max_items = seconds, buckets, max_items
        self.rate = 1  # units per second; set by the data set

    def row_units(self, lengths: np.ndarray) -> float:
        """Units of a row in a batch of items of these lengths, as `seconds` counts: the longest length."""
        return float(lengths.max()) / self.rate

    def units(self, lengths: np.ndarray) -> float:
        """Maximum units (padded samples or tokens) of a batch of `ordered_loader`."""
        return max(self.seconds * self.rate, lengths.max())

    def check(self, smallest: int) -> None:
        """Raise ConfigError, before data is read, if batches are too small for the objective and ranks."""
        if self.max_items < smallest:
            raise ConfigError(
                f"data.batch.max_items={self.max_items} is too small: this objective on these ranks needs {smallest}"
            )

    def plan(self, lengths: np.ndarray, smallest: int) -> list[tuple[np.ndarray, int]]:
        if len(lengths) < smallest:
            raise UserError(
                f"the training split has {len(lengths)} items, fewer than the {smallest} that a batch needs"
            )
        order = np.argsort(lengths, kind="stable")
        # at least eight items each; independent of the number of ranks, so batches are too
        buckets = max(1, min(self.buckets, len(order) // 8))
        plan = []
        for part in np.array_split(order, buckets):
            longest = lengths[part].max() / self.rate
            size = min(int(self.seconds / longest), self.max_items, len(part))
            if size < smallest:
                raise UserError(
                    f"{smallest} items of {longest:.1f} {self.unit} do not fit in a batch of {self.seconds:g} — "
                    f"set data.batch.{self.unit}={smallest * longest:.0f} or more, or a smaller data.max_{self.unit}"
                )
            plan.append((part, size))
        return plan


class ByTokens(BySeconds):
    """As `BySeconds`, for text: batches of up to `tokens` tokens, with padding."""

    unit = "tokens"

    def __init__(self, tokens: int = 2048, buckets: int = 8, max_items: int = 512):
        super().__init__(tokens, buckets, max_items)


def parts_that_fit(batching, lengths: np.ndarray, most: float, world: int, smallest: int = 1) -> int:
    """The fewest parts of a step's batch such that no rank's share of a part is more than `most` units (those of
    `data.batch`: items, or seconds or tokens with padding). Raises UserError if one item is more."""
    parts = 1
    for members, size in batching.plan(lengths, max(smallest, world)):
        unit = batching.row_units(lengths[members])
        rows = int(most / unit + 1e-6)  # of one rank's share
        if rows < 1:
            raise UserError(
                f"an item of {unit:.4g} {getattr(batching, 'unit', 'items')} does not fit in "
                f"trainer.max_units_per_rank={most:g}: set it to {unit:.4g} or more, or make items shorter"
            )
        parts = max(parts, -(-size // (rows * world)))
    return parts


class StepSampler(Sampler[Rows]):
    """This rank's rows of the global batch of every step from `start` to `stop`, in `parts` parts each.

    lengths: units of each item, after cropping, or a function that gives them, at every epoch, so that they need not
    stay in memory. Of an epoch's order 4 bytes an item are kept. No `__len__`: a loop that counts batches from its own
    start would end a resumed run too early.

    to_bucket: pad each batch to the longest item of its bucket, so that there are at most as many batch shapes as
    buckets (twice as many if parts or ranks do not divide a batch evenly). mixture: how often items of several sets
    are drawn, with `ByCount` only; see `data.mixture`.
    """

    def __init__(
        self, batching, lengths, seed, start, stop, rank=0, world=1, smallest=1, parts=1, to_bucket=False, mixture=None
    ):
        self.mixture, self._batching, self._lengths = mixture, batching, lengths
        self._smallest = max(smallest, world) * parts
        lengths = self._now()
        buckets = self._plan(lengths)
        self.batch_sizes = [size for _, size in buckets]
        self.longest = [int(lengths[part].max()) for part, _ in buckets]  # units of the longest item of each bucket
        self.sizes = self.longest if to_bucket else [0] * len(buckets)
        self.seed, self.start, self.stop, self.rank, self.world = seed, start, stop, rank, world
        self.parts = parts
        # cumulative number of batches, bucket by bucket
        self.ends = np.cumsum([len(part) // size for part, size in buckets])
        self.steps_per_epoch = int(self.ends[-1])
        # the items of each bucket, and the order of batches, from the first batch on: workers that are forked before
        # have no copy of them
        self._epoch, self._order, self._members = -1, None, []

    def _now(self) -> np.ndarray:
        return self._lengths() if callable(self._lengths) else np.asarray(self._lengths)

    def _plan(self, lengths: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """New buckets, in the order that `batching` gives: `_begin` shuffles them in place."""
        small = np.int32 if len(lengths) < 1 << 31 else np.int64
        return [(part.astype(small), size) for part, size in self._batching.plan(lengths, self._smallest)]

    def _begin(self, epoch: int) -> None:
        """Shuffle the items within each bucket, and the order of batches."""
        if epoch != self._epoch:
            self._members = []  # before others are there
            self._members = [part for part, _ in self._plan(self._now())]
            if self.mixture is not None:
                drawn = self.mixture.items(self.seed, epoch)
                self._members = [drawn[part] for part in self._members]
            for number, part in enumerate(self._members):
                rng.shuffle(part, self.seed, "items", epoch, number)
            self._order = np.arange(self.steps_per_epoch, dtype=np.int32)
            rng.shuffle(self._order, self.seed, "batches", epoch)
            self._epoch = epoch

    def global_batch(self, step: int) -> Rows:
        """All rows of one step, over all ranks."""
        epoch, place = divmod(step, self.steps_per_epoch)
        self._begin(epoch)
        batch = int(self._order[place])
        bucket = int(np.searchsorted(self.ends, batch, side="right"))
        members, size = self._members[bucket], self.batch_sizes[bucket]
        first = (batch - int(self.ends[bucket]) + len(members) // size) * size
        seeds = rng.derive_row_seeds(self.seed, step, rows=np.arange(size))
        # of the same bucket: of similar length
        spares = np.stack([members[rng.derive_row_seeds(i, rows=seeds) % len(members)] for i in range(SPARES)])
        index = members[first : first + size].astype(np.int64)
        return Rows(index, seeds, seeds, spares.astype(np.int64), self.sizes[bucket], seeds[:1])

    def __iter__(self) -> Iterator[Rows]:
        for step in range(self.start, self.stop):
            for part in self.global_batch(step).parts(self.parts):
                yield part.of(self.rank, self.world)
