"""Items with a class per word or frame."""

from sslzoo.adapt.items import TaggedItems
from sslzoo.adapt.prepared import PooledItems
from sslzoo.data.base import Data
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Task


def tagged(task: Task, data: Data, stride: int) -> PooledItems:
    """The items with time-aligned labels: see `Task.prepare_tags`."""
    pool = Pool(data)
    label, parts, classes, unseen = task.prepare_tags(pool)
    rate = None if data.modality == "text" else pool.rate
    return PooledItems(
        pool,
        parts,
        classes,
        lambda part, opened, source, at: TaggedItems(opened, source, at, label, classes, stride, rate),
        unseen,
    )
