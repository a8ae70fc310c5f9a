"""KoLeo against a slow loop, against lightly, and over two ranks."""

import math

import pytest
import torch
from test_distributed import SHARES, part, together
from two_ranks import on_two_ranks

from sslzoo.nn.koleo import koleo


def draws(n: int) -> torch.Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(0))


def test_koleo_is_the_slow_loop_and_lightlys():
    x = draws(7)
    unit = [row / row.norm() for row in x.double()]
    slow = [-math.log(min(float((a - b).norm()) for j, b in enumerate(unit) if j != i)) for i, a in enumerate(unit)]
    assert koleo(x).tolist() == pytest.approx(slow, rel=1e-5)
    theirs = pytest.importorskip("lightly.loss").KoLeoLoss()(x)
    assert float(koleo(x).mean()) == pytest.approx(float(theirs), rel=1e-5)


def test_one_row_has_no_neighbour():
    assert koleo(draws(1)).tolist() == [0.0]


@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_the_gather_has_a_gradient(counts, tmp_path):
    """A row is pushed away by those of the other rank whose neighbour it is."""
    x, n = draws(sum(counts)), sum(counts)

    def loss(mine, rows):
        weight = torch.eye(5).requires_grad_()
        return koleo(mine @ weight, rows), weight

    def work(rank):
        losses, weight = loss(part(x, counts, rank), list(counts))
        (losses.sum() / n * 2).backward()
        return {"losses": losses.detach(), "grad": weight.grad}

    found = on_two_ranks(work, tmp_path)
    losses, weight = loss(x, None)
    losses.mean().backward()
    torch.testing.assert_close(torch.cat([one["losses"] for one in found]), losses.detach())
    torch.testing.assert_close(together(one["grad"] for one in found), weight.grad, rtol=1e-4, atol=1e-6)
