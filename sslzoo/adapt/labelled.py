"""Items with one label each: a class or a value."""

import numpy as np

from sslzoo.adapt.items import LabelledItems, Names
from sslzoo.adapt.prepared import PooledItems
from sslzoo.data.base import Data
from sslzoo.data.mixture import Mixture
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Task


def labelled(task: Task, data: Data, stride: int) -> PooledItems:
    """The items with a label, and their classes or values: see `Task.prepare`. With `task.balanced`, train is a mixture
    that draws each class equally often."""
    pool = Pool(data)
    found = task.prepare(pool, stride)

    def items(part: str, opened, source: np.ndarray, at: np.ndarray) -> LabelledItems:
        labels = found.parts[part].labels
        if not (task.balanced and part == "train"):
            return LabelledItems(opened, source, at, labels)
        order = np.argsort(labels, kind="stable")  # a mixture's sets are the classes, one after the other
        split = LabelledItems(opened, source[order], at[order], labels[order])
        names = Names(split)
        names.parts = found.classes or []
        split.names, split.mixture = names, Mixture.of(np.bincount(labels).tolist(), 0.0)
        return split

    return PooledItems(pool, {name: part.items for name, part in found.parts.items()}, found.classes, items)
