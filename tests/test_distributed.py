"""Sums, gathers and batch norm over two ranks give one process's values and gradients."""

import pytest
import torch
from closeness import assert_sum_close
from torch import nn
from two_ranks import on_two_ranks

from sslzoo import distributed
from sslzoo.nn.batchnorm import BatchNorm1d, BatchNorm2d
from sslzoo.nn.contrastive import nt_xent

SHARES = [(2, 2), (3, 1), (1, 4)]


def part(x: torch.Tensor, counts, rank: int) -> torch.Tensor:
    """A rank's rows of a batch that is divided as `counts` says."""
    return x.split(list(counts))[rank]


def data(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def weight(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return data(5, 4, dtype=dtype).mul(0.7).requires_grad_()


def together(grads) -> torch.Tensor:
    """What data-parallel training makes of the ranks' gradients."""
    return sum(grads) / 2


def test_alone_each_is_the_identity():
    x = data(3, 2)
    assert distributed.world_size() == 1 and distributed.rank() == 0
    assert distributed.all_reduce_sum(x) is x
    assert distributed.all_gather(x) == (x, 0)
    assert torch.equal(distributed.all_reduce_mean(x, 4), x / 4)
    assert torch.equal(distributed.broadcast(x), x)


def test_the_first_ranks_is_everyones(tmp_path):
    for found in on_two_ranks(lambda rank: distributed.broadcast(torch.tensor([3.0, -1.0]) + rank), tmp_path):
        assert found.tolist() == [3.0, -1.0]


@pytest.mark.parametrize("counts", [*SHARES, (4, 0)], ids=str)
def test_gather_and_its_gradient(counts, tmp_path):
    x, n = data(sum(counts), 5, dtype=torch.float64), sum(counts)
    pull = data(n, n, dtype=torch.float64)

    def loss(mine, everyone, w_rows):
        """Each row's loss looks at all rows, so that a gradient comes to a row from the other rank."""
        return ((mine @ everyone.T).sin() * w_rows).sum() / n

    def work(rank):
        w = weight(torch.float64)
        mine = part(x, counts, rank) @ w
        everyone, start = distributed.all_gather(mine)
        rows = pull[start : start + len(mine)]
        (loss(mine, everyone, rows) * 2).backward()  # a mean over ranks divides by two
        return {"all": everyone.detach(), "start": start, "grad": w.grad}

    found = on_two_ranks(work, tmp_path)
    w = weight(torch.float64)
    y = x @ w
    loss(y, y, pull).backward()
    for one in found:
        assert torch.equal(one["all"], torch.cat([part(x, counts, r) @ w for r in (0, 1)]).detach())
    assert [one["start"] for one in found] == [0, counts[0]]
    assert_sum_close(together(one["grad"] for one in found), w.grad)


@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_total_and_mean_and_their_gradients(counts, tmp_path):
    """A loss that is no sum over rows, such as an entropy of means, is the same on all ranks."""
    x = data(sum(counts), 5, dtype=torch.float64)

    def loss(total, mean):
        return total.tanh().sum() + mean.softmax(0).log().square().sum()

    def work(rank):
        w = weight(torch.float64)
        y = part(x, counts, rank) @ w
        value = loss(distributed.all_reduce_sum(y.sum(0)), distributed.all_reduce_mean(y.square().sum(0), len(y)))
        share = len(y) / distributed.all_reduce_sum(torch.tensor(len(y), dtype=y.dtype))
        (value * share * 2).backward()  # as the trainer weighs a rank
        return {"value": value.detach(), "grad": w.grad}

    found = on_two_ranks(work, tmp_path)
    w = weight(torch.float64)
    y = x @ w
    value = loss(y.sum(0), y.square().mean(0))
    value.backward()
    for one in found:
        assert_sum_close(one["value"], value.detach())
    assert_sum_close(together(one["grad"] for one in found), w.grad)


@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_nt_xent_over_ranks(counts, tmp_path):
    """Every view of the global batch is a negative, and the gradient is that of the global mean."""
    xa, xb, n = data(sum(counts), 5), data(2 * sum(counts), 5)[sum(counts) :], sum(counts)

    def work(rank):
        w = weight()
        losses, place = nt_xent(part(xa, counts, rank) @ w, part(xb, counts, rank) @ w, 0.3)
        (losses.sum() / (2 * n) * 2).backward()
        return {"losses": losses.detach().view(2, -1), "place": place.view(2, -1), "grad": w.grad}

    found = on_two_ranks(work, tmp_path)
    w = weight()
    losses, place = nt_xent(xa @ w, xb @ w, 0.3)
    losses.mean().backward()
    assert_sum_close(torch.cat([one["losses"] for one in found], 1).flatten(), losses.detach())
    assert torch.equal(torch.cat([one["place"] for one in found], 1).flatten(), place)
    assert_sum_close(together(one["grad"] for one in found), w.grad)


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (BatchNorm1d, nn.BatchNorm1d, (6,)),
        (BatchNorm1d, nn.BatchNorm1d, (6, 3)),
        (BatchNorm2d, nn.BatchNorm2d, (6, 3, 2)),
    ],
    ids=["rows", "frames", "pixels"],
)
@pytest.mark.parametrize("counts", [(4, 4), (5, 2)], ids=str)
def test_batch_norm_is_of_the_joined_batch(ours, theirs, shape, counts, tmp_path):
    x = data(sum(counts), *shape) * 2 + 5  # as far from zero as features after a ReLU
    pull = data(sum(counts) + 1, *shape)[1:]

    def made(kind):
        norm = kind(6, momentum=0.2)
        with torch.no_grad():
            norm.weight.copy_(data(6) + 2), norm.bias.copy_(data(7)[1:])
        return norm

    def loss(y, rows):
        return (y.sin() * rows).sum() / sum(counts)

    def work(rank):
        norm, rows = made(ours), part(x, counts, rank).clone().requires_grad_()
        for _ in range(2):
            y = norm(rows)
        (loss(y, part(pull, counts, rank)) * 2).backward()
        after = norm.eval()(rows)
        return {
            "y": y.detach(),
            "x": rows.grad,
            "weight": norm.weight.grad,
            "bias": norm.bias.grad,
            "buffers": list(norm.buffers()),
            "after": after.detach(),
        }

    found = on_two_ranks(work, tmp_path)
    norm, rows = made(theirs), x.clone().requires_grad_()
    for _ in range(2):
        y = norm(rows)
    loss(y, pull).backward()
    assert_sum_close(torch.cat([one["y"] for one in found]), y.detach(), x)
    assert_sum_close(torch.cat([one["x"] for one in found]) / 2, rows.grad)
    for name in ("weight", "bias"):
        assert_sum_close(together(one[name] for one in found), getattr(norm, name).grad)
    for one in found:
        for a, b in zip(one["buffers"], norm.buffers(), strict=True):
            assert_sum_close(a, b, x)
    assert_sum_close(torch.cat([one["after"] for one in found]), norm.eval()(rows).detach(), x)


def test_batch_norm_far_from_zero(tmp_path):
    """A variance made of the mean square would drown in rounding where the mean is large beside it."""
    x = data(8, 6) * 0.05 + 30
    found = on_two_ranks(lambda rank: BatchNorm1d(6)(part(x, (4, 4), rank)).detach(), tmp_path)
    torch.testing.assert_close(torch.cat(found), nn.BatchNorm1d(6)(x).detach(), atol=2e-3, rtol=0)
