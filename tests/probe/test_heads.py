import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn.functional import cross_entropy

from sslzoo.probe.heads import WIDE, Linear, Neighbours, fit


def problem(n=300, d=6, classes=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    x = torch.randn(n, d, generator=g) + torch.randn(classes, d, generator=g)[y]
    return (x - x.mean(0)) / x.std(0), y


@pytest.mark.parametrize("penalty", [0.3, 0.01, 0.001])
def test_one_layer_is_scikit_learns_logistic_regression(penalty):
    x, y = problem()
    head = fit(x[None], y, 4, penalty)
    slow = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-9, max_iter=10000).fit(x.double(), y)
    np.testing.assert_allclose(head(x[None]).softmax(1), slow.predict_proba(x.double()), atol=5e-3)
    # and its loss is as low
    theirs = Linear(torch.zeros(1), *(torch.tensor(v, dtype=torch.float32) for v in (slow.coef_.T, slow.intercept_)))
    ours, best = (cross_entropy(h(x[None]), y) + penalty / 2 * h.weight.square().sum() for h in (head, theirs))
    assert ours.item() == pytest.approx(best.item(), abs=2e-5)


@pytest.mark.parametrize("penalty", [1e-2, 1e-4, 1e-6])
def test_dimensions_that_go_together_end_at_the_minimum_too(penalty):
    """As an encoder's do: plain L-BFGS is far from it after as many steps."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(2000) % 5
    x = torch.randn(2000, 64, generator=g) + 0.3 * torch.randn(5, 64, generator=g)[y]
    x = x @ torch.diag(torch.logspace(0, -3, 64)) @ torch.randn(64, 64, generator=g)
    x = (x - x.mean(0)) / x.std(0)

    def loss(h):
        return (cross_entropy(h(x[None]), y) + penalty / 2 * h.weight.square().sum()).item()

    slow = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-10, max_iter=1000, solver="newton-cholesky")
    slow.fit(x.double(), y)
    theirs = Linear(torch.zeros(1), *(torch.tensor(v, dtype=torch.float32) for v in (slow.coef_.T, slow.intercept_)))
    assert loss(fit(x[None], y, 5, penalty)) == pytest.approx(loss(theirs), abs=2e-4)


def test_features_of_many_dimensions_are_fitted_too():
    x, y = problem(n=60, d=WIDE + 1)
    slow = LogisticRegression(C=1 / (0.1 * len(x)), tol=1e-9, max_iter=10000).fit(x.double(), y)
    np.testing.assert_allclose(fit(x[None], y, 4, 0.1)(x[None]).softmax(1), slow.predict_proba(x.double()), atol=5e-3)


def test_values_are_scikit_learns_ridge():
    x, _ = problem()
    y = x[:, 0] - 2 * x[:, 1] + 0.1 * torch.randn(len(x), generator=torch.Generator().manual_seed(1)) + 3
    head = fit(x[None], y[:, None], 1, 0.2)
    slow = Ridge(alpha=0.2 * len(x)).fit(x.double(), y.double())
    np.testing.assert_allclose(head.weight[:, 0], slow.coef_, atol=1e-3)
    assert head.bias.item() == pytest.approx(slow.intercept_, abs=1e-3)


def test_the_layer_that_knows_gets_the_weight():
    x, y = problem(d=8)
    g = torch.Generator().manual_seed(3)
    layers = torch.stack([torch.randn(x.shape, generator=g), x, torch.randn(x.shape, generator=g)])
    share = fit(layers, y, 4, 0.01).layers.softmax(0)
    assert share[1] > 0.9 and share.sum().item() == pytest.approx(1)


def test_the_mix_is_the_weighted_sum_of_the_layers():
    x, y = problem(n=40)
    layers = torch.stack([x, x.flip(0), x.roll(3, 0)])
    head = fit(layers, y, 4, 0.1, steps=5)
    share = head.layers.softmax(0)
    slow = sum(share[i] * layers[i] for i in range(3)) @ head.weight + head.bias
    torch.testing.assert_close(head(layers), slow)


def test_a_warm_start_ends_where_a_cold_one_does_and_changes_nothing_it_came_from():
    x, y = problem()
    strong = fit(x[None], y, 4, 0.1)
    before = strong.weight.clone()
    warm, cold = fit(x[None], y, 4, 0.01, start=strong), fit(x[None], y, 4, 0.01)
    torch.testing.assert_close(warm.weight, cold.weight, atol=5e-3, rtol=0)
    assert torch.equal(strong.weight, before) and not torch.equal(before, warm.weight)


def test_fitting_twice_is_the_same_to_the_bit():
    x, y = problem()
    assert torch.equal(fit(x[None], y, 4, 0.01).weight, fit(x[None], y, 4, 0.01).weight)


def test_neighbours_vote_as_a_slow_loop_does():
    x, y = problem(n=60)
    queries, _ = problem(n=11, seed=5)
    found = Neighbours.of(x, torch.eye(4)[y], k=7, temperature=0.07)(queries)
    for row, query in zip(found, queries, strict=True):
        cosines = [(float(query @ b / query.norm() / b.norm()), int(k)) for b, k in zip(x, y, strict=True)]
        votes = np.zeros(4)
        for cosine, k in sorted(cosines, reverse=True)[:7]:
            votes[k] += np.exp(cosine / 0.07)
        np.testing.assert_allclose(row, votes / votes.sum(), atol=1e-4)


def test_fewer_items_than_neighbours_all_vote():
    x, y = problem(n=5)
    found = Neighbours.of(x, torch.eye(4)[y], k=20, temperature=0.07)
    assert found.k == 5 and found(x).argmax(1).tolist() == y.tolist()


def test_neighbours_of_values_give_their_mean():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0]])
    found = Neighbours.of(x, torch.tensor([[2.0], [4.0], [100.0]]), k=2, temperature=0.07)(torch.tensor([[5.0, 0.025]]))
    assert found.item() == pytest.approx(3.0, abs=1e-3)
