"""Which items make which step's batch: a function of (seed, step), so that any step can be started at.

An epoch is a fixed number of global batches. `ByCount` shuffles; `BySeconds` shuffles within buckets of
like length and gives each bucket as many items as fill the seconds, padding included. A rank takes
every `world`-th row of the global batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from sslzoo import rng
from sslzoo.errors import ConfigError, UserError

SPARES = 3  # items that may be read instead of one that cannot be


@dataclass
class Rows:
    """What one rank reads for a batch. index, row_seeds: int64 [B], places in the split and seeds; a seed below 0 stands
    for none: the item is read whole. global_row_seeds: int64 [N], those of the global batch, None where it is this
    rank's alone. spares: int64 [SPARES, B], what is read instead of an item that is bad; None for nothing. size: samples
    or tokens to which all rows are padded at least; 0 for the longest."""

    index: np.ndarray
    row_seeds: np.ndarray
    global_row_seeds: np.ndarray | None = None
    spares: np.ndarray | None = None
    size: int = 0

    def __len__(self) -> int:
        return len(self.index)

    def of(self, rank: int, world: int) -> "Rows":
        """A rank's rows of a global batch."""
        spares = None if self.spares is None else self.spares[:, rank::world]
        return Rows(self.index[rank::world], self.row_seeds[rank::world], self.global_row_seeds, spares, self.size)

    def parts(self, number: int) -> list["Rows"]:
        """A global batch in `number` runs of rows, each a global batch of its own."""
        cuts = np.array_split(np.arange(len(self)), number)
        return [
            Rows(self.index[c], self.row_seeds[c], self.global_row_seeds[c], self.spares[:, c], self.size) for c in cuts
        ]


class ByCount:
    """Batches of `size` items in a new random order every epoch; the last, short one is left out."""

    def __init__(self, size: int = 64):
        if size < 1:
            raise ConfigError(f"batch size must be at least 1, got {size}")
        self.size = size

    def units(self, lengths: np.ndarray) -> float:
        """How many units (padded samples or tokens) a batch may hold where order is by length."""
        return self.size * lengths.max()

    def check(self, smallest: int) -> None:
        """Refuse, before any data is touched, a batch that an objective or the ranks cannot use."""
        if self.size < smallest:
            raise ConfigError(
                f"a batch of {self.size} is too small: this objective on these ranks needs at least "
                f"{smallest} — set data.batch.size={smallest} or more"
            )

    def plan(self, lengths: np.ndarray, smallest: int) -> list[tuple[np.ndarray, int]]:
        """Buckets: the indices of each and how many of them make a batch."""
        if len(lengths) < self.size:
            raise UserError(
                f"the training split has {len(lengths)} items, fewer than a batch of {self.size} — "
                f"set data.batch.size={len(lengths)} or less"
            )
        return [(np.arange(len(lengths)), self.size)]


class BySeconds:
    """Batches of up to `seconds` of audio, in `buckets` of like length, of at most `max_items`.

    An item counts at its bucket's longest length, as padding will make it.
    """

    unit = "seconds"

    def __init__(self, seconds: float = 60.0, buckets: int = 8, max_items: int = 512):
        if seconds <= 0 or buckets < 1 or max_items < 1:
            raise ConfigError(
                f"batching needs {self.unit} > 0, buckets >= 1 and max_items >= 1; got {seconds}, {buckets}, {max_items}"
            )
        self.seconds, self.buckets, self.max_items = seconds, buckets, max_items
        self.rate = 1  # units a second: set by the data set that is batched

    def units(self, lengths: np.ndarray) -> float:
        """How many units (padded samples or tokens) a batch may hold where order is by length."""
        return max(self.seconds * self.rate, lengths.max())

    def check(self, smallest: int) -> None:
        """Refuse, before any data is touched, what cannot be batched for the objective and ranks."""
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
        # of eight items or more each, whatever the number of ranks, so that ranks see the same batches
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
    """The same for text: batches of up to `tokens`, padding included."""

    unit = "tokens"

    def __init__(self, tokens: int = 2048, buckets: int = 8, max_items: int = 512):
        super().__init__(tokens, buckets, max_items)


class StepSampler(Sampler[Rows]):
    """This rank's rows of the global batch of every step from `start` to `stop`, in `parts` parts each.

    `lengths` are the units that count for batching, after cutting. It has no length: a loop that counted
    batches from its own start would end a continued run too soon.

    to_bucket: whether a batch is padded to the longest item of its bucket, so that there are no more shapes of batches
    than buckets (twice as many in parts, or over ranks, that do not divide a batch evenly). mixture: how often the items
    of several sets are drawn, for `ByCount` alone; see `data.mixture`.
    """

    def __init__(
        self, batching, lengths, seed, start, stop, rank=0, world=1, smallest=1, parts=1, to_bucket=False, mixture=None
    ):
        lengths = np.asarray(lengths)
        self.mixture = mixture
        self.buckets = batching.plan(lengths, max(smallest, world) * parts)
        self.sizes = [int(lengths[part].max()) if to_bucket else 0 for part, _ in self.buckets]
        self.seed, self.start, self.stop, self.rank, self.world = seed, start, stop, rank, world
        self.parts = parts
        batches = [len(part) // size for part, size in self.buckets]
        self.ends = np.cumsum(batches)  # of the buckets' batches, one bucket after the other
        self.steps_per_epoch = int(self.ends[-1])
        self._epoch, self._order, self._shuffled = -1, None, []

    def _begin(self, epoch: int) -> None:
        """Shuffle the items of each bucket, and the batches."""
        if epoch != self._epoch:
            drawn = np.arange(0) if self.mixture is None else self.mixture.items(self.seed, epoch)
            self._shuffled = [
                (part if self.mixture is None else drawn[part])[
                    rng.permutation(self.seed, "items", epoch, number, n=len(part))
                ]
                for number, (part, _) in enumerate(self.buckets)
            ]
            self._order = rng.permutation(self.seed, "batches", epoch, n=self.steps_per_epoch)
            self._epoch = epoch

    def global_batch(self, step: int) -> Rows:
        """All rows of one step, over all ranks."""
        epoch, place = divmod(step, self.steps_per_epoch)
        self._begin(epoch)
        batch = int(self._order[place])
        bucket = int(np.searchsorted(self.ends, batch, side="right"))
        members, size = self._shuffled[bucket], self.buckets[bucket][1]
        first = (batch - int(self.ends[bucket]) + len(members) // size) * size
        seeds = rng.derive_row_seeds(self.seed, step, rows=np.arange(size))
        # of the same bucket, so of like length
        spares = np.stack([members[rng.derive_row_seeds(i, rows=seeds) % len(members)] for i in range(SPARES)])
        return Rows(members[first : first + size], seeds, seeds, spares, self.sizes[bucket])

    def __iter__(self) -> Iterator[Rows]:
        for step in range(self.start, self.stop):
            for part in self.global_batch(step).parts(self.parts):
                yield part.of(self.rank, self.world)
