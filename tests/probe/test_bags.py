"""Sparse features are fitted as the same features made dense are."""

import numpy as np
import pytest
import torch
from scipy.sparse import random as random_matrix
from torch.nn.functional import cross_entropy

from sslzoo.probe import bags, heads
from sslzoo.probe.bags import Bags
from sslzoo.probe.reader import Scale


def both(count: int = 80, size: int = 30, seed: int = 0):
    """The same standardised features, sparse and dense."""
    g = np.random.default_rng(seed)
    rows = random_matrix(count, size, 0.2, "csr", np.float32, rng=g)
    sparse, dense = Bags(rows), torch.from_numpy(rows.toarray())[None]
    return bags.BagScale.of(sparse, False)(sparse), Scale.of(dense, False)(dense)


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("penalty", [0.3, 0.01])
def test_classes_are_fitted_as_by_the_dense_head(outputs, penalty):
    sparse, dense = both()
    y = (dense[0, :, :outputs] + 0.1 * torch.randn(80, outputs, generator=torch.manual_seed(0))).argmax(1)
    y[:outputs] = torch.arange(outputs)
    ours, theirs = bags.fit(sparse, y, outputs, penalty), heads.fit(dense, y, outputs, penalty)
    torch.testing.assert_close(ours(sparse).softmax(1), theirs(dense).softmax(1), atol=2e-3, rtol=0)
    losses = [
        cross_entropy(head(x), y) + penalty / 2 * head.weight.square().sum()
        for head, x in ((ours, sparse), (theirs, dense))
    ]
    assert losses[0].item() <= losses[1].item() + 1e-5
    # from a stronger penalty it ends where it does by itself
    warm = bags.fit(sparse, y, outputs, penalty, start=bags.fit(sparse, y, outputs, 1.0))
    torch.testing.assert_close(warm(sparse).softmax(1), ours(sparse).softmax(1), atol=2e-3, rtol=0)


def test_values_are_fitted_as_by_the_dense_head():
    sparse, dense = both()
    y = dense[0, :, :1] - dense[0, :, 1:2] + 3
    torch.testing.assert_close(
        bags.fit(sparse, y, 1, 0.1)(sparse), heads.fit(dense, y, 1, 0.1)(dense), atol=2e-3, rtol=0
    )


def test_neighbours_are_those_of_the_dense_features():
    sparse, dense = both()
    queries, dense_queries = Bags(sparse.rows[:20], sparse.mean), dense[0, :20]
    targets = torch.eye(4)[torch.arange(80) % 4]
    found = bags.BagNeighbours.of(sparse, targets, 7, 0.07)(queries)
    torch.testing.assert_close(found, heads.Neighbours.of(dense[0], targets, 7, 0.07)(dense_queries), atol=1e-4, rtol=0)
    torch.testing.assert_close(bags.DenseRows(queries)[np.arange(20)], dense_queries, atol=1e-5, rtol=1e-5)
