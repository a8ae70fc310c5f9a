import numpy as np
import pytest
import torch

from sslzoo.nn.rank import lidar, rankme


def entropy(values):
    total, found = sum(values), 0.0
    for value in values:
        share = value / total + 1e-7
        found -= share * np.log(share)
    return np.exp(found)


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_rankme_is_the_papers(shape):
    z = np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 3, shape[1])
    values = np.sqrt(np.clip(np.linalg.eigvalsh(z @ z.T if shape[0] < shape[1] else z.T @ z), 0, None))
    assert rankme(torch.tensor(z)) == pytest.approx(entropy(values), rel=1e-6)


def test_rankme_counts_the_directions_of_equal_scale():
    z = torch.zeros(60, 8)
    for row in range(60):
        z[row, row % 5] = 1.0
    assert rankme(z) == pytest.approx(5, abs=1e-4)
    assert rankme(torch.ones(60, 8)) == pytest.approx(1, abs=1e-4)


def test_lidar_is_the_papers():
    g = np.random.default_rng(1)
    items, views, dim = 7, 5, 4
    z = g.normal(size=(items, 1, dim)) * [3, 1, 0.5, 0.1] + 0.3 * g.normal(size=(items, views, dim))
    mean, between, within = z.reshape(-1, dim).mean(0), np.zeros((dim, dim)), 1e-4 * np.eye(dim)
    for item in z:
        between += np.outer(item.mean(0) - mean, item.mean(0) - mean) / items
        for row in item:
            within += np.outer(row - item.mean(0), row - item.mean(0)) / (items * views)
    values, vectors = np.linalg.eigh(within)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    expected = entropy(np.linalg.eigvalsh(root @ between @ root))
    assert lidar(torch.tensor(z)) == pytest.approx(expected, rel=1e-6)


def test_lidar_counts_what_tells_items_apart_and_rankme_does_not_know():
    g = torch.Generator().manual_seed(0)
    items = torch.zeros(200, 1, 6)
    items[..., :2] = torch.randn(200, 1, 2, generator=g)
    noise = torch.randn(200, 10, 6, generator=g)
    noise[..., :2] *= 0.01  # the other four directions are the views' alone
    z = items + noise
    assert lidar(z) < 2.1 and rankme(z.flatten(0, 1)) > 5
