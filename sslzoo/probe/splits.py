"""The items of a data set as one pool, and the rules that split it for a task."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from sslzoo import rng
from sslzoo.data.base import SPLITS, Data, Intervals, Split
from sslzoo.data.content import item_hashes
from sslzoo.errors import ConfigError, UserError
from sslzoo.progress import Progress, quiet


class Pool:
    """All splits of a data set, concatenated; an item's place is its index, 0..N-1.

    part [N]: the name of each item's split. lengths [N]: its samples or tokens.
    rate: samples per second, to convert times of intervals; 1 where they are counted in tokens.
    """

    def __init__(self, data: Data):
        self.data, self.rate = data, getattr(data, "sample_rate", 1)
        self.splits: dict[str, Split] = {name: data.split(name) for name in SPLITS}
        sizes = [len(split) for split in self.splits.values()]
        self.starts = dict(zip(SPLITS, np.cumsum([0, *sizes[:-1]]), strict=True))
        self.part = np.repeat(SPLITS, sizes)
        self._content: dict[str, np.ndarray] = {}
        self.lengths = np.concatenate([split.lengths for split in self.splits.values()]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.part)

    def content(self, split: Split, indices: np.ndarray | None, progress: Progress = quiet) -> np.ndarray:
        """The hashes of a split's items, or of those at `indices`; see `data.content`."""
        known = next(name for name, own in self.splits.items() if own is split)
        if indices is not None and known not in self._content:
            return item_hashes(split, indices, progress)
        if known not in self._content:
            self._content[known] = item_hashes(split, None, progress)
        return self._content[known] if indices is None else self._content[known][indices]

    def names(self) -> list[str]:
        return [name for split in self.splits.values() for name in split.names]

    def columns(self) -> list[str]:
        """Names of the label columns of any split."""
        return list(dict.fromkeys(name for split in self.splits.values() for name in split.columns))

    def timed(self) -> list[str]:
        """Names of the time-aligned labels of any split."""
        return list(dict.fromkeys(name for split in self.splits.values() for name in getattr(split, "intervals", {})))

    def column(self, name: str) -> list:
        """[N], None for the items of a split without the column. Raises UserError if no split has it."""
        held = [split.columns.get(name) for split in self.splits.values()]
        if all(column is None for column in held):
            held[0] = self.splits["train"].column(name)
        columns = zip(held, self.splits.values(), strict=True)
        return [v for column, split in columns for v in ([None] * len(split) if column is None else column.tolist())]

    def intervals(self, name: str) -> list[Intervals]:
        """[N], the time-aligned labels of this name. Raises UserError if a split lacks them."""
        for split in self.splits.values():
            if name not in getattr(split, "intervals", {}):
                some = ", ".join(getattr(split, "intervals", {})) or "none"
                raise UserError(
                    f"this data has no time-aligned labels '{name}'; it has: {some}"
                    + (f"; '{name}' is a label column: set task=classification" if name in split.columns else "")
                )
        return [item for split in self.splits.values() for item in split.intervals[name]]

    def located(self, places: np.ndarray) -> Iterator[tuple[Split, np.ndarray, int]]:
        """For each split with some of `places`: (split, their indices in the split, the split's first place)."""
        for name, split in self.splits.items():
            here = places[self.part[places] == name] - self.starts[name]
            if len(here):
                yield split, here, int(self.starts[name])


class Official:
    """The data's own train, valid and test. mend (of every split class): the advice if a part lacks labels.

    disjoint: a label column, such as speaker, of which no value may be in two parts; None: none. Raises UserError,
    naming values that are.
    """

    mend = "set task/split=by_item, which splits all of the data anew"

    def __init__(self, disjoint: str | None = None):
        self.disjoint = disjoint

    def __call__(self, pool: Pool, places: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        parts = {part: places[pool.part[places] == part] for part in SPLITS}
        if self.disjoint is not None:
            column = pool.column(self.disjoint)
            held = {part: {str(column[i]) for i in at} - {"", "None"} for part, at in parts.items()}
            for one, other in combinations(SPLITS, 2):
                if shared := sorted(held[one] & held[other]):
                    some = ", ".join(shared[:3]) + (" …" if len(shared) > 3 else "")
                    raise UserError(
                        f"{len(shared)} of '{self.disjoint}' are in {one} and in {other}, and this task keeps them apart: "
                        f"{some} — set task/split=by_group task.split.column={self.disjoint}"
                    )
        return parts


def _check(valid: float, test: float) -> None:
    if min(valid, test) <= 0 or valid + test >= 1:
        raise ConfigError(f"valid and test must be shares above 0 that leave some to train on, got {valid} and {test}")


def _ordered(names, seed: int) -> np.ndarray:
    """Indices of the names, sorted by hash: the order of two names does not depend on the others."""
    return np.argsort(np.array([rng.derive_seed(seed, "split", str(name)) for name in names]), kind="stable")


def _shares(count: int, valid: float, test: float) -> tuple[int, int]:
    """(size of test, size of test and valid together) of `count`; at least one each if `count` is 3 or more."""
    some = min(1, count // 3)
    first = max(some, round(count * test))
    return first, first + max(some, round(count * valid))


def grouping(pool: Pool, column: str) -> list:
    """The column whose values make groups. Raises UserError, saying where it is named, if there is none."""
    try:
        return pool.column(column)
    except UserError as error:
        raise UserError(f"{error} — set task.split.column to the one that names speakers or other groups") from None


class ByGroup:
    """A new split of all items of the data, in which no group, such as a speaker, is in two parts.

    column: the label column with the group's name. valid, test: shares of the groups.
    """

    def __init__(self, column: str, valid: float = 0.2, test: float = 0.2, seed: int = 0):
        _check(valid, test)
        self.mend = "set task/split=by_item, or a task.split.column of which more groups have each label"
        self.column, self.valid, self.test, self.seed = column, valid, test, seed

    def __call__(self, pool: Pool, places: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        column = grouping(pool, self.column)
        groups = np.array([str(column[i]) for i in places], dtype=object)
        names = np.unique(groups)
        if len(names) < 3:
            raise UserError(
                f"{len(names)} groups of '{self.column}' cannot be split in train, valid and test: it takes 3"
            )
        first, second = _shares(len(names), self.valid, self.test)
        order = names[_ordered(names, self.seed)]
        parts = {"train": order[second:], "valid": order[first:second], "test": order[:first]}
        return {part: places[np.isin(groups, members)] for part, members in parts.items()}


class ByItem:
    """A new split of all items of the data by the hashes of their names, stratified by class."""

    def __init__(self, valid: float = 0.2, test: float = 0.2, seed: int = 0):
        _check(valid, test)
        self.mend = (
            "task/split=by_item gives each part some of a class that has three items or more: use data with more of a "
            "class"
        )
        self.valid, self.test, self.seed = valid, test, seed

    def __call__(self, pool: Pool, places: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        names = pool.names()
        chosen: dict[str, list] = {part: [] for part in SPLITS}
        strata = np.zeros(len(places)) if labels is None else labels
        for stratum in np.unique(strata):
            members = places[strata == stratum]
            members = members[_ordered([names[i] for i in members], self.seed)]
            first, second = _shares(len(members), self.valid, self.test)
            for part, cut in (
                ("test", slice(first)),
                ("valid", slice(first, second)),
                ("train", slice(second, None)),
            ):
                chosen[part].append(members[cut])
        return {part: np.sort(np.concatenate(pieces)) for part, pieces in chosen.items()}


class Fold:
    """One of several folds of all items of the data, for cross-validation: no group is in two folds.

    column: the label column with the group's name, such as IEMOCAP's session. Sorted groups go to the folds in turn.
    fold: which one is test, from 1; valid: share of the other folds' items, drawn by the hashes of their names.
    """

    def __init__(self, column: str, fold: int = 1, folds: int = 5, valid: float = 0.2, seed: int = 0):
        _check(valid, valid)
        if folds < 2 or not 1 <= fold <= folds:
            raise ConfigError(f"task.split.fold is 1 to task.split.folds, which is 2 or more; got {fold} and {folds}")
        self.mend = "take a task.split.column of which every fold has each label"
        self.column, self.fold, self.folds, self.valid, self.seed = column, fold, folds, valid, seed

    def __call__(self, pool: Pool, places: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        column, names = grouping(pool, self.column), pool.names()
        groups = np.array([str(column[i]) for i in places], dtype=object)
        known = np.unique(groups)
        if len(known) < self.folds:
            raise UserError(f"{len(known)} groups of '{self.column}' cannot be put in {self.folds} folds")
        test = np.isin(groups, known[self.fold - 1 :: self.folds])
        rest = places[~test]
        order = rest[_ordered([names[i] for i in rest], self.seed)]
        count = max(1, round(len(rest) * self.valid))
        return {"train": np.sort(order[count:]), "valid": np.sort(order[:count]), "test": places[test]}
