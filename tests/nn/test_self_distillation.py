"""Cross-entropies between views against a slow loop and lightly; the center; a schedule."""

import pytest
import torch
from test_distributed import SHARES, part
from two_ranks import on_two_ranks

from sslzoo.nn.self_distillation import Center, cross_view, warmed_up


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow(targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Row by row and pair by pair, in float64: targets [2, B, K], logits [V, B, K]."""
    total, pairs = 0.0, 0
    for t in range(len(targets)):
        for s in range(len(logits)):
            if s != t:
                pairs += 1
                for q, x in zip(targets[t], logits[s], strict=True):
                    p = x.exp() / x.exp().sum()
                    total = total - sum(q[k] * p[k].log() for k in range(len(q)))
    return total / pairs / targets.shape[1]


def test_cross_view_is_the_slow_loop():
    logits = draws(4, 3, 5).double().requires_grad_()
    targets = draws(2, 3, 5, seed=1).double().softmax(2)
    loss = cross_view(list(targets), list(logits)).mean()
    expected = slow(targets, logits)
    assert float(loss) == pytest.approx(float(expected), rel=1e-12)
    for ours, theirs in zip(*(torch.autograd.grad(x, logits) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_dinos_loss_and_center_are_lightlys():
    lightly = pytest.importorskip("lightly.loss").DINOLoss(
        output_dim=5, teacher_temp=0.07, warmup_teacher_temp=0.04, warmup_teacher_temp_epochs=4
    )
    center = Center(5)
    for epoch in range(6):
        taught, logits = draws(2, 3, 5, seed=epoch), draws(4, 3, 5, seed=10 + epoch)
        temperature = warmed_up(0.04, 0.07, 4, epoch)
        probs = center(taught.flatten(0, 1), temperature).chunk(2)
        loss = cross_view(list(probs), [x / 0.1 for x in logits]).mean()
        center.update(taught.flatten(0, 1))
        assert float(loss) == pytest.approx(float(lightly(list(taught), list(logits), epoch=epoch)), rel=1e-4)
        torch.testing.assert_close(center.center, lightly.center.flatten())


@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_the_center_is_that_of_all_ranks(counts, tmp_path):
    x = draws(sum(counts), 5)

    def work(rank):
        center = Center(5)
        center.update(part(x, counts, rank))
        return center.center

    for found in on_two_ranks(work, tmp_path):
        torch.testing.assert_close(found, 0.1 * x.mean(0))


def test_warm_up_is_the_codes_linspace():
    found = [warmed_up(0.04, 0.07, 4, epoch) for epoch in range(6)]
    assert found == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07])
    assert warmed_up(0.04, 0.07, 0, 0) == 0.07
