"""Canonical correlations of layers, of one run or of two, on the same items: SVCCA and projection-weighted CCA."""

import torch
from torch import Tensor

from sslzoo.analysis.base import Analysis, Figure, Findings, Matrix, Subject, rounded, spread
from sslzoo.analysis.cka import check_same, check_two
from sslzoo.errors import ConfigError, UserError
from sslzoo.progress import Progress

_RANK = 1e-10  # singular values below this share of the largest are rounding


def directions(x: Tensor, variance: float = 1.0) -> Tensor:
    """Orthonormal directions [N, R] of centred features [N, D]: the left singular vectors of those singular values that
    together have this share of the variance."""
    u, s, _ = torch.linalg.svd(x.double() - x.double().mean(0), full_matrices=False)
    share = s.square().cumsum(0) / s.square().sum().clamp(min=1e-300)
    kept = int((share < variance - 1e-12).sum()) + 1
    return u[:, : min(kept, max(1, int((s > _RANK * s[0]).sum())))]


def svcca(x: Tensor, y: Tensor, variance: float = 0.99) -> Tensor:
    """SVCCA of features [N, D] and [N, E] (Raghu et al. 2017, 1706.05806): the mean canonical correlation of the
    directions that have 0.99 of either's variance, a scalar from 0 to 1."""
    return svcca_of(directions(x, variance), directions(y, variance))


def svcca_of(u: Tensor, v: Tensor) -> Tensor:
    return torch.linalg.svdvals(u.T @ v).clamp(max=1).mean()


def pwcca(x: Tensor, y: Tensor) -> Tensor:
    """Projection-weighted CCA of x [N, D] with y [N, E] (Morcos et al. 2018, 1806.05759, eq. 5): sum_i a_i rho_i /
    sum_i a_i over canonical correlations, with a_i = sum_j |<h_i, x_j>| of the canonical vectors h_i of x and its
    dimensions x_j. Not symmetric: the weights are x's. N must exceed the ranks, or every correlation is 1."""
    return pwcca_of(x, directions(x), directions(y))


def pwcca_of(x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    rotation, rho, _ = torch.linalg.svd(u.T @ v, full_matrices=False)
    canonical = u @ rotation  # [N, min(R, S)], of unit length
    weight = (canonical.T @ (x.double() - x.double().mean(0))).abs().sum(1)
    return (weight * rho.clamp(max=1)).sum() / weight.sum().clamp(min=1e-300)


class CCA(Analysis):
    """SVCCA and projection-weighted CCA between all layers of a run, or between its layers and another run's, on the
    same items. Unlike CKA they are blind to any invertible linear map of a layer's kept directions.

    items: number of items, evenly spaced in the split; there must be more than a layer has dimensions. variance: the
    share that SVCCA keeps.
    """

    takes_other = True

    def __init__(self, items: int = 2048, variance: float = 0.99):
        if items < 8 or not 0 < variance <= 1:
            raise ConfigError(
                f"analysis=cca needs items of 8 or more, and variance above 0 and up to 1; got {items} and {variance}"
            )
        self.items, self.variance = items, variance

    def check(self, subject: Subject, other: Subject | None) -> None:
        check_two(subject, other)

    def __call__(self, subject: Subject, other: Subject | None, progress: Progress) -> Findings:
        if other is not None:
            check_same(subject, other)
        places = spread(len(subject.opened), self.items)
        wide = max(run.encoder.dim for run in (subject, other) if run is not None)
        if len(places) <= wide:
            raise UserError(
                f"CCA needs more items than the {wide} dimensions of a layer, and {len(places)} of {subject.split} are "
                "read: set analysis.items, or split=train"
            )
        x = subject.items(places, progress)
        y, names = (x, subject.frozen.layers) if other is None else (other.items(places, progress), other.frozen.layers)
        rows, values = subject.frozen.layers, {}
        kept = [[directions(plane, self.variance) for plane in planes] for planes in (x, y)]
        values["SVCCA"] = torch.stack([torch.stack([svcca_of(u, v) for v in kept[1]]) for u in kept[0]])
        whole = [[directions(plane) for plane in planes] for planes in (x, y)]
        values["PWCCA"] = torch.stack(
            [torch.stack([pwcca_of(plane, u, v) for v in whole[1]]) for plane, u in zip(x, whole[0], strict=True)]
        )
        title = f"layers of {subject.name}" + ("" if other is None else f" and of {other.name}")
        count = ", ".join(f"{name}: {u.shape[1]}" for name, u in zip(rows, kept[0], strict=True))
        told = f"directions with {self.variance:g} of the variance, by layer: {count}"
        matrices = [Matrix(name, rounded(value), rows, list(names)) for name, value in values.items()]
        said = (
            f"A row a layer, a column a layer{'' if other is None else f' of {other.name}'}; 1 is the same but for an "
            f"invertible linear map. PWCCA is weighted by the row's layer. {len(places)} items; {told}."
        )
        near = {
            name: [f"{names[j]} {value[i, j]:.2f}" for i, j in enumerate(value.argmax(1))]
            for name, value in values.items()
        }
        lines = [f"  {name}, each layer's nearest: {', '.join(found)}" for name, found in near.items()]
        return Findings(
            "cca" if other is None else f"cca-{other.name}",
            "\n".join([f"canonical correlations of the {title}, {len(places)} items of {subject.split}", *lines, f"  {told}"]),
            [Figure(f"Canonical correlations of the {title}", said, matrices)],
            {
                "svcca": matrices[0].values, "pwcca": matrices[1].values, "layers": rows, "other_layers": list(names),
                "items": len(places), "variance": self.variance,
                "directions": [[u.shape[1] for u in planes] for planes in kept],
            },
        )  # fmt: skip
