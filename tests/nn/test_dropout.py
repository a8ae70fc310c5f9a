"""Dropout by row seeds: how often, how much, and of what it is a function."""

import pytest
import torch

from sslzoo import rng
from sslzoo.nn.dropout import SeededDropout


def seeds(count: int) -> torch.Tensor:
    return torch.tensor([rng.derive_seed(0, i) for i in range(count)])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_each_element_is_dropped_with_chance_p_and_the_mean_is_kept(p):
    count = 100_000
    found = SeededDropout(p)(torch.full((count // 100, 100), 3.0), seeds(count // 100))
    deviation = (p * (1 - p) / count) ** 0.5
    assert (found == 0).double().mean().item() == pytest.approx(p, abs=5 * deviation)
    torch.testing.assert_close(found[found != 0].unique(), torch.tensor([3.0 / (1 - p)]))
    dropped = (found == 0).double()
    assert dropped.mean(0).std().item() == pytest.approx((p * (1 - p) / 1000) ** 0.5, rel=0.5), "no column is favoured"


def test_a_row_loses_the_same_wherever_it_stands_and_with_any_neighbours():
    drop, x, given = SeededDropout(0.4), torch.ones(8, 5, 6), seeds(8)
    whole = drop(x, given)
    torch.testing.assert_close(drop(x[2::3], given[2::3]), whole[2::3], rtol=0, atol=0)
    torch.testing.assert_close(drop(x[:, :3], given), whole[:, :3], rtol=0, atol=0)
    assert not torch.equal(whole[0], whole[1]) and not torch.equal(SeededDropout(0.4, "another")(x, given), whole)


def test_its_gradient_is_its_scale_and_nothing_is_dropped_outside_training():
    drop, x = SeededDropout(0.25), torch.randn(4, 7, requires_grad=True)
    found = drop(x, seeds(4))
    found.sum().backward()
    torch.testing.assert_close(x.grad, (found != 0) / 0.75)
    assert drop.eval()(x, seeds(4)) is x and SeededDropout(0.0)(x, seeds(4)) is x
