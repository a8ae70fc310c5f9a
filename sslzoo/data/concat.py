"""Concatenation of several data sets of one modality."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from sslzoo.data import stored
from sslzoo.data.base import Data, Intervals, Split
from sslzoo.data.mixture import Mixture
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.errors import ConfigError


class _Names(Sequence[str]):
    """Item names of several splits, "set: item", made on access."""

    def __init__(self, parts: Mapping[str, Split]):
        self.parts = {name: part.names for name, part in parts.items()}
        self.ends = np.cumsum([len(names) for names in self.parts.values()])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        place = range(len(self))[place]
        number = int(np.searchsorted(self.ends, place, side="right"))
        name = list(self.parts)[number]
        names = self.parts[name]
        return f"{name}: {names[place - int(self.ends[number]) + len(names)]}"

    def __iter__(self) -> Iterator[str]:
        return (f"{name}: {item}" for name, items in self.parts.items() for item in items)


class _Columns(Mapping[str, np.ndarray]):
    """The label columns of several splits, and `column`, the name of each item's set; concatenated on access.

    Items of a split without a column have the label "", or NaN if the column is float.
    """

    def __init__(self, parts: Mapping[str, Split], column: str):
        self.parts, self.column = parts, column
        self.names = [*sorted(set().union(*(part.columns for part in parts.values())) - {column}), column]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise KeyError(name)
        if name == self.column:
            return np.repeat(list(self.parts), [len(part) for part in self.parts.values()])
        held = {key: np.asarray(part.columns[name]) for key, part in self.parts.items() if name in part.columns}
        if len(held) == len(self.parts):
            return np.concatenate(list(held.values()))
        floats = all(values.dtype.kind == "f" for values in held.values())
        none = {
            key: np.full(len(part), np.nan if floats else "") for key, part in self.parts.items() if key not in held
        }
        values = [held[key] if key in held else none[key] for key in self.parts]
        return np.concatenate(values if floats else [x.astype(str) for x in values])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class ConcatSplit(Split):
    """The items of several splits, concatenated; each is read by its own split.

    Label columns are those of all parts (empty labels where a part has none) and `column`, the name of the part;
    time-aligned labels likewise. Unreadable items are skipped during a run only if all parts have on_error="skip".
    mixture: how often training draws the items of each part; None: once per epoch.
    """

    def __init__(self, parts: Mapping[str, Split], column: str = "set", mixture: Mixture | None = None):
        self.parts, self.mixture = list(parts.values()), mixture
        self.names, self.columns = _Names(parts), _Columns(parts, column)
        self.lengths = np.concatenate([part.lengths for part in self.parts])
        self.ends = np.cumsum([len(part) for part in self.parts])
        self.on_error = "skip" if all(part.on_error == "skip" for part in self.parts) else "raise"
        timed = sorted(set().union(*(part.intervals for part in self.parts)))
        none = Intervals(np.zeros(0), np.zeros(0), np.zeros(0, str))
        each = {key: [part.intervals.get(key) or [none] * len(part) for part in self.parts] for key in timed}
        self.intervals = {key: [x for part in parts for x in part] for key, parts in each.items()}

    def for_views(self) -> Split:
        parts = {name: part.for_views() for name, part in zip(self.names.parts, self.parts, strict=True)}
        return ConcatSplit(parts, self.columns.column, self.mixture)

    def _place(self, index: int) -> tuple[Split, int]:
        number = int(np.searchsorted(self.ends, index, side="right"))
        part = self.parts[number]
        return part, index - int(self.ends[number]) + len(part)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        part, place = self._place(index)
        return part.read(place, seed)

    def stamp(self) -> str | None:
        stamps = [part.stamp() for part in self.parts]
        return None if None in stamps else stored.digest(*stamps)

    def window(self, index: int, seed: int | None) -> tuple[int, int]:
        part, place = self._place(index)
        return part.window(place, seed)

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        part, place = self._place(index)
        return part.targets(place, seed)

    def align(self, grain: int) -> None:
        for part in self.parts:
            part.align(grain)

    @property
    def cut_lengths(self) -> np.ndarray:
        return np.concatenate([part.cut_lengths for part in self.parts])


class Concat(Data):
    """Data sets of one modality, by name, batched together by `batch`; their own `batch` is ignored.

    shape: {attribute: value} that all sets must have. Raises ConfigError otherwise. For texts, which share a
    vocabulary, see `text_mix`.
    """

    def __init__(self, sets: dict[str, Data], batch: ByCount | BySeconds, shape: dict[str, object]):
        if not sets:
            raise ConfigError("data.sets is empty: name at least one set")
        for name, data in sets.items():
            for key, mine in shape.items():
                theirs = getattr(data, key, None)
                if theirs != mine:
                    raise ConfigError(f"data.sets.{name} does not fit: its {key} is {theirs}, and data's is {mine}")
        self.sets, self.batch = dict(sets), batch

    def split(self, name: str) -> ConcatSplit:
        return ConcatSplit({key: data.split(name) for key, data in self.sets.items()})


class AudioMix(Concat):
    """Several audio sets as one. sample_rate: Hz, of every set."""

    modality = "speech"

    def __init__(self, sets: dict[str, Data], batch: ByCount | BySeconds, sample_rate: int = 16000):
        super().__init__(sets, batch, {"modality": self.modality, "sample_rate": sample_rate})
        self.sample_rate = batch.rate = sample_rate


class ImageMix(Concat):
    """Several image sets as one. size, channels, resolution: of every set. mean, std: of all of them together."""

    modality = "image"

    def __init__(
        self,
        sets: dict[str, Data],
        batch: ByCount,
        size: int,
        channels: int,
        mean: list[float],
        std: list[float],
        resolution: int | None = None,
    ):
        shape = {"modality": self.modality, "size": size, "channels": channels, "resolution": resolution}
        super().__init__(sets, batch, shape)
        self.size, self.channels, self.resolution = size, channels, resolution
        self.mean, self.std = list(mean), list(std)
