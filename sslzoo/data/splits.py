"""Which split an item belongs to, where a set does not say it itself."""

from collections.abc import Sequence

import numpy as np

from sslzoo import rng
from sslzoo.errors import UserError

SHARE = 0.1  # of the training items, for each split that a set lacks
_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}


def named(name: str) -> str | None:
    """The split that a folder, a file's stem or a manifest's entry of this name stands for, if any."""
    return _NAMES.get(name.lower())


def from_folders(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The split of each file by its first folder, and the file's name in there.

    Where no first folder is a training folder, folders are no splits: all files are for training.
    """
    heads = [named(name.split("/")[0]) if "/" in name else None for name in names]
    if "train" not in heads:
        return ["train"] * len(names), list(names)
    inner = [name if head is None else name.split("/", 1)[1] for head, name in zip(heads, names, strict=True)]
    return [head or "train" for head in heads], inner


def fill(split: Sequence[str], names: Sequence[str], where: str) -> np.ndarray:
    """[N] "train", "valid" or "test" of each item; what is missing is taken from the training items.

    split: what the set says itself. names: what decides; items of one name stay together, and where
    an item goes depends on its name alone, so that a set can grow. Raises UserError, naming `where`,
    if there are too few names to do so.
    """
    split = np.array(split, dtype="<U5")
    for wanted in ("test", "valid"):
        if (split == wanted).any():
            continue
        train = np.flatnonzero(split == "train")
        place = np.array([rng.derive_seed(wanted, names[i]) / 2**63 for i in train])
        if len(np.unique(place)) < 2:
            raise UserError(f"{where} has too few items to take a {wanted} split from its {len(train)} training items")
        # in a tiny set the hash may pick none, or most of them
        ordered = np.unique(place)
        count = np.clip((ordered < SHARE).sum(), 1, max(1, len(ordered) // 3))
        split[train[place <= ordered[count - 1]]] = wanted
    return split
