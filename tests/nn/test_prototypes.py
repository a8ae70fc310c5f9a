"""Prototypes, and Sinkhorn's assignments against a slow loop in float64, against lightly, and over two ranks."""

import pytest
import torch
import torch.nn.functional as F
from slow_sinkhorn import slow
from test_distributed import SHARES, part
from two_ranks import on_two_ranks

from sslzoo.nn.prototypes import Prototypes, sinkhorn


def scores(n: int = 7, k: int = 4) -> torch.Tensor:
    """Cosines that prefer the first prototypes."""
    z = torch.randn(n, k, generator=torch.Generator().manual_seed(0)) * 0.2
    return (z + torch.linspace(0.5, -0.5, k)).clamp(-1, 1)


@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_is_the_slow_loop_and_lightlys(iterations):
    x = scores()
    found = sinkhorn(x, 0.05, iterations)
    torch.testing.assert_close(found.double(), torch.tensor(slow(x, 0.05, iterations)).double(), rtol=1e-4, atol=1e-7)
    theirs = pytest.importorskip("lightly.loss.swav_loss").sinkhorn(x, iterations, 0.05)
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-6)


def test_prototypes_get_equal_shares_in_the_end():
    found = sinkhorn(scores(64), 0.05, 200)
    torch.testing.assert_close(found.sum(1), torch.ones(64))
    torch.testing.assert_close(found.sum(0), torch.full((4,), 16.0), rtol=1e-3, atol=0)


def test_a_small_epsilon_does_not_overflow():
    """exp(1 / 0.005) has no float32."""
    found = sinkhorn(scores(), 0.005)
    assert found.isfinite().all() and found.sum(1).tolist() == pytest.approx([1.0] * 7, rel=1e-5)


@pytest.mark.parametrize("counts", [*SHARES, (4, 0)], ids=str)
def test_sinkhorn_per_rank_would_differ_from_that_of_the_global_batch(counts, tmp_path):
    x = scores(sum(counts))
    first, second = on_two_ranks(lambda rank: sinkhorn(part(x, counts, rank), 0.05), tmp_path)
    whole = sinkhorn(x, 0.05)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-5, atol=1e-7)
    if counts[1]:
        assert (sinkhorn(x[: counts[0]], 0.05) - whole[: counts[0]]).abs().max() > 0.01


def test_prototypes_and_features_are_normalised():
    prototypes, x = Prototypes(5, 3), torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        prototypes.weight.mul_(torch.tensor([[3.0], [0.1], [7.0]]))
    expected = [[float(F.cosine_similarity(a, b, dim=0)) for b in prototypes.weight] for a in 9 * x]
    torch.testing.assert_close(prototypes(9 * x), torch.tensor(expected))


def test_frozen_prototypes_get_a_gradient_of_zero_and_pass_it_on():
    prototypes, x = Prototypes(5, 3), torch.randn(4, 5, requires_grad=True)
    prototypes(x, frozen=True).sum().backward()
    assert not prototypes.weight.grad.any() and x.grad.any()
