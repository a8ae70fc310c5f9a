"""Centred kernel alignment (CKA): the similarity of layers, of one run or of two, on the same items."""

from itertools import pairwise

import torch
from torch import Tensor

from sslzoo.analysis.base import Analysis, Figure, Findings, Matrix, Subject, rounded, spread
from sslzoo.errors import ConfigError, UserError
from sslzoo.progress import Progress


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """CKA(X, Y) = |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) of centred features (Kornblith et al. 2019, 1905.00414, eq. 3 and
    section 3). x: [L, N, D]. y: [M, N, E]. -> [L, M], 1 for features that are equal up to rotation and scale.

    The estimate is biased: independent noise scores above 0, the more the fewer items there are per dimension."""
    x, y = (z.double() - z.double().mean(1, keepdim=True) for z in (x, y))
    own = [torch.stack([(z.T @ z).norm() for z in planes]) for planes in (x, y)]
    shared = torch.stack([torch.stack([(b.T @ a).square().sum() for b in y]) for a in x])
    return shared / (own[0][:, None] * own[1]).clamp(min=1e-300)


def hsic(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased estimate of HSIC with linear kernels (Song et al. 2012; Nguyen et al. 2021, 2010.15327, eq. 3).
    x: [L, N, D]. y: [M, N, E]; N of 4 or more. -> [L, M], about 0 for independent features."""
    n = x.shape[1]
    x, y = (z.double() - z.double().mean(1, keepdim=True) for z in (x, y))  # only improves rounding
    k, m = (torch.einsum("lid,ljd->lij", z, z) for z in (x, y))
    for gram in (k, m):
        gram.diagonal(dim1=1, dim2=2).zero_()
    trace = torch.einsum("aij,bij->ab", k, m)
    sums = k.sum((1, 2))[:, None] * m.sum((1, 2)) / ((n - 1) * (n - 2))
    crossed = torch.einsum("ai,bi->ab", k.sum(1), m.sum(1)) * 2 / (n - 2)
    return (trace + sums - crossed) / (n * (n - 3))


def minibatch_cka(x: Tensor, y: Tensor, batch: int) -> Tensor:
    """CKA from unbiased estimates that are averaged over batches of items (2010.15327, eq. 4): memory does not grow
    with the items, and independent noise scores about 0. -> [L, M]."""
    parts = [slice(start, start + batch) for start in range(0, x.shape[1] // batch * batch, batch)]
    shared = torch.stack([hsic(x[:, part], y[:, part]) for part in parts]).mean(0)
    own = [torch.stack([_own(z[:, part]) for part in parts]).mean(0).clamp(min=1e-300).sqrt() for z in (x, y)]
    return shared / (own[0][:, None] * own[1])


def _own(planes: Tensor) -> Tensor:
    return torch.stack([hsic(z[None], z[None])[0, 0] for z in planes])


class CKA(Analysis):
    """Linear CKA between all layers of a run, or between its layers and another run's, on the same items.

    items: number of items, evenly spaced in the split. batch: items per unbiased estimate; null for the biased estimate
    from all items at once.
    """

    takes_other = True

    def __init__(self, items: int = 1024, batch: int | None = 256):
        if items < 8 or (batch is not None and batch < 8):
            raise ConfigError(f"analysis=cka needs items and batch of 8 or more, got {items} and {batch}")
        self.items, self.batch = items, batch

    def check(self, subject: Subject, other: Subject | None) -> None:
        check_two(subject, other)

    def __call__(self, subject: Subject, other: Subject | None, progress: Progress) -> Findings:
        split = subject.opened
        if other is not None:
            check_same(subject, other)
        places = spread(len(split), self.items)
        if len(places) < 8:
            raise UserError(f"CKA needs 8 items or more, but {subject.split} has {len(places)}: set split=train")
        batch = None if self.batch is None else min(self.batch, len(places))
        x = subject.items(places, progress)
        y, names = (x, subject.frozen.layers) if other is None else (other.items(places, progress), other.frozen.layers)
        value = linear_cka(x, y) if batch is None else minibatch_cka(x, y, batch)
        rows = subject.frozen.layers
        what = "unbiased" if batch is not None else "biased"
        title = f"layers of {subject.name}" + ("" if other is None else f" and of {other.name}")
        near = value.argmax(1).tolist()
        told = "each layer's nearest: " + ", ".join(
            f"{a} and {names[b]} {value[i, b]:.2f}" for i, (a, b) in enumerate(zip(rows, near, strict=True))
        )
        if other is None:
            steps = ", ".join(f"{a}-{b} {value[i, i + 1]:.2f}" for i, (a, b) in enumerate(pairwise(rows)))
            told = f"neighbouring layers: {steps}"
        summary = f"linear CKA ({what}) of the {title}, {len(places)} items of {subject.split}\n  {told}"
        matrix = Matrix("", rounded(value), rows, list(names))
        said = "A row a layer" + (", a column a layer" if other is None else f", a column a layer of {other.name}")
        said += (
            f"; 1 is the same but for a rotation and a scale. {len(places)} items, {what}. {told[0].upper()}{told[1:]}."
        )
        return Findings(
            "cka" if other is None else f"cka-{other.name}",
            summary,
            [Figure(f"CKA of the {title}", said, [matrix])],
            {"cka": matrix.values, "layers": rows, "other_layers": list(names), "items": len(places), "batch": batch},
        )


def check_two(subject: Subject, other: Subject | None) -> None:
    """Raise ConfigError unless the layers of one run, or those of two, can be compared on the same items."""
    if other is None and "tokens" not in subject.encoder.offers:
        raise ConfigError(
            f"{type(subject.encoder).__name__} gives one vector an item, and has no layers to compare: "
            "set other=… to another run"
        )
    if other is not None and other.encoder.modality != subject.encoder.modality:
        raise ConfigError(
            f"{subject.folder} reads {subject.encoder.modality} and {other.folder} {other.encoder.modality}: "
            "two runs are compared on the same items"
        )


def check_same(subject: Subject, other: Subject) -> None:
    """Raise UserError unless both runs have the same items in the split."""
    mine, theirs = subject.opened, other.opened
    some = spread(len(mine), 1000).tolist()
    if len(mine) != len(theirs) or any(str(mine.names[i]) != str(theirs.names[i]) for i in some):
        raise UserError(
            f"{subject.folder} and {other.folder} read {subject.split} as other items ({len(mine)} and {len(theirs)}), "
            "as of a running text that is cut by tokens: set data=… to a set of items"
        )
