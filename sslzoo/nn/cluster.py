"""k-means on faiss: well seeded, the same for one seed and number of threads, and with no empty cluster."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import faiss
import numpy as np
import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.errors import UserError

ROWS = 512  # a cluster: what Lloyd's iterations see of a large set
SEEDING = 4_000  # rows that first centres are chosen among, or eight a cluster if that is more
STAGES = ((8, 0.4), (4, 0.3), (2, 0.2), (1, 0.1))  # an eighth of ROWS for 40 % of the iterations, and so on
REPAIRS = 50  # rounds in which empty clusters get a point
RESOLUTION = 1e-6  # of squared norms: what is left of a squared distance that is made of them in float32
CHUNK = 65536  # rows that are assigned at a time


@dataclass
class Codebook:
    """centroids: float32 [K, D]. counts: int64 [K], points of the fitted set in each cluster, none of them 0.
    inertia: the fitted set's mean squared distance to its nearest centroid."""

    centroids: Tensor
    counts: Tensor | None = None
    inertia: float = float("nan")

    def assign(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """float [N, D] -> the nearest centroid int64 [N], the squared distance to it float32 [N]."""
        middle = self.centroids.mean(0)  # near 0, fewer digits of a distance cancel
        index = _index(self.centroids - middle)
        found = [_nearest(index, rows - middle) for rows in x.detach().cpu().float().split(CHUNK)]
        labels, distances = zip(*found, strict=True)
        return torch.cat(labels), torch.cat(distances).clamp_(min=0)


def fit(x: Tensor, clusters: int, seed: int, iterations: int = 15, rows: int = ROWS) -> Codebook:
    """k-means of x [N, D]. First centres by greedy k-means++ (Arthur and Vassilvitskii 2007) on a subsample,
    then Lloyd's iterations on growing, nested subsamples, of at most `rows` rows a cluster in the end.

    A cluster that is empty is given a point, drawn in proportion to its squared distance, and so splits
    another. Raises UserError for fewer points, or fewer distinct ones, than clusters, and for values that
    are not finite.
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


def sample(batches: Iterable[Tensor], most: int, seed: int) -> Tensor:
    """At most `most` rows of a stream of [n, D], each as likely as any other, float32; which ones and in which
    order does not depend on the sizes of the batches. Holds little more than it returns."""
    base = torch.tensor([rng.derive_seed(seed, "sample")])
    kept, keys, seen = [], torch.zeros(0, dtype=torch.int64), 0
    last = torch.iinfo(torch.int64).max
    for batch in batches:
        mine = rng.fold_in(base, torch.arange(seen, seen + len(batch)))
        seen += len(batch)
        take = mine <= last  # others are not among the lowest any more
        kept.append(batch[take].detach().cpu().float())
        keys = torch.cat([keys, mine[take]])
        if len(keys) > 1.2 * most + 1000:
            order = keys.argsort()[:most]
            kept, keys = [torch.cat(kept)[order]], keys[order]
            last = int(keys[-1])
    return torch.cat(kept)[keys.argsort()[:most]] if kept else torch.zeros(0, 0)


def _index(centres: Tensor) -> faiss.IndexFlatL2:
    index = faiss.IndexFlatL2(centres.shape[1])
    index.add(centres.contiguous().numpy())
    return index


def _nearest(index: faiss.IndexFlatL2, x: Tensor) -> tuple[Tensor, Tensor]:
    distances, labels = index.search(x.contiguous().numpy(), 1)
    return torch.from_numpy(labels[:, 0]), torch.from_numpy(distances[:, 0])


def _apart(x: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """Squared distances, 0 where faiss cannot tell the two apart."""
    mine = centres[labels]
    distance = (x - mine).square().sum(1)
    return distance.where(distance > RESOLUTION * (x.square().sum(1) + mine.square_().sum(1)), 0.0)


def _seeds(x: Tensor, clusters: int, rng: np.random.Generator) -> Tensor:
    """[clusters, D] of x [M, D]: each in turn the best of a few points that are drawn in proportion to their
    squared distance to the centres so far. With too few distinct points the rest are copies of the first."""
    trials = 2 + int(math.log(clusters))
    distance = _apart(x, x[:1], torch.zeros(len(x), dtype=torch.int64)).numpy()
    x = x.numpy()  # for so few numbers at a time torch's threads cost more than they bring
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
    """Places drawn in proportion to `weight` [M], int64 [count], or none where all of it is 0."""
    heap = weight.cumsum(dtype=np.float64)
    if not heap[-1] > 0:
        return np.zeros(0, np.int64)
    return heap.searchsorted(rng.random(count) * heap[-1], side="right").clip(max=len(weight) - 1)


def _step(centres: Tensor, x: Tensor, rng: np.random.Generator) -> Tensor:
    """One of Lloyd's iterations; empty clusters are given points."""
    labels, _ = _nearest(_index(centres), x)
    counts = torch.bincount(labels, minlength=len(centres))
    moved = _means(centres, x, labels, counts)
    return moved if counts.all() else _filled(moved, x, labels, counts, rng)


def _means(centres: Tensor, x: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    sums = torch.zeros_like(centres).index_add_(0, labels, x)
    return torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)


def _filled(centres: Tensor, x: Tensor, labels: Tensor, counts: Tensor, rng: np.random.Generator) -> Tensor:
    """Centres with those of empty clusters moved to points, at most one of a cluster, of clusters that have
    several; fewer are moved where there are fewer such points."""
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
    """The codebook of these centres, moved only where a cluster of x would be empty, or the copy of another."""
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
    """For each of the centres the first that cannot be told from it, itself if there is no other."""
    first = torch.arange(len(centres))
    found = torch.from_numpy(_index(centres).search(centres.numpy(), min(2, len(centres)))[1])
    for other in found.T:
        first = torch.where(_apart(centres, centres, other) == 0, first.minimum(other), first)
    return first
