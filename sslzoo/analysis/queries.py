"""Query by example: finding the utterances in which the word of a spoken query is said, without any training."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sslzoo.analysis.base import Analysis, Figure, Findings, Lines, Subject, spread
from sslzoo.analysis.dtw import frame_distances, subsequence_costs
from sslzoo.data.base import Split
from sslzoo.data.loader import ordered_loader
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.frozen import units
from sslzoo.progress import Progress

SHORTEST = 5  # frames of a query; a shorter one scores 0 everywhere
BETA = (
    1 / 100 * (1 / 0.0008 - 1)
)  # of a false alarm beside a miss, in QUESST 2014: costs 1 and 100, 8 in 10,000 are true


class QueryByExample(Analysis):
    """SUPERB's query-by-example spoken term detection (Yang et al. 2021, section 3.1), by s3prl's rules: features of a
    layer are standardised over the split, a document's score is minus the cost of the query's best subsequence in it,
    standardised over the documents of a query, and a layer is scored by MTWV. The layer is chosen on valid and scored
    on test.

    Data with queries and documents of their own (QUESST 2014) are asked by these. Of others, label is the column whose
    class is the term of an item, and a document has the term of the queries of its class. queries, documents: how many
    of each split, at most; None: all, of other data half of it queries. Items are one or the other.
    """

    def __init__(self, label: str = "word", queries: int | None = 60, documents: int | None = 300):
        if min(2 if x is None else x for x in (queries, documents)) < 2:
            raise ConfigError(f"analysis=qbe needs queries and documents of 2 or more, got {queries} and {documents}")
        self.label, self.queries, self.documents = label, queries, documents

    def check(self, subject: Subject, other: Subject | None) -> None:
        if subject.encoder.modality != "speech" or "tokens" not in subject.encoder.offers:
            raise ConfigError(f"analysis=qbe is about frames of speech, and {subject.folder} has none")

    def __call__(self, subject: Subject, other: Subject | None, progress: Progress) -> Findings:
        found = {part: self.by_layer(subject, part, progress) for part in ("valid", "test")}
        layers = subject.frozen.layers[: len(found["valid"])]
        best = int(np.argmax(found["valid"]))
        told = f"MTWV {100 * found['test'][best]:.1f} on test by layer {layers[best]}, which valid chose"
        figure = Figure("Query by example", told, lines=[Lines("MTWV by layer", list(layers), found)])
        numbers = {
            "mtwv": found["test"][best],
            "layer": layers[best],
            "layers": layers,
            "by_layer": found,
            "label": self.label,
        }
        return Findings("qbe", f"{subject.name}: {told}", [figure], numbers)

    def by_layer(self, subject: Subject, part: str, progress: Progress) -> list[float]:
        """MTWV of each layer on a part of the data. Features of documents are not kept: they are read twice, first for
        their mean and scale."""
        asked, queries, searched, documents, true = self.trials(subject, part)
        kept: dict[int, Tensor] = {}
        scale, done, count = Moments(), 0, 2 * len(documents) + len(queries)
        for split, places in ((asked, queries), (searched, documents)):
            for index, planes, lengths in frames(subject, split, places):
                rows = [one[:length] for one, length in zip(planes, lengths.tolist(), strict=True)]
                scale.add(torch.cat(rows))
                if split is asked:
                    kept |= {i: one for i, one in zip(index, rows, strict=True) if i in queries}
                progress(f"features of {part}", done := done + len(index), count)
        mean, std = scale.mean, scale.std
        spoken = [(kept[i] - mean) / std for i in queries.tolist()]  # [N, L, D]
        found = np.zeros((len(mean), len(queries), len(documents)))
        for index, planes, lengths in frames(subject, searched, documents):
            planes = (planes - mean) / std
            at = np.searchsorted(documents, index)
            for layer, row in enumerate(found):
                row[:, at] = costs([query[:, layer] for query in spoken], planes[:, :, layer], lengths)
            progress(f"features of {part}", done := done + len(index), count)
        return [mtwv(standardised(row), true) for row in found]

    def trials(self, subject: Subject, part: str) -> tuple[Split, np.ndarray, Split, np.ndarray, np.ndarray]:
        """(the split of the queries, their sorted places in it [Q], the same of documents [M], bool [Q, M], whether a
        document answers a query): the data's own, or items of the part, of which those of one class answer each
        other."""
        if hasattr(subject.data, "trials"):
            asked, searched, true = subject.data.trials(part)
            queries, documents = spread(len(asked), self.queries), spread(len(searched), self.documents)
            true = true[queries][:, documents]
        else:
            asked = searched = subject.data.split(part)
            terms = np.array(["" if x is None else str(x) for x in asked.column(self.label).tolist()], dtype=object)
            kept = np.flatnonzero(terms != "")
            if len(np.unique(terms[kept])) < 2 or len(kept) < 4:
                raise UserError(
                    f"{part} needs items of two classes of '{self.label}' or more, four items or more in all"
                )
            half = len(kept) // 2
            queries = kept[spread(len(kept), half if self.queries is None else min(self.queries, half))]
            rest = np.setdiff1d(kept, queries)
            documents = rest[spread(len(rest), self.documents)]
            true = terms[queries][:, None] == terms[documents]
        if not true.any():
            raise UserError(f"no document of {part} answers any of its queries: set analysis.documents to more")
        return asked, queries, searched, documents, true


class Moments:
    """The mean and the standard deviation, with denominator n - 1, of all frames that were added, [L, D] each."""

    def __init__(self):
        self.count, self.sum, self.squares = 0, torch.zeros(1), torch.zeros(1)

    def add(self, rows: Tensor) -> None:
        """rows [T, L, D]."""
        rows = rows.double()
        self.count += len(rows)
        self.sum, self.squares = self.sum + rows.sum(0), self.squares + rows.square().sum(0)

    @property
    def mean(self) -> Tensor:
        return (self.sum / self.count).float()

    @property
    def std(self) -> Tensor:
        spread = (self.squares - self.sum.square() / self.count).clamp(min=0) / max(self.count - 1, 1)
        return spread.sqrt().clamp(min=1e-9).float()


def frames(subject: Subject, split: Split, places: np.ndarray) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """(places, frames of all layers [B, T, L, D], how many [B]) of items of a split, a batch at a time."""
    for batch in ordered_loader(split, units(subject.data), indices=places):
        planes, lengths = subject.frozen.tokens(batch)
        yield batch.index.tolist(), planes, lengths


def costs(queries: list[Tensor], documents: Tensor, lengths: Tensor) -> np.ndarray:
    """[Q, M], the cost of each query's best subsequence in each document; 0 of a query under `SHORTEST` frames. queries
    [N, D] each, documents [M, T, D] of so many frames [M], of one layer and standardised."""
    found = np.zeros((len(queries), len(documents)))
    for row, query in zip(found, queries, strict=True):
        if len(query) >= SHORTEST:
            row[:] = subsequence_costs(frame_distances(query, documents, lengths)).numpy()
    return found


def standardised(costs: np.ndarray) -> np.ndarray:
    """Minus the costs [Q, M], standardised over the documents of each query; 0 of a query whose costs are all alike."""
    centred = costs.mean(1, keepdims=True) - costs
    return centred / np.maximum(centred.std(1, keepdims=True), 1e-9)


def mtwv(found: np.ndarray, true: np.ndarray) -> float:
    """The maximum term-weighted value over all thresholds (NIST's STD evaluation; Anguera et al. 2014): with the rates
    of misses and of false alarms of each query that some document answers,

    TWV = 1 - mean_q (P_miss(q) + beta P_fa(q))

    which is 0 where nothing is found. found: scores [Q, M]. true: bool [Q, M]."""
    kept = true.any(1)
    found, true = found[kept], true[kept]
    gain = np.where(true, 1 / true.sum(1, keepdims=True), -BETA / np.maximum((~true).sum(1, keepdims=True), 1)) / len(
        true
    )
    order = np.argsort(-found, axis=None, kind="stable")
    values = np.cumsum(gain.flatten()[order])
    last = np.append(np.diff(found.flatten()[order]) != 0, True)  # of equal scores, all or none
    return float(max(0.0, values[last].max()))
