"""Query by example: finding the utterances in which the word of a spoken query is said, without any training."""

import numpy as np
import torch
from torch import Tensor

from sslzoo.analysis.base import Analysis, Figure, Findings, Lines, Subject, spread
from sslzoo.analysis.dtw import frame_distances, subsequence_costs
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
    standardised over the documents of a query, and a layer is scored by MTWV. The layer is chosen on valid and scored on
    test.

    label: the column whose class is the term of an item; a document has the term of the queries of its class. queries,
    documents: how many of each split, at most; items are one or the other.
    """

    def __init__(self, label: str = "word", queries: int = 60, documents: int = 300):
        if min(queries, documents) < 2:
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
        """MTWV of each layer on a part of the data."""
        split = subject.data.split(part)
        terms = np.array(["" if x is None else str(x) for x in split.column(self.label).tolist()], dtype=object)
        kept = np.flatnonzero(terms != "")
        if len(np.unique(terms[kept])) < 2 or len(kept) < 4:
            raise UserError(f"{part} needs items of two classes of '{self.label}' or more, four items or more in all")
        queries = kept[spread(len(kept), min(self.queries, len(kept) // 2))]
        rest = np.setdiff1d(kept, queries)
        documents = rest[spread(len(rest), self.documents)]
        frames: dict[int, Tensor] = {}
        wanted = np.sort(np.concatenate([queries, documents]))
        for batch in ordered_loader(split, units(subject.data), indices=wanted):
            planes, lengths = subject.frozen.tokens(batch)
            for index, rows, length in zip(batch.index.tolist(), planes, lengths.tolist(), strict=True):
                frames[index] = rows[:length]
            progress(f"features of {part}", len(frames), len(wanted))
        true = terms[queries][:, None] == terms[documents]
        if not true.any():
            raise UserError(f"no document of {part} has a query's '{self.label}': set analysis.documents to more")
        found = []
        for layer in range(frames[int(queries[0])].shape[1]):
            progress(f"layers of {part}", layer, frames[int(queries[0])].shape[1])
            mine = {i: x[:, layer] for i, x in frames.items()}
            found.append(mtwv(scores([mine[i] for i in queries], [mine[i] for i in documents]), true))
        return found


def scores(queries: list[Tensor], documents: list[Tensor]) -> np.ndarray:
    """[Q, M], the standardised score of each document for each query; of features [T, D] of one layer."""
    everything = torch.cat([*queries, *documents])
    mean, std = everything.mean(0), everything.std(0).clamp(min=1e-9)
    queries, documents = ([(x - mean) / std for x in rows] for rows in (queries, documents))
    lengths = torch.tensor([len(x) for x in documents])
    padded = torch.nn.utils.rnn.pad_sequence(documents, batch_first=True)
    found = []
    for query in queries:
        if len(query) < SHORTEST:
            found.append(np.zeros(len(documents)))
            continue
        costs = -subsequence_costs(frame_distances(query, padded, lengths)).double().numpy()
        found.append((costs - costs.mean()) / max(costs.std(), 1e-9))
    return np.stack(found)


def mtwv(found: np.ndarray, true: np.ndarray) -> float:
    """The maximum term-weighted value over all thresholds (NIST's STD evaluation; Anguera et al. 2014): with the rates of
    misses and of false alarms of each query that some document answers,

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
