"""Rows of sentences that an objective asks for, cached per seed and split as offsets in the text's token stream."""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.data.base import CLS, PAIR, SEP, Data, Split, WrappedData
from sslzoo.data.sentence_rows import RowsOfSentences
from sslzoo.data.sentences import Sentences
from sslzoo.data.text_splits import BlockNames
from sslzoo.data.token_store import digest, open_arrays, stored
from sslzoo.errors import ConfigError

_VERSION = 1  # of the cached format: increasing it invalidates old caches


class SentenceRows(Split):
    """Rows made from spans of a text's token stream: [CLS], then each part followed by [SEP]; also [SEP] at document
    ends within a part.

    spans int64 [N, 2 P]: (start, stop) of the parts. labels uint8 [N], or None. The arrays may be memory-mapped.
    """

    def __init__(self, sentences: Sentences, spans: np.ndarray, labels: np.ndarray | None):
        self.ids, self.spans, self.labels = sentences.ids, spans, labels
        self.breaks = np.asarray(sentences.starts[sentences.documents[1:-1]])
        self.names = BlockNames(sentences.name, len(spans))
        self.columns, self.intervals = {}, {}
        begins, ends = spans[:, 0::2], spans[:, 1::2]
        inner = np.searchsorted(self.breaks, ends, "left") - np.searchsorted(self.breaks, begins, "right")
        self.lengths = 1 + (ends - begins + 1 + inner).sum(1)

    @property
    def tokens(self) -> np.ndarray:
        """All ids of the text [M]."""
        return self.ids

    def read(self, index: int, seed: int | None = None) -> Tensor:
        parts: list = [[CLS]]
        for begin, end in np.asarray(self.spans[index]).reshape(-1, 2).tolist():
            inner = self.breaks[
                np.searchsorted(self.breaks, begin, "right") : np.searchsorted(self.breaks, end, "left")
            ]
            cuts = [begin, *inner.tolist(), end]
            for start, stop in itertools.pairwise(cuts):
                parts += [self.ids[start:stop], [SEP]]
        return torch.from_numpy(np.concatenate(parts).astype(np.int64))

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        return {} if self.labels is None else {PAIR: torch.tensor(int(self.labels[index]))}


class Arranged(WrappedData):
    """A text set with the rows that an objective asks for; all other attributes are those of the text set. Valid and
    test rows do not depend on the seed."""

    def __init__(self, data: Data, rows: RowsOfSentences, seed: int):
        super().__init__(data)
        self.rows, self.rows_seed = rows, seed

    def split(self, name: str) -> SentenceRows:
        text: Any = self.data
        sentences: Sentences = text.open_sentences(name)
        seed = self.rows_seed if name == "train" else 0
        make = partial(self.rows.spans, sentences, self.data.max_tokens, rng.derive_seed(seed, name))
        if sentences.ident:
            how = (_VERSION, type(self.rows).__qualname__, sorted(vars(self.rows).items()), self.data.max_tokens)
            found = open_arrays(stored(f"rows-{digest(*how, seed, name, sentences.ident)}", partial(_write, make)))
            return SentenceRows(sentences, found["spans"], found.get("labels"))
        return SentenceRows(sentences, *make())


def arranged(data: Data, objective, seed: int) -> Data:
    """The data in the rows that an objective asks for, unchanged if it asks for none.

    Raises ConfigError if the data has no sentences."""
    rows = getattr(objective, "rows", None)
    if rows is None:
        return data
    if not getattr(data, "has_sentences", False):
        raise ConfigError(
            f"{type(objective).__name__} reads the sentences of documents, and this data is of texts by themselves: choose "
            "data=plain_text, documents, wikitext or docstrings"
        )
    return Arranged(data, rows, seed)


def _write(make, folder: Path) -> None:
    for name, found in zip(("spans", "labels"), make(), strict=True):
        if found is not None:
            np.save(folder / f"{name}.npy", found, allow_pickle=False)
