"""Losses without negatives against slow loops in float64, against lightly, and over two ranks."""

import pytest
import torch
from closeness import assert_sum_close
from test_distributed import SHARES, part, together
from two_ranks import on_two_ranks

from sslzoo.nn.siamese import barlow_twins, negative_cosine, off_diagonal, vicreg


def pair(n: int = 9, dim: int = 5, dtype: torch.dtype = torch.float32):
    """Two branches that partly agree, far from zero mean, with columns above and below a deviation of 1."""
    z = torch.randn(3, n, dim, generator=torch.Generator().manual_seed(0))
    a, b = z[0] + 0.5 * z[1], z[0] + 0.5 * z[2]
    return [(x * torch.linspace(0.2, 1.8, dim) + 3).to(dtype) for x in (a, b)]


def columns(z) -> list[list[float]]:
    return [list(map(float, column)) for column in z.double().T]


def moment(x: list[float], y: list[float], over: int) -> float:
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((p - mx) * (q - my) for p, q in zip(x, y, strict=True)) / over


def test_negative_cosine_is_the_slow_loop_and_lightlys():
    a, b = pair()
    slow = [-float(x @ y) / float(x.norm() * y.norm()) for x, y in zip(a.double(), b.double(), strict=True)]
    assert negative_cosine(a, b).tolist() == pytest.approx(slow, abs=1e-6)
    lightly = pytest.importorskip("lightly.loss")
    assert float(negative_cosine(a, b).mean()) == pytest.approx(float(lightly.NegativeCosineSimilarity()(a, b)), 1e-5)


def test_barlow_twins_is_the_slow_loop_and_lightlys():
    a, b = pair()
    n, x, y = len(a), columns(a), columns(b)
    std_x, std_y = ([(moment(c, c, n) + 1e-5) ** 0.5 for c in z] for z in (x, y))
    corr = [[moment(x[i], y[j], n) / (std_x[i] * std_y[j]) for j in range(5)] for i in range(5)]
    on = sum((1 - corr[i][i]) ** 2 for i in range(5))
    off = sum(corr[i][j] ** 2 for i in range(5) for j in range(5) if i != j)
    found = barlow_twins(a, b)
    assert [float(term) for term in found] == pytest.approx([on, off], rel=1e-4)
    lightly = pytest.importorskip("lightly.loss")
    theirs = lightly.BarlowTwinsLoss(lambda_param=0.3)(a, b)
    assert float(found[0] + 0.3 * found[1]) == pytest.approx(float(theirs), rel=1e-5)


def test_vicreg_is_the_slow_loop_and_lightlys():
    a, b = pair()
    n, dim = a.shape
    invariance = float((a.double() - b.double()).square().sum()) / (n * dim)
    variance = covariance = 0.0
    for z in (columns(a), columns(b)):
        variance += sum(max(0.0, 1 - (moment(c, c, n - 1) + 1e-4) ** 0.5) for c in z) / dim / 2
        covariance += sum(moment(z[i], z[j], n - 1) ** 2 for i in range(dim) for j in range(dim) if i != j) / dim
    found = vicreg(a, b)
    assert [float(term) for term in found] == pytest.approx([invariance, variance, covariance], rel=1e-4)
    assert variance > 0.1 and covariance > 0.1
    lightly = pytest.importorskip("lightly.loss")
    theirs = lightly.VICRegLoss(lambda_param=25, mu_param=20, nu_param=3)(a, b)
    assert float(25 * found[0] + 20 * found[1] + 3 * found[2]) == pytest.approx(float(theirs), rel=1e-5)


def test_vicregs_variance_is_not_doubled():
    """Two collapsed branches are each 1 below the wanted deviation: the mean of both is 1, as in the authors' code,
    whose weight of 25 is ours; their sum, in the paper's eq. 6, is 2."""
    a = torch.ones(6, 5)
    assert float(vicreg(a, a)[1]) == pytest.approx(1 - 1e-4**0.5, rel=1e-5)
    b = pair(6)[1] * 9  # well above the wanted deviation
    assert float(vicreg(a, b)[1]) == pytest.approx((1 - 1e-4**0.5) / 2, rel=1e-5)


def test_no_row_and_one_row_are_finite():
    """What is validated on may be one row."""
    a, b = pair(1)
    assert all(torch.isfinite(term) for term in (*barlow_twins(a, b), *vicreg(a, b)))


def test_off_diagonal():
    x = torch.arange(9.0).view(3, 3)
    assert off_diagonal(x).tolist() == [[0, 1, 2], [3, 0, 5], [6, 7, 0]]


LOSSES = {
    "negative_cosine": lambda a, b, rows: negative_cosine(a, b).mean(),
    "barlow_twins": lambda a, b, rows: sum(w * x for w, x in zip((1, 0.3), barlow_twins(a, b), strict=True)),
    "vicreg": lambda a, b, rows: sum(w * x for w, x in zip((25, 25, 1), vicreg(a, b, rows), strict=True)),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_two_ranks_give_one_ranks_value_and_gradient(name, counts, tmp_path):
    """Of shares that need not be even; each rank's loss is weighed by its rows, as the trainer does."""
    n = sum(counts)
    a, b = pair(n)
    w = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))

    def loss(xa, xb, rows):
        weight = w.clone().requires_grad_()
        return LOSSES[name](xa @ weight, xb @ weight, rows), weight

    def work(rank):
        value, weight = loss(part(a, counts, rank), part(b, counts, rank), list(counts))
        (value * counts[rank] / n * 2).backward()
        return {"value": value.detach() * counts[rank] / n, "grad": weight.grad}

    found = on_two_ranks(work, tmp_path)
    value, weight = loss(a, b, None)
    value.backward()
    assert_sum_close(sum(one["value"] for one in found), value.detach(), scale=8 * value.detach())
    assert_sum_close(together(one["grad"] for one in found), weight.grad, scale=8 * weight.grad)
