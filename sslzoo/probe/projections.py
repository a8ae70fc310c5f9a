"""What a report plots of a probe: 2-D projections of its features, and the confusion matrix."""

import warnings

import numpy as np
import torch
from torch import Tensor

from sslzoo.probe.bags import DenseRows

SHOWN = 600  # test rows at most
COMPONENTS = 50  # principal components that t-SNE is given, as van der Maaten and Hinton (2008) do
FEWEST = 10  # rows below which there is no t-SNE


def projections(
    x: Tensor | DenseRows,
    answers: Tensor,
    truth: np.ndarray,
    predicted: np.ndarray,
    learned: tuple[Tensor, np.ndarray],
    classed: bool,
) -> dict:
    """2-D projections of up to `SHOWN` evenly spaced rows of test, ready for JSON.

    x: [N, D], the linear head's input. answers: [N, C], its output. truth, predicted: [N], class numbers if
    `classed`, else values. learned: the head's output on train [M, C], and the labels there [M].
    Returns {"planes": {name: [[x, y], ...]}, "label": [...], "predicted": [...]}.
    Planes: "probe", LDA of the head's output, fitted on train; "tsne"; "pca". t-SNE is left out below `FEWEST` rows
    and if all rows are equal. Deterministic.
    """
    rows = np.linspace(0, len(x) - 1, min(len(x), SHOWN)).round().astype(int)
    shown, heads = x[rows].double().cpu(), answers[rows].double().cpu()
    spread = principal(shown, COMPONENTS)
    answered, taught = learned[0].double().cpu(), learned[1]
    if classed and len(np.unique(taught)) > 2:
        probe = discriminant(answered, taught, heads)
    else:
        along = heads[:, 1:2] - heads[:, :1] if classed else heads[:, :1]
        probe = _beside(along - along.mean(), spread)
    planes = {"probe": probe, "tsne": tsne(spread), "pca": spread[:, :2]}
    kept = {name: rounded(plane) for name, plane in planes.items() if plane is not None}
    labels = [part[rows] if classed else part[rows].round(4) for part in (truth, predicted)]
    return {"planes": kept, "label": labels[0].tolist(), "predicted": labels[1].tolist()}


def confusion(truth: np.ndarray, predicted: np.ndarray) -> list[list[int]]:
    """Sorted [class, predicted class, count], for the pairs that occur. truth, predicted: class numbers [N]."""
    pairs, counts = np.unique(np.stack([truth, predicted], 1), axis=0, return_counts=True)
    return [[*pair, count] for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)]


def principal(x: Tensor, components: int) -> Tensor:
    """Principal components [N, 2 to `components`] of the rows x [N, D], by falling variance."""
    centred = x - x.mean(0)
    # few rows and many dimensions (pixels): eigenvectors of the Gram matrix [N, N]
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    found = (vectors * values.clamp(min=0).sqrt()).flip(1)[:, :components]
    return torch.nn.functional.pad(_signed(found), (0, max(0, 2 - found.shape[1])))


def discriminant(train: Tensor, truth: np.ndarray, x: Tensor) -> Tensor:
    """x [N, C] projected on the first two of Fisher's linear discriminants, fitted on train [M, C]: the directions
    with the largest variance between class means relative to that within classes."""
    classes = [train[torch.from_numpy(truth == c)] for c in np.unique(truth)]
    means = torch.stack([rows.mean(0) for rows in classes])
    within = sum((rows - rows.mean(0)).T @ (rows - rows.mean(0)) for rows in classes) / len(train)
    between = (means - means.mean(0)).T @ (means - means.mean(0))
    # logits are defined up to a constant, and classes of one row have no variance: the matrix may be singular
    within.diagonal().add_(1e-3 * within.diagonal().mean().clamp(min=1e-12))
    root = torch.linalg.cholesky(within)
    whitened = torch.linalg.solve_triangular(
        root, torch.linalg.solve_triangular(root, between, upper=False).T, upper=False
    )
    directions = torch.linalg.eigh((whitened + whitened.T) / 2).eigenvectors.flip(1)[:, :2]
    return _signed((x - train.mean(0)) @ torch.linalg.solve_triangular(root.T, directions, upper=True))


def _beside(along: Tensor, spread: Tensor) -> Tensor:
    """[N, 2]: the one direction [N, 1] of two classes or a value, and the first principal component of the rest."""
    unit = along / along.norm().clamp(min=1e-12)
    return torch.cat([along, principal(spread - unit @ (unit.T @ spread), 2)[:, :1]], 1)


def _signed(plane: Tensor) -> Tensor:
    """The sign of a component is arbitrary: make its largest absolute value positive."""
    return plane * torch.sign(plane.gather(0, plane.abs().argmax(0, keepdim=True)))


def tsne(spread: Tensor) -> Tensor | None:
    if len(spread) < FEWEST or not float(spread.std()) > 1e-9:
        return None
    from sklearn.manifold import TSNE

    x = spread.numpy()
    start = x[:, :2] / max(float(x[:, 0].std()), 1e-12) * 1e-4  # as scikit-learn's init="pca", which is not random
    map_ = TSNE(init=start, perplexity=min(30.0, (len(x) - 1) / 3), max_iter=500, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(map_.fit_transform(x / float(x.std())))


def rounded(plane: Tensor) -> list[list[float]]:
    """Coordinates as integers between -1000 and 1000, which are short in JSON; the scale is arbitrary."""
    centred = plane - plane.mean(0)
    return (centred / centred.abs().max().clamp(min=1e-12) * 1000).round().long().tolist()
