"""k-means on faiss: greedy k-means++ seeding, reproducible per seed and number of threads, no empty clusters."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import faiss
import numpy as np
import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.distributed import gather_objects
from sslzoo.errors import UserError

ROWS = 512  # rows per cluster that Lloyd's iterations use of a large set
SEEDING = 4_000  # rows for choosing initial centres, or eight per cluster if that is more
STAGES = ((8, 0.4), (4, 0.3), (2, 0.2), (1, 0.1))  # (divisor of rows, share of iterations)
REPAIRS = 50  # rounds of moving empty clusters to points
RESOLUTION = 1e-6  # relative rounding error of float32 squared distances computed from squared norms
CHUNK = 65536  # rows assigned at a time


@dataclass
class Codebook:
    """centroids: float32 [K, D]. counts: int64 [K], points of the fitted set in each cluster, all above 0.
    inertia: the fitted set's mean squared distance to its nearest centroid."""

    centroids: Tensor
    counts: Tensor | None = None
    inertia: float = float("nan")

    def assign(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """float [N, D] -> the nearest centroid int64 [N], the squared distance to it float32 [N]."""
        middle = self.centroids.mean(0)  # centering reduces cancellation in distances
        index = _index(self.centroids - middle)
        found = [_nearest(index, rows - middle) for rows in x.detach().cpu().float().split(CHUNK)]
        labels, distances = zip(*found, strict=True)
        return torch.cat(labels), torch.cat(distances).clamp_(min=0)


def fit(x: Tensor, clusters: int, seed: int, iterations: int = 15, rows: int = ROWS) -> Codebook:
    """k-means of x [N, D]. Initial centres by greedy k-means++ (Arthur and Vassilvitskii 2007) on a subsample, then
    Lloyd's iterations on growing, nested subsamples of at most `rows` rows per cluster.

    An empty cluster is moved to a point drawn in proportion to its squared distance, splitting another cluster.
    Raises UserError if there are fewer points, or fewer distinct ones, than clusters, and for values that are not
    finite.
    """
    x = x.detach().cpu().float()
    if clusters < 1 or iterations < 1 or rows < 1:
        raise UserError(f"k-means takes 1 or more clusters, iterations and rows; got {clusters}, {iterations}, {rows}")
    if len(x) < clusters:
        raise UserError(f"{len(x)} points make no {clusters} clusters — set fewer clusters or give more points")
    middle = x.mean(0)
    if not middle.isfinite().all():
        bad = (~x.isfinite()).any(1).nonzero()
        which = f"point {int(bad[0])}" if len(bad) else "a sum of them"
        raise UserError(f"k-means takes finite values only: {which} is not")
    generator = np.random.default_rng(rng.derive_seed(seed, "k-means"))
    chosen = torch.from_numpy(generator.permutation(len(x))[: rows * clusters])
    sample = x[chosen] - middle
    centres = _seeds(sample[: max(SEEDING, 8 * clusters)], clusters, generator)
    for share, part in STAGES:
        seen = sample[: max(rows // share, 1) * clusters]
        for _ in range(max(1, round(part * iterations))):
            centres = _step(centres, seen, generator)
    return _without_empty(centres + middle, x, middle, generator)


def sample(batches: Iterable[tuple[int, Tensor]], most: int, seed: int) -> Tensor:
    """A uniform random sample of at most `most` rows of a stream, float32 [N, D]. batches: (place of its first row in
    the stream, rows [n, D]) of each; rows and order do not depend on their sizes, nor on which rank has them: each rank
    gets the sample of all ranks' rows. Memory is little more than the result (times the ranks)."""
    parts = gather_objects(_lowest(batches, most, seed))
    rows = [part for part, _ in parts if len(part)]
    keys = torch.cat([part for _, part in parts])
    return torch.cat(rows)[keys.argsort()[:most]] if rows else torch.zeros(0, 0)


def _lowest(batches: Iterable[tuple[int, Tensor]], most: int, seed: int) -> tuple[Tensor, Tensor]:
    """(rows, keys) with the lowest of keys that are drawn by place."""
    base = torch.tensor([rng.derive_seed(seed, "sample")])
    kept, keys = [], torch.zeros(0, dtype=torch.int64)
    last = torch.iinfo(torch.int64).max
    for start, batch in batches:
        mine = rng.fold_in(base, torch.arange(start, start + len(batch)))
        take = mine <= last  # rows with the lowest keys are kept
        kept.append(batch[take].detach().cpu().float())
        keys = torch.cat([keys, mine[take]])
        if len(keys) > 1.2 * most + 1000:
            order = keys.argsort()[:most]
            kept, keys = [torch.cat(kept)[order]], keys[order]
            last = int(keys[-1])
    order = keys.argsort()[:most]
    return (torch.cat(kept)[order] if kept else torch.zeros(0, 0)), keys[order]


def _index(centres: Tensor) -> faiss.IndexFlatL2:
    index = faiss.IndexFlatL2(centres.shape[1])
    index.add(centres.contiguous().numpy())
    return index


def _nearest(index: faiss.IndexFlatL2, x: Tensor) -> tuple[Tensor, Tensor]:
    distances, labels = index.search(x.contiguous().numpy(), 1)
    return torch.from_numpy(labels[:, 0]), torch.from_numpy(distances[:, 0])


def _apart(x: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """Squared distances [N] to the centres `labels`; 0 if below faiss's rounding error."""
    mine = centres[labels]
    distance = (x - mine).square().sum(1)
    return distance.where(distance > RESOLUTION * (x.square().sum(1) + mine.square_().sum(1)), 0.0)


def _seeds(x: Tensor, clusters: int, rng: np.random.Generator) -> Tensor:
    """Initial centres [clusters, D] from x [M, D]: each is the best of a few points drawn in proportion to their
    squared distance to the centres so far. If distinct points run out, the rest are copies of the first."""
    trials = 2 + int(math.log(clusters))
    distance = _apart(x, x[:1], torch.zeros(len(x), dtype=torch.int64)).numpy()
    x = x.numpy()  # numpy: torch's threading overhead dominates at this size
    norms, turned = np.square(x).sum(1), np.ascontiguousarray(-2 * x.T)
    centres = x[:1].repeat(clusters, 0)
    for number in range(1, clusters):
        drawn = _drawn(distance, trials, rng)
        if not len(drawn):
            break
        closer = x[drawn] @ turned
        closer += norms
        closer += norms[drawn, None]
        np.clip(closer, 0, distance, out=closer)
        best = int(closer.sum(1).argmin())
        centres[number] = x[drawn[best]]
        distance = closer[best]
        distance[drawn[best]] = 0
    return torch.from_numpy(centres)


def _drawn(weight: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices drawn in proportion to `weight` [M], int64 [count]; empty if all weights are 0."""
    heap = weight.cumsum(dtype=np.float64)
    if not heap[-1] > 0:
        return np.zeros(0, np.int64)
    return heap.searchsorted(rng.random(count) * heap[-1], side="right").clip(max=len(weight) - 1)


def _step(centres: Tensor, x: Tensor, rng: np.random.Generator) -> Tensor:
    """One of Lloyd's iterations; empty clusters are moved to points."""
    labels, _ = _nearest(_index(centres), x)
    counts = torch.bincount(labels, minlength=len(centres))
    moved = _means(centres, x, labels, counts)
    return moved if counts.all() else _filled(moved, x, labels, counts, rng)


def _means(centres: Tensor, x: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    sums = torch.zeros_like(centres).index_add_(0, labels, x)
    return torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)


def _filled(centres: Tensor, x: Tensor, labels: Tensor, counts: Tensor, rng: np.random.Generator) -> Tensor:
    """Move the centres of empty clusters to points of clusters with several points, at most one per cluster; stops when
    there are no more such points."""
    weight = _apart(x, centres, labels) * (counts[labels] > 1)
    centres = centres.clone()
    for cluster in (counts == 0).nonzero()[:, 0].tolist():
        drawn = _drawn(weight.numpy(), 1, rng)
        if not len(drawn):
            break
        centres[cluster] = x[drawn[0]]
        weight[labels == labels[drawn[0]]] = 0
    return centres


def _without_empty(centres: Tensor, x: Tensor, middle: Tensor, rng: np.random.Generator) -> Codebook:
    """The codebook of these centres, moved only if a cluster of x is empty or a duplicate of another."""
    for _ in range(REPAIRS):
        labels, distances = Codebook(centres).assign(x)
        labels = _first_alike(centres - middle)[labels]
        counts = torch.bincount(labels, minlength=len(centres))
        if counts.all():
            return Codebook(centres, counts, float(distances.double().mean()))
        near = x - middle
        means = _means(centres - middle, near, labels, counts)
        moved = _filled(means, near, labels, counts, rng)
        if torch.equal(moved, means):
            break
        centres = moved + middle
    raise UserError(
        f"only {int((counts > 0).sum())} of {len(centres)} clusters have points of their own: the {len(x)} points are "
        "too much alike — set fewer clusters, or see whether the features have collapsed"
    )


def _first_alike(centres: Tensor) -> Tensor:
    """For each centre the index of the first centre equal to it within rounding, which may be its own."""
    first = torch.arange(len(centres))
    found = torch.from_numpy(_index(centres).search(centres.numpy(), min(2, len(centres)))[1])
    for other in found.T:
        first = torch.where(_apart(centres, centres, other) == 0, first.minimum(other), first)
    return first
