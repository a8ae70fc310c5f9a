"""The symbols of a task's transcripts."""

import numpy as np

from sslzoo.adapt.items import TranscribedItems
from sslzoo.adapt.prepared import PooledItems
from sslzoo.data.base import Data
from sslzoo.data.transcripts import Unknown
from sslzoo.errors import UserError
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Task


def encoded_transcripts(task: Task, data: Data, stride: int) -> PooledItems:
    """The items with a transcript, and its symbols; what is left out is by `task.symbols.unknown`.

    Raises UserError if a part has no transcripts, or one has what no symbol stands for.
    """
    assert task.symbols is not None
    task.symbols.load()
    pool = Pool(data)
    texts = pool.column(task.label or "transcript")
    parts = task.parts_of(pool, np.array([i for i, text in enumerate(texts) if text and text.strip()], np.int64), None)
    encoded, left = {}, dict.fromkeys(parts, 0)
    for part, places in parts.items():
        for place in places.tolist():
            try:
                encoded[place] = np.array(task.symbols.encode(texts[place]), np.int64)
            except Unknown as error:
                if task.symbols.unknown == "raise":
                    raise UserError(
                        f"task {task.name}: the transcript of {pool.names()[place]} has {error}; "
                        "task.symbols.unknown=skip leaves such utterances out"
                    ) from error
                left[part] += 1
        parts[part] = np.array([place for place in places.tolist() if place in encoded], np.int64)
        if not len(parts[part]):
            raise UserError(f"task {task.name}: {part} has no transcript in the symbols alone, of {len(places)}")
    return PooledItems(
        pool,
        parts,
        task.symbols.names,
        lambda part, opened, source, at: TranscribedItems(
            opened, source, at, [encoded[i] for i in parts[part].tolist()]
        ),
        unusable=left,
    )
