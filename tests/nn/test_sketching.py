"""SIGReg and VISReg's regularisers against slow loops in float64 with their gradients, against lightly, and over two
ranks."""

import math
from statistics import NormalDist

import pytest
import torch
from closeness import assert_sum_close
from test_distributed import SHARES, part, together
from two_ranks import on_two_ranks

from sslzoo.nn.sketching import epps_pulley, sigreg, slices, visreg


def views(n: int = 7, dim: int = 4) -> torch.Tensor:
    """Two views [2, n, dim], off zero and of unlike deviations."""
    z = torch.randn(2, n, dim, generator=torch.Generator().manual_seed(0))
    return z * torch.linspace(0.3, 1.7, dim) + 0.4


def directions(dim: int = 4, count: int = 5) -> torch.Tensor:
    return slices(torch.tensor([11]), dim, count, torch.device("cpu"))


def test_directions_are_unit_vectors_of_the_seed():
    a = slices(torch.tensor([3]), 6, 400, torch.device("cpu"))
    torch.testing.assert_close(a.norm(dim=0), torch.ones(400))
    assert torch.equal(a, slices(torch.tensor([3]), 6, 400, torch.device("cpu")))
    assert not torch.equal(a, slices(torch.tensor([4]), 6, 400, torch.device("cpu")))
    assert (a @ a.T * 6 / 400 - torch.eye(6)).abs().max() < 0.2, "isotropic"


def slow_sigreg(z, along, knots=17, t_max=3.0):
    total, dt = 0.0, t_max / (knots - 1)
    for view in z:
        for direction in along.T:
            x = [row @ direction for row in view]
            for knot in range(-(knots - 1), knots):  # both sides of zero
                t = knot * dt
                real, imaginary = (sum(f(t * one) for one in x) / len(x) for f in (torch.cos, torch.sin))
                normal = math.exp(-t * t / 2)
                ends = 0.5 if abs(knot) == knots - 1 else 1.0
                total = total + ends * dt * ((real - normal) ** 2 + imaginary**2) * normal * len(x)
    return total / len(z) / along.shape[1]


def slow_visreg(z, along):
    scale = shape = centre = 0.0
    many, n, dim = z.shape
    for view in z:
        means = [sum(view[:, j]) / n for j in range(dim)]
        stds = [(sum((x - means[j]) ** 2 for x in view[:, j]) / n).sqrt() + 1e-6 for j in range(dim)]
        scale = scale + sum((1 - s) ** 2 for s in stds) / dim / many
        centre = centre + sum(m**2 for m in means) / dim / many
        for direction in along.T:
            x = [sum((row[j] - means[j]) / stds[j].detach() * direction[j] for j in range(dim)) for row in view]
            for i, value in enumerate(sorted(x, key=float)):
                quantile = NormalDist().inv_cdf((i + 1) / (n + 1))
                shape = shape + (value - quantile) ** 2 / n / along.shape[1] / many
    return scale + 2 * shape + 3 * centre


LOSSES = {
    "sigreg": (lambda z, along, rows: sigreg(z, along), slow_sigreg),
    "visreg": (lambda z, along, rows: sum(w * x for w, x in zip((1, 2, 3), visreg(z, along, rows), strict=True)), slow_visreg),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_the_slow_loop(name):
    fast, slow = LOSSES[name]
    z, exact = views().requires_grad_(), views().double().requires_grad_()
    value, expected = fast(z, directions(), None), slow(exact, directions().double())
    value.backward(), expected.backward()
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(z.grad.double(), exact.grad, atol=1e-5, rtol=1e-4)


def test_the_statistic_is_small_for_a_gaussian_alone():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(4000, 1, generator=generator)
    uniform = (torch.rand(4000, 1, generator=generator) - 0.5) * math.sqrt(12)  # the same mean and deviation
    assert float(epps_pulley(normal)) < 2
    assert float(epps_pulley(uniform)) > 20


def test_both_are_lightlys(monkeypatch):
    lightly = pytest.importorskip("lightly.loss")
    if not hasattr(lightly, "VISRegLoss"):
        pytest.skip("lightly is older than 1.6")
    z, along = views(), directions()
    theirs = lightly.LeJEPALoss(lambda_param=0.3, sigreg_num_vectors=5)
    monkeypatch.setattr(theirs.sigreg, "_generate_unit_vectors", lambda *a: along)
    centre = (z - z[:1].mean(0)).square().mean()
    ours = 0.3 * sigreg(z, along) + 0.7 * centre
    assert float(ours) == pytest.approx(float(theirs(global_proj=z[:1], local_proj=z[1:])), rel=1e-5)
    theirs = lightly.VISRegLoss(num_slices=5, eps=1e-6)
    monkeypatch.setattr(torch, "randn", lambda *a, **k: along)
    found = theirs.forward_components(global_proj=z[:1], local_proj=z[1:])
    assert [float(x) for x in visreg(z, along)] == pytest.approx(
        [float(found.scale), float(found.shape), float(found.center)], rel=1e-4
    )


def test_visreg_pushes_at_collapse_where_sigreg_does_not():
    """Nearly equal rows: the gradient of the scale is about constant, that of the test is about nothing."""
    z = (1e-4 * views() - 1e-4 * views().mean(1, keepdim=True)).requires_grad_()
    [weak] = torch.autograd.grad(sigreg(z, directions()), z)
    [strong] = torch.autograd.grad(visreg(z, directions())[0], z)
    assert strong.norm() > 100 * weak.norm()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_sigreg_is_of_the_global_batch_and_not_per_rank(name, counts, tmp_path):
    """Two ranks, of shares that need not be even, give one rank's value and gradient; the mean of each rank's own
    statistic, which is the known mistake, is another number."""
    n = sum(counts)
    w = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    fast = LOSSES[name][0]

    def work(rank):
        weight = w.clone().requires_grad_()
        mine = views(n)[:, sum(counts[:rank]) : sum(counts[: rank + 1])]
        value = fast(mine @ weight, directions(), list(counts))
        (value * counts[rank] / n * 2).backward()
        return {"value": value.detach(), "grad": weight.grad}

    found = on_two_ranks(work, tmp_path)
    weight = w.clone().requires_grad_()
    value = fast(views(n) @ weight, directions(), None)
    value.backward()
    for one in found:
        assert_sum_close(one["value"], value.detach(), scale=8 * value.detach())
    assert_sum_close(together(one["grad"] for one in found), weight.grad, scale=8 * weight.grad)
    alone = [fast(part(views(n).transpose(0, 1), counts, r).transpose(0, 1) @ w, directions(), None) for r in (0, 1)]
    mistaken = sum(float(x) * c / n for x, c in zip(alone, counts, strict=True))
    assert abs(mistaken - float(value)) > 0.02 * float(value)
