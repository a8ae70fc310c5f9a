"""Analyses of a run: their subject, their interface, and the findings that a report draws."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import Data, Split
from sslzoo.data.loader import collate, ordered_batches, ordered_loader
from sslzoo.data.tokenizer import Tokenizer
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.frozen import TOKENS, Frozen, units
from sslzoo.progress import Progress


@dataclass
class Subject:
    """A finished run's encoder, and a split of its data or of other data that it reads."""

    folder: Path
    encoder: Encoder
    data: Data
    split: str
    device: str = "cpu"

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def opened(self) -> Split:
        return self.data.split(self.split)

    @cached_property
    def frozen(self) -> Frozen:
        return Frozen(self.encoder, self.device)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the data. Raises ConfigError if it has none, as for text that came as ids."""
        found: Tokenizer | None = getattr(self.data, "tokenizer", None)
        if found is None:
            raise ConfigError(f"{self.folder} reads ids of {type(self.data).__name__}, which has no tokenizer")
        return found

    def items(self, places: np.ndarray, progress: Progress) -> Tensor:
        """[L, N, D], one vector per layer for each item. places: sorted indices [N] of the split."""
        found: list[Tensor] = [torch.empty(0)] * len(places)
        done = 0
        for batch in ordered_loader(self.opened, units(self.data), indices=places):
            for row, planes in zip(np.searchsorted(places, batch.index.numpy()), self.frozen.items(batch), strict=True):
                found[row] = planes
            done += len(batch)
            progress(f"features of {self.name}", done, len(places))
        return torch.stack(found, 1)

    def texts(self, ids: list[np.ndarray], progress: Progress) -> Tensor:
        """[L, N, D], one vector per layer for each of N texts, given as token ids."""
        found: list[Tensor] = [torch.empty(0)] * len(ids)
        lengths, done = np.array([len(x) for x in ids]), 0
        for rows in ordered_batches(lengths, np.arange(len(ids)), TOKENS):
            batch = collate([(torch.from_numpy(ids[row]), row, -1, {}) for row in rows])
            for row, planes in zip(rows, self.frozen.items(batch), strict=True):
                found[row] = planes
            done += len(rows)
            progress(f"features of {self.name}", done, len(ids))
        return torch.stack(found, 1)


@dataclass
class Matrix:
    """values [R][C], and the names of its rows and columns (empty: numbered)."""

    title: str
    values: list[list[float]]
    rows: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)


@dataclass
class Lines:
    """Line plots of several series over one x axis, such as layers."""

    title: str
    x: list[str]
    series: dict[str, list[float]]


@dataclass
class Plane:
    """Points [N][2], each with the name of its class or a value."""

    title: str
    points: list[list[float]]
    label: list[str] | list[float]


@dataclass
class Figure:
    """One figure of a report: matrices with a common colour scale, line plots, a numbered legend of the matrices' rows,
    and scatter plots with common colours. said: the caption."""

    title: str
    said: str = ""
    matrices: list[Matrix] = field(default_factory=list)
    lines: list[Lines] = field(default_factory=list)
    legend: list[str] = field(default_factory=list)
    planes: list[Plane] = field(default_factory=list)


@dataclass
class Findings:
    """The result of an analysis. name: of its file. summary: lines for a terminal. numbers: the rest, for JSON."""

    name: str
    summary: str
    figures: list[Figure]
    numbers: dict[str, Any]


class Analysis:
    """An analysis of what a run's encoder has learned. The constructor reads no data; any randomness is seeded.

    takes_other: whether it accepts a second run.
    """

    takes_other = False

    def check(self, subject: Subject, other: Subject | None) -> None:
        """Raise ConfigError, before any data is read, if the analysis does not apply to these runs."""

    def __call__(self, subject: Subject, other: Subject | None, progress: Progress) -> Findings:
        raise NotImplementedError

    def next_steps(self, subject: Subject) -> list[list[str]]:
        """Commands to suggest next, each as a list of words."""
        return []


def need_text(subject: Subject, what: str) -> None:
    """Raise ConfigError unless the encoder reads text."""
    if subject.encoder.modality != "text":
        raise ConfigError(f"{what} is about text, but {subject.folder} reads {subject.encoder.modality}")


def spread(count: int, most: int | None) -> np.ndarray:
    """At most `most` of range(count), evenly spaced; None: all."""
    return (
        np.arange(count) if most is None or count <= most else np.linspace(0, count - 1, most).round().astype(np.int64)
    )


def rounded(values: Tensor) -> list:
    """A tensor as nested lists for JSON. Raises UserError if it has NaN or infinite values."""
    if not torch.isfinite(values).all():
        raise UserError("the features are not finite: the run's encoder is broken, or its data are")
    return [rounded(x) if x.ndim else round(float(x), 6) for x in values]
