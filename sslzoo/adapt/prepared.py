"""What a task makes of a data set."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sslzoo.data.base import Split


@dataclass
class Prepared:
    """parts: the places in the pool of each part's items. classes: names by number. split: makes a part of its name and of
    the data's splits, the split's index [M] and the index in it [M] of each item. left_out: how many items of each part
    cannot be used."""

    parts: dict[str, np.ndarray]
    classes: list[str]
    split: Callable[[str, list[Split], np.ndarray, np.ndarray], Split]
    left_out: dict[str, int] = field(default_factory=dict)
