"""NT-Xent against a slow loop in float64 and against lightly."""

import math

import pytest
import torch

from sslzoo.nn.contrastive import nt_xent


def views(n: int, dim: int = 6):
    g = torch.Generator().manual_seed(n)
    a = torch.randn(n, dim, generator=g)
    return a, a + 0.8 * torch.randn(n, dim, generator=g)


def slow(a, b, temperature: float):
    """Equation 1, term by term, and the place of each positive."""
    z = [row.double().tolist() for row in [*a, *b]]
    n = len(a)

    def sim(i, j):
        dot = sum(x * y for x, y in zip(z[i], z[j], strict=True))
        return dot / math.sqrt(sum(x * x for x in z[i])) / math.sqrt(sum(x * x for x in z[j]))

    losses, places = [], []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [k for k in range(2 * n) if k != i]
        total = sum(math.exp(sim(i, k) / temperature) for k in others)
        losses.append(-math.log(math.exp(sim(i, j) / temperature) / total))
        places.append(sum(sim(i, k) > sim(i, j) for k in others))
    return torch.tensor(losses), torch.tensor(places)


@pytest.mark.parametrize("n", [2, 5, 17])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
def test_is_the_papers_equation(n, temperature):
    a, b = views(n)
    losses, places = nt_xent(a, b, temperature)
    expected, expected_places = slow(a, b, temperature)
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(places, expected_places)


def test_is_lightlys():
    loss = pytest.importorskip("lightly.loss").NTXentLoss(temperature=0.2)
    a, b = (x.requires_grad_() for x in views(9))
    c, d = (x.detach().clone().requires_grad_() for x in (a, b))
    ours, theirs = nt_xent(a, b, 0.2)[0].mean(), loss(c, d)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    ours.backward(), theirs.backward()
    torch.testing.assert_close(a.grad, c.grad, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(b.grad, d.grad, atol=1e-6, rtol=1e-4)


def test_known_values():
    """Two alike views among orthogonal ones; and all views alike, which is guessing."""
    a = torch.eye(4)
    losses, places = nt_xent(a, 3 * a, 0.5)  # a view's length does not count
    assert losses.tolist() == pytest.approx([-math.log(math.e**2 / (math.e**2 + 6))] * 8, abs=1e-5)
    assert places.tolist() == [0] * 8
    same = torch.ones(4, 3)
    assert nt_xent(same, same, 0.5)[0].tolist() == pytest.approx([math.log(7)] * 8, abs=1e-5)


def test_half_precision_is_summed_in_full():
    a, b = views(32, 64)
    low = nt_xent(a.bfloat16(), b.bfloat16(), 0.1)[0]
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, nt_xent(a.bfloat16().float(), b.bfloat16().float(), 0.1)[0])
