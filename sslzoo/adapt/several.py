"""The classes of a task about several label columns at once."""

import numpy as np

from sslzoo.adapt.items import LabelledItems
from sslzoo.adapt.prepared import PooledItems
from sslzoo.data.base import Data
from sslzoo.errors import UserError
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Task


def several_classes(task: Task, data: Data, stride: int) -> PooledItems:
    """The items with a class in every column of `task.label`, with their class numbers [M, K], counted in each column;
    the classes of all columns in turn, as "column=class".

    Raises UserError if a part is empty, or if valid or test has a class that train lacks.
    """
    pool = Pool(data)
    columns = (task.label or "").split("+")
    values = np.array([["" if x is None else str(x) for x in pool.column(name)] for name in columns], dtype=object)
    parts = task.parts_of(pool, np.flatnonzero((values != "").all(0)), None)
    numbers, names = {part: np.empty((len(at), len(columns)), np.int64) for part, at in parts.items()}, []
    for k, column in enumerate(columns):
        known = np.unique(values[k, parts["train"]].astype(str))
        for part, at in parts.items():
            found = values[k, at].astype(str)
            strange = np.setdiff1d(found, known)
            if len(strange):
                raise UserError(
                    f"task {task.name}: {part} has classes of '{column}' that train has not: {', '.join(strange[:5])} — "
                    f"{task.split.mend}"
                )
            numbers[part][:, k] = np.searchsorted(known, found)
        names += [f"{column}={value}" for value in known]
    return PooledItems(
        pool, parts, names, lambda part, opened, source, at: LabelledItems(opened, source, at, numbers[part])
    )
