"""What a task's test items have in common with what was learned from before: items of the pretraining set, by content,
and speakers of the task's train."""

from typing import Any

import numpy as np

from sslzoo.data.base import Data, Split
from sslzoo.data.content import item_hashes
from sslzoo.data.text_splits import TextBlocks
from sslzoo.errors import ConfigError, UserError
from sslzoo.probe.splits import Pool
from sslzoo.progress import Progress

_SHOWN = 3


def leakage(pool: Pool, parts: dict[str, np.ndarray], pretrained_on: Data, progress: Progress, most: int) -> dict:
    """Ready for JSON: {"said": all that in words, "items": test items that lie in the pretraining set's train split,
    "of": test items, "such_as": names of some} or {"unknown": why}, and, for data with a column "speaker", "speakers":
    [those of test in train, those of test].

    Items are the same if what an encoder reads of them is, to the bit, whatever their files' names and formats. Only
    pretraining items of the length of one of test are read (all images are of one), if they are no more
    than `most`. parts: places of each part's items.
    """
    found = _items(pool, np.unique(parts["test"]), pretrained_on, progress, most)
    if "speaker" in pool.columns():
        named = pool.column("speaker")
        train, test = ({str(named[i]) for i in np.unique(parts[p])} - {"", "None"} for p in ("train", "test"))
        if test:
            found["speakers"] = [len(test & train), len(test)]
    return {**found, "said": _told(found)}


def checked_most(leakage_items: Any) -> int:
    """The setting `leakage_items`, `most` of `leakage`. Raises ConfigError."""
    if type(leakage_items) is not int or leakage_items < 0:
        raise ConfigError(f"leakage_items must be a number of items, 0 or more; got {leakage_items}")
    return leakage_items


def _items(pool: Pool, places: np.ndarray, pretrained_on: Data, progress: Progress, most: int) -> dict:
    try:
        split: Split = pretrained_on.split("train")
    except UserError as error:
        return {"unknown": f"the pretraining set cannot be read: {error}"}
    if isinstance(split, TextBlocks):
        return {"unknown": "the pretraining set is a running text, of which an item is a block"}
    alike = np.flatnonzero(np.isin(split.lengths, pool.lengths[places]))
    if len(alike) > most:
        return {
            "unknown": f"{len(alike):,} pretraining items may be in test, and {most:,} are read at most: set leakage_items"
        }
    own = next((one for one in pool.splits.values() if one is split), None)
    theirs = item_hashes(split, alike, progress) if own is None else pool.content(split, alike, progress)
    hashes = np.zeros(len(places), np.uint64)
    for part, indices, start in pool.located(places):
        hashes[np.searchsorted(places, indices + start)] = pool.content(part, indices, progress)
    leaked = np.flatnonzero(np.isin(hashes, theirs[theirs != 0]))
    names = pool.names() if len(leaked) else []
    return {"items": len(leaked), "of": len(places), "such_as": [str(names[places[i]]) for i in leaked[:_SHOWN]]}


def _told(found: dict) -> str:
    if "unknown" in found:
        said = f"test items in the pretraining set are not counted: {found['unknown']}"
    elif found["items"]:
        said = f"{found['items']:,} of {found['of']:,} test items lie in the pretraining set, such as {found['such_as'][0]}"
    else:
        said = f"none of {found['of']:,} test items lies in the pretraining set"
    if "speakers" in found:
        shared, of = found["speakers"]
        said += f"; {shared:,} of {of:,} speakers of test are in train"
    return said
