"""Heads on frozen features: a linear head on a weighted sum of layers, and nearest neighbours.

Features are [L, N, D], one plane a layer. Both heads are deterministic.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LAYERS_PENALTY = 1e-3  # keeps the layers' logits finite where the best mix is one layer
WIDE = 1024  # dimensions; beyond (pixels, token counts), computing the covariance takes longer than it saves


@dataclass
class Linear:
    """x W + b, where x is the sum of the layers weighted by softmax(layers), as in s3prl and ELMo's scalar mix.

    layers: [L] logits. weight: [D, C]. bias: [C]. C: number of classes, or 1 for a value.
    """

    layers: Tensor
    weight: Tensor
    bias: Tensor

    def mix(self, x: Tensor) -> Tensor:
        """[L, N, D] -> [N, D]."""
        if len(x) == 1:
            return x[0]
        # a matmul over flattened planes: twice as fast as einsum, forward and backward
        return (self.layers.softmax(0) @ x.flatten(1)).view(x.shape[1:])

    def __call__(self, x: Tensor) -> Tensor:
        """[L, N, D] -> [N, C]."""
        return self.mix(x) @ self.weight + self.bias


def fit(x: Tensor, y: Tensor, outputs: int, penalty: float, start: Linear | None = None, steps: int = 300) -> Linear:
    """Minimise the loss over all of x [L, N, D] by full-batch L-BFGS.

    y: int64 [N] class numbers below `outputs`, for the mean cross-entropy; or float [N, outputs], for half
    the mean squared error. Added to the loss: penalty / 2 times the squared norm of the weight (scikit-learn's
    LogisticRegression with C = 1 / (penalty * N)), and LAYERS_PENALTY / 2 times that of the layers' logits.
    start: a head to warm-start from, which takes fewer steps.

    An encoder's dimensions are correlated, and plain L-BFGS would stop far from the minimum: the weight is
    preconditioned, weight = root^-1 v, so that the curvature at the start is equal in all directions of v.
    """
    if start is None:
        shapes = (len(x),), (x.shape[2], outputs), (outputs,)
        start = Linear(*(torch.zeros(shape, device=x.device) for shape in shapes))
    root = _root(x, y, start, penalty)
    v = start.weight.clone() if root is None else root @ start.weight
    layers, v, bias = (p.requires_grad_() for p in (start.layers.clone(), v, start.bias.clone()))

    def head() -> Linear:
        return Linear(layers, v if root is None else torch.linalg.solve_triangular(root, v, upper=True), bias)

    optimizer = torch.optim.LBFGS(
        [layers, v, bias],
        max_iter=steps,
        tolerance_grad=1e-8,  # with a warm start, a weak penalty's gradient is small from the first step
        tolerance_change=2e-7,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        now = head()
        z = now(x)
        loss = (z - y).square().sum(1).mean() / 2 if y.is_floating_point() else F.cross_entropy(z, y)
        loss = loss + penalty / 2 * now.weight.square().sum()
        loss = loss + LAYERS_PENALTY / 2 * layers.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    end = head()
    return Linear(end.layers.detach(), end.weight.detach(), end.bias.detach())


@torch.no_grad()
def _root(x: Tensor, y: Tensor, start: Linear, penalty: float) -> Tensor | None:
    """Upper triangular [D, D], with root^T root the Hessian of the loss in one column of the weight, at `start`.
    None above `WIDE` dimensions."""
    if x.shape[2] > WIDE:
        return None
    mixed, curved = start.mix(x), 1.0
    if not y.is_floating_point():
        p = (mixed @ start.weight + start.bias).softmax(1)
        curved = float((p * (1 - p)).mean())
    hessian = curved * (mixed.T @ mixed).double() / len(mixed)
    hessian.diagonal().add_(penalty + 1e-6 * float(hessian.diagonal().mean()))  # 1e-6: rounding
    return torch.linalg.cholesky(hessian, upper=True).float()


@dataclass
class Neighbours:
    """Weighted k nearest neighbours by cosine (Wu et al. 2018, section 3.4; DINO's protocol).

    bank: [N, D], rows of unit length. targets: [N, C] one-hot, or [N, 1] values.
    """

    bank: Tensor
    targets: Tensor
    k: int = 20
    temperature: float = 0.07

    @classmethod
    def of(cls, x: Tensor, targets: Tensor, k: int, temperature: float) -> "Neighbours":
        return cls(F.normalize(x, dim=1), targets, min(k, len(x)), temperature)

    def __call__(self, x: Tensor) -> Tensor:
        """[M, D] -> [M, C]: each class's share of the votes, weighted by exp(cosine / temperature); or the
        neighbours' weighted mean value."""
        found = []
        # in chunks, so that the similarities stay below 256 MB
        for queries in x.split(max(1, 2**26 // len(self.bank))):
            similarity, nearest = (F.normalize(queries, dim=1) @ self.bank.T).topk(self.k)
            votes = (similarity / self.temperature).softmax(1)
            found.append((votes[..., None] * self.targets[nearest]).sum(1))
        return torch.cat(found)
