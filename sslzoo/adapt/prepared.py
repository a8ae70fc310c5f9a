"""What a task makes of a data set."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sslzoo.data.base import Split
from sslzoo.probe.splits import Pool


class Prepared(Protocol):
    """A task's parts of a data set, with their labels. classes: names by number, None for values. unseen: those that
    occur in valid or test but not in train."""

    @property
    def classes(self) -> list[str] | None: ...

    @property
    def unseen(self) -> list[str]: ...

    def split(self, part: str) -> Split:
        """The items of a part, each with its label."""
        ...

    def left_out(self, part: str) -> int:
        """How many items of a part cannot be used."""
        ...

    def cut_texts(self, part: str) -> int:
        """How many texts of a part were truncated, being longer than the encoder's input."""
        ...


@dataclass
class PooledItems:
    """`Prepared` from the places that each part's items have in a pool of all splits.

    items: makes a split of a part's name and of the data's splits, the split's index [M] and the index in it [M] of
    each item. unusable: how many items of each part are left out.
    """

    pool: Pool
    parts: dict[str, np.ndarray]
    classes: list[str] | None
    items: Callable[[str, list[Split], np.ndarray, np.ndarray], Split]
    unseen: list[str] = field(default_factory=list)
    unusable: dict[str, int] = field(default_factory=dict)

    def split(self, part: str) -> Split:
        places, order = self.parts[part], list(self.pool.splits)
        number = {split: i for i, split in enumerate(order)}
        source = np.array([number[split] for split in self.pool.part[places]], np.int64)
        at = places - np.array([self.pool.starts[split] for split in order])[source]
        return self.items(part, list(self.pool.splits.values()), source, at)

    def left_out(self, part: str) -> int:
        return self.unusable.get(part, 0)

    def cut_texts(self, part: str) -> int:
        return int(getattr(self.pool.splits[part], "cut_texts", 0))
