"""What a report draws of a probe: its features in a plane, and which classes it takes for which."""

import warnings

import numpy as np
import torch
from torch import Tensor

SHOWN = 600  # test rows at most
COMPONENTS = 50  # principal components that t-SNE is given, as van der Maaten and Hinton (2008) do
FEWEST = 10  # rows that t-SNE is worth its while for


def projections(x: Tensor, answers: Tensor, truth: np.ndarray, predicted: np.ndarray, classes: list[str] | None) -> dict:
    """Up to `SHOWN` evenly spaced rows of test in planes, ready for JSON.

    x: [N, D], what the linear head reads. answers: [N, C], what it gives. truth, predicted: [N].
    Returns {"planes": {name: [[x, y], ...]}, "label": [...], "predicted": [...]}: class numbers, or values.
    Planes: "probe", in which the head separates the classes; "tsne", by neighbourhood; "pca", by variance.
    t-SNE is left out below `FEWEST` rows and where they are all alike. The same input gives the same output.
    """
    rows = np.linspace(0, len(x) - 1, min(len(x), SHOWN)).round().astype(int)
    shown, heads = x[rows].double().cpu(), answers[rows].double().cpu()
    spread = principal(shown, COMPONENTS)
    planes = {"probe": _probe(heads, spread, classes), "tsne": _tsne(spread), "pca": spread[:, :2]}
    kept = {name: _rounded(plane) for name, plane in planes.items() if plane is not None}
    labels = [part[rows] if classes is not None else part[rows].round(4) for part in (truth, predicted)]
    return {"planes": kept, "label": labels[0].tolist(), "predicted": labels[1].tolist()}


def confusion(truth: np.ndarray, predicted: np.ndarray) -> list[list[int]]:
    """[class, the class it was taken for, how often], for the pairs of class numbers [N] that occur, in order."""
    pairs, counts = np.unique(np.stack([truth, predicted], 1), axis=0, return_counts=True)
    return [[*pair, count] for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)]


def principal(x: Tensor, components: int) -> Tensor:
    """Principal coordinates [N, at least 2 and at most `components`] of x [N, D], those of the most variance first."""
    centred = x - x.mean(0)
    # rows are few and pixels many: they come from the rows' products
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    found = (vectors * values.clamp(min=0).sqrt()).flip(1)[:, :components]
    # a direction has no sign of its own: its farthest point is put on the positive side
    found = found * torch.sign(found.gather(0, found.abs().argmax(0, keepdim=True)))
    return torch.nn.functional.pad(found, (0, max(0, 2 - found.shape[1])))


def _probe(answers: Tensor, spread: Tensor, classes: list[str] | None) -> Tensor:
    """The head's answers on their two principal directions. Where there is but one (two classes, a value), the
    second is the most variance of the features that the first does not explain."""
    flat = principal(answers, 2)
    if classes is not None and len(classes) > 2 and answers.shape[1] > 2:
        return flat
    along = answers[:, :1] if classes is None else answers[:, 1:2] - answers[:, :1]
    along = along - along.mean()
    unit = along / along.norm().clamp(min=1e-12)
    return torch.cat([along, principal(spread - unit @ (unit.T @ spread), 2)[:, :1]], 1)


def _tsne(spread: Tensor) -> Tensor | None:
    if len(spread) < FEWEST or not float(spread.std()) > 1e-9:
        return None
    from sklearn.manifold import TSNE

    x = spread.numpy()
    start = x[:, :2] / max(float(x[:, 0].std()), 1e-12) * 1e-4  # as scikit-learn's init="pca", which is not random
    map_ = TSNE(init=start, perplexity=min(30.0, (len(x) - 1) / 3), max_iter=500, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(map_.fit_transform(x / float(x.std())))


def _rounded(plane: Tensor) -> list[list[float]]:
    """Coordinates between -1000 and 1000: a plane has no unit, and whole numbers are short."""
    centred = plane - plane.mean(0)
    return (centred / centred.abs().max().clamp(min=1e-12) * 1000).round().long().tolist()
