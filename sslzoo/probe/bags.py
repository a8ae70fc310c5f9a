"""Token counts as features: wide, mostly zero, so stored and fitted as sparse matrices.

The heads equal those of `probe.heads` on the dense, centred features: centring only moves the bias.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from sslzoo.probe.reader import Reader
from sslzoo.probe.tasks import Part
from sslzoo.progress import Progress

_STEPS, _TOLERANCE = 2000, 1e-6  # of the solvers


@dataclass
class Bags:
    """Features [1, N, D] with one sparse plane; mean [D]: to be subtracted from the rows, which stay uncentred."""

    rows: csr_matrix
    mean: np.ndarray | None = None

    def __len__(self) -> int:
        return 1

    def __getitem__(self, plane) -> "Bags":
        return self

    def to(self, device) -> "Bags":
        """No-op: the solvers run on the CPU."""
        return self


@dataclass
class DenseRows:
    """Centred rows [N, D], made dense when indexed."""

    bags: Bags

    def __len__(self) -> int:
        return self.bags.rows.shape[0]

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy((self.bags.rows[rows].toarray() - self.bags.mean).astype(np.float32))


class BagReader(Reader):
    """Token counts of items, or one-hot tokens for frames; `source` is a `raw.Bag`."""

    def _read_items(self, part: Part, max_gb: float, progress: Progress) -> Bags:
        places, found, order = np.unique(part.items), [], []
        for batch, at in self._batches(places, progress):
            found.append(self.source.counts(batch))
            order.append(at)
        rows = vstack(found, format="csr")[np.argsort(np.concatenate(order))]
        return Bags(rows[np.searchsorted(places, part.items)])

    def _read_frames(self, part: Part, max_gb: float, progress: Progress) -> Bags:
        column = np.empty(len(part), np.int64)
        for batch, _, placed in self._frames(part, progress):
            for row, rows in enumerate(placed):
                nearest = self._nearest(part.centres[rows], int(batch.lengths[row]))
                column[rows] = self.source.column[batch.inputs[row, nearest]]
        kept = np.flatnonzero(column < self.source.size)
        shape = len(part), self.source.size
        return Bags(csr_matrix((np.ones(len(kept), np.float32), (kept, column[kept])), shape))


@dataclass
class BagScale:
    """The mean of train [D], and one scale for all dimensions."""

    mean: np.ndarray
    std: float

    @classmethod
    def of(cls, x: Bags, per_dimension_scale: bool) -> "BagScale":
        mean = np.asarray(x.rows.mean(0), np.float64).ravel()
        square = np.asarray(x.rows.multiply(x.rows).mean(0), np.float64).ravel()
        std = float(np.sqrt(np.maximum(square - mean**2, 0).mean()))
        return cls(mean, std if std > 0 else 1.0)

    def __call__(self, x: Bags) -> Bags:
        return Bags((x.rows / self.std).tocsr().astype(np.float32), self.mean / self.std)


@dataclass
class BagHead:
    """weight: [D, C]. bias: [C]. model: the solver, for the next penalty's warm start."""

    weight: Tensor
    bias: Tensor
    model: object

    @property
    def layers(self) -> Tensor:
        return torch.zeros(1)

    def mix(self, x: Bags) -> DenseRows:
        return DenseRows(x)

    def __call__(self, x: Bags) -> Tensor:
        """[1, N, D] -> [N, C]."""
        return torch.from_numpy(x.rows @ self.weight.numpy()) + self.bias


def fit(x: Bags, y: Tensor, outputs: int, penalty: float, start: BagHead | None = None) -> BagHead:
    """As `heads.fit`, with scikit-learn's solvers for sparse features."""
    rows = x.rows.astype(np.float64)
    if y.is_floating_point():
        model = Ridge(alpha=penalty * len(y), solver="sparse_cg", tol=_TOLERANCE, max_iter=_STEPS)
        model.fit(rows, y.double().numpy())
        return _head(model.coef_.reshape(outputs, -1), np.ravel(model.intercept_), model)
    if outputs == 1:
        return _head(np.zeros((1, rows.shape[1])), np.zeros(1), None)
    # for two classes scikit-learn fits one vector w; a softmax has -w / 2 and w / 2, so half the penalty
    c = (2 if outputs == 2 else 1) / (penalty * len(y))
    model = start.model if start is not None else LogisticRegression(tol=_TOLERANCE, max_iter=_STEPS, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties; the torch solver has a step limit too
        model.set_params(C=c).fit(rows, y.numpy())
    weight, bias = model.coef_, model.intercept_
    if outputs == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return _head(weight, bias, model)


def _head(weight: np.ndarray, bias: np.ndarray, model) -> BagHead:
    return BagHead(torch.from_numpy(np.ascontiguousarray(weight.T)).float(), torch.from_numpy(bias).float(), model)


@dataclass
class BagNeighbours:
    """`heads.Neighbours` by the cosine of centred rows. bank: [N, D]. norms: [N], of the bank's centred rows."""

    bank: Bags
    norms: np.ndarray
    targets: Tensor
    k: int
    temperature: float

    @classmethod
    def of(cls, x: Bags, targets: Tensor, k: int, temperature: float) -> "BagNeighbours":
        return cls(x, _norms(x), targets, min(k, x.rows.shape[0]), temperature)

    def __call__(self, x: Bags) -> Tensor:
        """[M, D] -> [M, C]."""
        found, mean, norms = [], self.bank.mean, _norms(x)
        shift = self.bank.rows @ mean - mean @ mean / 2  # (a - m)(b - m) = ab - (am - mm/2) - (bm - mm/2)
        own = x.rows @ mean - mean @ mean / 2
        step = max(1, 2**24 // len(self.norms))
        for first in range(0, x.rows.shape[0], step):
            at = slice(first, first + step)
            products = (x.rows[at] @ self.bank.rows.T).toarray() - own[at, None] - shift
            similarity = torch.from_numpy((products / (norms[at, None] * self.norms)).astype(np.float32))
            similarity, nearest = similarity.topk(self.k)
            votes = (similarity / self.temperature).softmax(1)
            found.append((votes[..., None] * self.targets[nearest]).sum(1))
        return torch.cat(found)


def _norms(x: Bags) -> np.ndarray:
    square = np.asarray(x.rows.multiply(x.rows).sum(1), np.float64).ravel() - 2 * (x.rows @ x.mean) + x.mean @ x.mean
    return np.sqrt(np.maximum(square, 1e-24))
