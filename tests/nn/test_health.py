"""Collapse in numbers, on features whose answer is known."""

import pytest
import torch

from sslzoo.nn.health import representation_health


def numbers(z) -> tuple[float, float]:
    found = representation_health(z)
    assert found.keys() == {"feature_std", "feature_rank"}
    return float(found["feature_std"]), float(found["feature_rank"])


def test_one_point():
    std, rank = numbers(torch.ones(16, 8))
    assert std == pytest.approx(0, abs=1e-6) and rank == pytest.approx(1, abs=1e-3)


def test_a_point_with_a_little_noise_is_a_collapse_too():
    std, _ = numbers(torch.ones(64, 8) + 1e-3 * torch.randn(64, 8, generator=torch.Generator().manual_seed(0)))
    assert std < 0.01


@pytest.mark.parametrize("copies", [1, 4], ids=["fewer rows than dims", "more"])
def test_the_corners_of_a_cross_fill_the_sphere(copies):
    """+e_i and -e_i: mean 0, the same variance in every direction."""
    z = torch.cat([torch.eye(8), -torch.eye(8)]).repeat(copies, 1)
    std, rank = numbers(z)
    assert std == pytest.approx(1, abs=1e-5) and rank == pytest.approx(8, abs=1e-3)


def test_a_line():
    """Two opposite points: as far apart as can be, in one dimension."""
    direction = torch.randn(8, generator=torch.Generator().manual_seed(0))
    std, rank = numbers(torch.cat([direction.expand(9, 8), -direction.expand(9, 8)]))
    # seven eigenvalues that are zero come out as an eps of the largest, and their square roots count: each 3e-4
    assert rank == pytest.approx(1, abs=0.05)
    # every point is a unit vector, so the variances add up to 1, however few directions they are in
    assert 0 < std <= 1 + 1e-5


def test_wide_features_of_few_rows():
    """As many dimensions as there are rows can be used at most; length does not count."""
    z = torch.randn(12, 500, generator=torch.Generator().manual_seed(0))
    std, rank = numbers(z)
    assert std == pytest.approx(1, abs=0.1) and 10 < rank <= 11.01  # the mean takes one
    assert numbers(1000 * z) == pytest.approx((std, rank), rel=5e-3)  # again a square root of a rounded zero
