"""Assigns items to splits: from names of folders and files, or by a hash."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sslzoo import rng
from sslzoo.data.base import SPLITS
from sslzoo.errors import UserError

SHARE = 0.1  # of the training items, for each missing split
_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "development": "valid",
    "eval": "valid",
    "evaluation": "valid",
    "test": "test",
    "testing": "test",
}
_UNLABELLED = {"unlabeled", "unlabelled", "unsup", "unsupervised"}


def named(names: Iterable[str]) -> dict[str, str]:
    """The split that each name (of a folder, a file's stem, a manifest's entry) denotes; other names are omitted.

    "eval" means valid, but test if another name means valid and none means test: train, dev, eval.
    """
    names = set(names)
    found = {name: _NAMES[name.lower()] for name in names if name.lower() in _NAMES}
    late = {name for name in found if name.lower().startswith("eval")}
    if late and "test" not in found.values() and any(found[name] == "valid" for name in set(found) - late):
        found |= dict.fromkeys(late, "test")
    return found


def label(folder: str) -> str:
    """The class of a folder: its name, or "" if the name says that its files are unlabelled."""
    return "" if folder.lower() in _UNLABELLED else folder


@dataclass
class Layout:
    """split [N] of each file; inner [N]: its path within its split; notes: warnings; beside: the start of a warning
    about files outside the split folders, which count as train, or ""; see `said`."""

    split: list[str]
    inner: list[str]
    notes: list[str]
    beside: str = ""

    def said(self, done: str = "used for training") -> list[str]:
        """All warnings; done: what is done with the files outside the split folders."""
        return [*self.notes, f"{self.beside}: {done}"] if self.beside else self.notes

    def first_folders(self) -> list[str]:
        """[N], the class of each file, the first folder within its split; "" for none.

        valid or test has no classes if all its files are in one folder that train lacks (Kaggle's test/unknown,
        Tiny ImageNet's val/images).
        """
        labels = [label(name.split("/")[0]) if "/" in name else "" for name in self.inner]
        kinds = {part: set() for part in SPLITS}
        for part, kind in zip(self.split, labels, strict=True):
            kinds[part].add(kind)
        bare = [part for part in ("valid", "test") if len(kinds[part]) == 1 and not kinds[part] & kinds["train"]]
        bare = [part for part in bare if kinds["train"] != {""}]
        for part in bare:
            if kinds[part] != {""}:
                self.notes.append(
                    f"all of {part} is in {next(iter(kinds[part]))}/, no class of train: it has no labels"
                )
        return ["" if part in bare else kind for part, kind in zip(self.split, labels, strict=True)]


def layout(names: Sequence[str], where: str) -> Layout:
    """Decide whether the folders of a set are splits or classes. names: files relative to its root.

    A single folder around all others is skipped. Folders are splits if there are train and test or valid (see
    `named`), or train alone, and no other folders beside them. Files in "unlabeled" or "unsup" and files outside the
    split folders are unlabelled training files. Otherwise folders are classes. Raises UserError if splits and classes
    are mixed.
    """
    inner = list(names)
    while (top := _around(inner)) and not named([top]):
        inner = [name[len(top) + 1 :] for name in inner]
    heads = [name.split("/", 1)[0] if "/" in name else "" for name in inner]
    tops = set(heads) - {""}
    known = named(tops)
    found, others = set(known.values()), {top for top in tops if label(top)} - set(known)
    if not _plain(known, others, inner, where):
        kept = ", ".join(f"{top}/" for top in sorted(known))
        notes = [f"{where}: {kept} is taken for a class, as the folders beside it are"] if known and others else []
        return Layout(["train"] * len(inner), inner, notes)
    within = {top: known.get(top, "train") for top in tops} | {"": "train"}
    split = [within[head] for head in heads]
    for i, head in enumerate(heads):
        if head:
            inner[i] = inner[i].split("/", 1)[1] if head in known else inner[i].rsplit("/", 1)[1]
    loose = heads.count("")
    say = f"{where}: {loose} {'files lie' if loose > 1 else 'file lies'} beside {_listed(known)}"
    return Layout(split, inner, [], say if loose and found else "")


def by_file(names: Sequence[str], where: str) -> list[str] | None:
    """The split of each file from a word in its name, as in train.txt or ptb.test.txt; None if unclear.

    Files are splits if there are train and test or valid whose names are otherwise equal, up to numbers. Raises
    UserError if there are other files as well.
    """
    words = [re.split(r"[._-]+", Path(name).stem) if "/" not in name else [] for name in names]
    known = named(word for of_one in words for word in of_one)
    found = [[word for word in of_one if word in known] for of_one in words]
    rest = [tuple(w for w in of_one if w not in known and not w.isdigit() and w != "of") for of_one in words]
    kinds: dict[tuple, set[str]] = {}
    for which, hits in zip(rest, found, strict=True):
        if len(hits) == 1:
            kinds.setdefault(which, set()).add(known[hits[0]])
    plain = {which for which, kind in kinds.items() if "train" in kind and len(kind) > 1}
    if not plain:
        return None
    others = [n for n, which, hits in zip(names, rest, found, strict=True) if which not in plain or len(hits) != 1]
    if others:
        some = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
        raise UserError(
            f"{where} has files called after splits, and others beside them: {some} — move those away, or say which "
            f"are meant: data.files={{train: …, test: …}}"
        )
    return [known[hits[0]] for hits in found]


def _plain(known: dict[str, str], others: set[str], names: list[str], where: str) -> bool:
    """Whether the top-level folders are splits. Raises UserError if it is ambiguous."""
    found = set(known.values())
    if not others:
        if found == {"valid", "test"}:
            raise UserError(f"{where} has {_listed(known)}, but no train/: name the folder to train on train/")
        return "train" in found
    files = {name.split("/")[0] for name in names if name.count("/") == 1}
    if len(found) > 1 or (found == {"train"} and not files & set(known) and others <= files):
        raise UserError(
            f"{where} has splits and other folders side by side: {_listed(known)}, and {_listed(others)} — move the "
            f"others away, or into a split, or set data.path to one of them"
        )
    return False


def _around(names: Sequence[str]) -> str:
    """The one folder that contains all files, if it has subfolders; else ""."""
    top = names[0].split("/", 1)[0] if names else ""
    size = len(top) + 1
    inside = all(name.startswith(f"{top}/") for name in names)
    return top if inside and any("/" in name[size:] for name in names) else ""


def _listed(folders: Iterable[str], most: int = 5) -> str:
    folders = sorted(folders)
    return ", ".join(f"{name}/" for name in folders[:most]) + (" …" if len(folders) > most else "")


def fill(split: Sequence[str] | np.ndarray, names: Sequence[str], where: str) -> np.ndarray:
    """[N] "train", "valid" or "test" of each item; missing splits are taken from the training items.

    split: as the set defines it. names: hashed to choose; items of one name stay together, and an item's split
    depends on its name alone, so it stays when the set grows. Raises UserError, naming `where`, if there are too
    few names.
    """
    split = np.array(split, dtype="<U5")
    for wanted in ("test", "valid"):
        if (split == wanted).any():
            continue
        train = np.flatnonzero(split == "train")
        place = np.array([rng.derive_seed(wanted, names[i]) / 2**63 for i in train])
        if len(np.unique(place)) < 2:
            raise UserError(f"{where} has too few items to take a {wanted} split from its {len(train)} training items")
        # in a tiny set the threshold may select none or most items
        ordered = np.unique(place)
        count = np.clip((ordered < SHARE).sum(), 1, max(1, len(ordered) // 3))
        split[train[place <= ordered[count - 1]]] = wanted
    return split
