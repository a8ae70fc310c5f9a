"""The items of a data set as one pool, and the rules that split it for a task."""

from collections.abc import Iterator

import numpy as np

from sslzoo import rng
from sslzoo.data.base import SPLITS, Data, Intervals, Split
from sslzoo.errors import ConfigError, UserError


class Pool:
    """All splits of a data set one after the other; an item is a place in 0..N-1.

    part [N]: the split of the data that an item lies in. lengths [N]: its samples or tokens.
    rate: units a second, to which intervals are turned; 1 where they are counted in tokens.
    """

    def __init__(self, data: Data):
        self.data, self.rate = data, getattr(data, "sample_rate", 1)
        self.splits: dict[str, Split] = {name: data.split(name) for name in SPLITS}
        sizes = [len(split) for split in self.splits.values()]
        self.starts = dict(zip(SPLITS, np.cumsum([0, *sizes[:-1]]), strict=True))
        self.part = np.repeat(SPLITS, sizes)
        self.lengths = np.concatenate([split.lengths for split in self.splits.values()]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.part)

    def names(self) -> list[str]:
        return [name for split in self.splits.values() for name in split.names]

    def columns(self) -> list[str]:
        """The label columns that a split has."""
        return list(dict.fromkeys(name for split in self.splits.values() for name in split.columns))

    def timed(self) -> list[str]:
        """The time-aligned labels that a split has."""
        return list(dict.fromkeys(name for split in self.splits.values() for name in getattr(split, "intervals", {})))

    def column(self, name: str) -> list:
        """[N], None in a split that lacks the column; refused where every split does."""
        held = [split.columns.get(name) for split in self.splits.values()]
        if all(column is None for column in held):
            held[0] = self.splits["train"].column(name)
        columns = zip(held, self.splits.values(), strict=True)
        return [v for column, split in columns for v in ([None] * len(split) if column is None else column.tolist())]

    def intervals(self, name: str) -> list[Intervals]:
        """[N], the time-aligned labels of that name."""
        for split in self.splits.values():
            if name not in getattr(split, "intervals", {}):
                some = ", ".join(getattr(split, "intervals", {})) or "none"
                raise UserError(
                    f"this data has no time-aligned labels '{name}'; it has: {some}"
                    + (f"; '{name}' is a label column: set task=classification" if name in split.columns else "")
                )
        return [item for split in self.splits.values() for item in split.intervals[name]]

    def located(self, places: np.ndarray) -> Iterator[tuple[Split, np.ndarray, int]]:
        """Each split that holds some of `places`: (split, the indices in it, its first place)."""
        for name, split in self.splits.items():
            here = places[self.part[places] == name] - self.starts[name]
            if len(here):
                yield split, here, int(self.starts[name])


class Official:
    """The data's own train, valid and test. mend: what to do where a part lacks what another has, as of any split."""

    mend = "set task/split=by_item, which splits all of the data anew"

    def __call__(self, pool: Pool, places: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        return {part: places[pool.part[places] == part] for part in SPLITS}


def _check(valid: float, test: float) -> None:
    if min(valid, test) <= 0 or valid + test >= 1:
        raise ConfigError(f"valid and test must be shares above 0 that leave some to train on, got {valid} and {test}")


def _ordered(names, seed: int) -> np.ndarray:
    """Places in the order of the hashes of their names: the same whatever else is there."""
    return np.argsort(np.array([rng.derive_seed(seed, "split", str(name)) for name in names]), kind="stable")


def _shares(count: int, valid: float, test: float) -> tuple[int, int]:
    """How many of `count` go to test and to test or valid; one at least to each if there are three."""
    some = min(1, count // 3)
    first = max(some, round(count * test))
    return first, first + max(some, round(count * valid))


class ByGroup:
    """All items of the data split anew, so that no group, such as a speaker, is in two parts.

    column: the label that names the group. valid, test: shares of the groups.
    """

    def __init__(self, column: str, valid: float = 0.2, test: float = 0.2, seed: int = 0):
        _check(valid, test)
        self.mend = "set task/split=by_item, or a task.split.column of which more groups have each label"
        self.column, self.valid, self.test, self.seed = column, valid, test, seed

    def __call__(self, pool: Pool, places: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        column = pool.column(self.column)
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
    """All items of the data split anew by the hashes of their names, each class in the same shares."""

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
