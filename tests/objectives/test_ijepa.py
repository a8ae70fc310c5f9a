"""I-JEPA: its blocks and their context, and the loss and its gradient against a slow loop in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from test_contracts import batch_of, gradients, ready

from sslzoo import rng
from sslzoo.augment.target_blocks import TargetBlocks
from sslzoo.build import build
from sslzoo.errors import ConfigError


def drawn(mask: TargetBlocks, side: int, rows: int = 300, step: int = 0):
    seeds = torch.tensor([rng.derive_seed(step, row) for row in range(rows)])
    return mask(seeds[:1], seeds, side)


@pytest.mark.parametrize("side", [4, 8, 14])
def test_no_target_is_in_the_context_and_counts_do_not_differ_between_rows(side):
    """Of each row equally many patches are predicted: the known mistake is blocks that differ in count between rows."""
    mask = TargetBlocks()
    mask.check(side)
    sizes = set()
    for step in range(12):
        targets, order, counts = drawn(mask, side, step=step)
        assert targets.shape[:2] == (300, 4)
        sizes.add(targets.shape[2])
        for blocks, places, count in zip(targets.tolist(), order.tolist(), counts.tolist(), strict=True):
            context, asked = set(places[:count]), {patch for block in blocks for patch in block}
            assert context and not context & asked
            assert places[:count] == sorted(places[:count]) and sorted(places) == list(range(side * side))
            for block in blocks:
                rows, columns = {p // side for p in block}, {p % side for p in block}
                assert len(block) == len(rows) * len(columns) == len(set(block)), "a whole rectangle"
                assert max(rows) - min(rows) + 1 == len(rows) and max(columns) - min(columns) + 1 == len(columns)
    if side == 14:
        assert len(sizes) > 3 and min(sizes) >= 25 and max(sizes) <= 42, "15 to 20 % of 196"


def test_every_place_can_be_a_target_and_context():
    targets, order, counts = drawn(TargetBlocks(), 8, rows=3000)
    asked = targets.flatten(1)
    assert asked.flatten().bincount(minlength=64).min() > 0
    kept = torch.arange(64) < counts[:, None]
    share = torch.zeros_like(kept).scatter_(1, order, kept).float().mean(0)
    assert share.min() > 0.1, "the lower right as well: nothing is cut off"
    assert (share[0] - share[63]).abs() < 0.05


def test_a_row_does_not_depend_on_the_others():
    seeds = torch.tensor([rng.derive_seed(0, row) for row in range(9)])
    whole, alone = TargetBlocks()(seeds[:1], seeds, 8), TargetBlocks()(seeds[:1], seeds[5:6], 8)
    assert all(torch.equal(a[5], b[0]) for a, b in zip(whole, alone, strict=True))


def test_loss_and_gradient_are_the_slow_loop():
    """Row by row, and target by target, without padding."""
    job = ready(tiny("ijepa"))
    encoder, objective = job.encoder, job.objective
    for parameter in objective.teacher.encoder.parameters():  # a teacher that is not the student
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    batch = batch_of(job, 0)
    slow, head = copy.deepcopy(encoder).double(), copy.deepcopy(objective).double()
    images = objective.images(batch).double()
    targets, order, counts = objective.mask(batch.seed, batch.row_seeds, 4)
    assert len(set(counts.tolist())) > 1, "the contexts differ in count"
    total = torch.zeros((), dtype=torch.float64)
    for row, (image, blocks) in enumerate(zip(images, targets, strict=True)):
        one = torch.ones(1).long()
        features = head.teacher.encoder(image[None], one).last[0, 1:].detach()
        tokens = slow.embed(image[None], one)[0][0]
        places = [0, *(1 + order[row, : counts[row]]).tolist()]
        context = slow.contextualize(tokens[places][None], torch.tensor([len(places)])).last[0]
        for block in blocks.tolist():
            seen = [head.predictor_embed(x) + head.places[at] for x, at in zip(context, places, strict=True)]
            asked = [head.mask_token + head.places[1 + patch] for patch in block]
            x = torch.stack([*seen, *asked])[None]  # in the other order
            out = head.predictor(x, torch.tensor([x.shape[1]]))[-1][0, len(seen) :]
            for hidden, patch in zip(out, block, strict=True):
                wanted = features[patch] - features[patch].mean()
                wanted = wanted / (wanted.square().mean() + 1e-5).sqrt()
                error = (head.predictor_proj(hidden) - wanted).abs()
                total = total + torch.where(error < 1, error.square() / 2, error - 0.5).mean()
    total = total / targets.numel()
    total.backward()
    loss = objective(encoder, batch, 0)
    loss.value.backward()
    assert loss.count == targets.numel() and float(loss.value) == pytest.approx(float(total), rel=1e-5)
    pairs = [*zip(encoder.parameters(), slow.parameters(), strict=True)]
    pairs += [(a, b) for a, b in zip(objective.parameters(), head.parameters(), strict=True) if a.requires_grad]
    for fast, exact in pairs:
        torch.testing.assert_close(fast.grad.double(), exact.grad, atol=1e-5, rtol=1e-3)


def test_the_teacher_does_not_train_and_follows():
    """Neither a gradient nor the optimiser moves it, only the average."""
    job = ready(tiny("ijepa"))
    _, grads = gradients(job, batch_of(job, 0))
    assert not any(name.startswith("objective.teacher") for name in grads)
    assert all(p.grad is None for p in job.objective.teacher.parameters())
    before = [p.clone() for p in job.objective.teacher.parameters()]
    with torch.no_grad():
        for p in job.encoder.parameters():
            p.add_(1.0)
    job.objective.after_step(job.encoder, 0, 10)
    for old, new in zip(before, job.objective.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.004)


def test_what_the_context_lacks_is_not_seen():
    """Pixels outside the context change the targets, never the predictions."""
    job = build(tiny("ijepa", "objective.views=null"))
    batch = batch_of(job, 0)
    _, order, counts = job.objective.mask(batch.seed, batch.row_seeds, 4)
    kept = torch.zeros(len(counts), 16, dtype=torch.bool).scatter_(1, order, torch.arange(16) < counts[:, None])
    grid = kept.view(-1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    first = job.objective.predict(job.encoder, batch.inputs, batch)[0]
    changed = torch.where(grid, batch.inputs, 255 - batch.inputs)
    assert torch.equal(first, job.objective.predict(job.encoder, changed, batch)[0])
    wanted = [job.objective.teacher_features(x, batch.lengths) for x in (batch.inputs, changed)]
    assert not torch.allclose(*wanted, atol=0.01)
    assert F.layer_norm(wanted[0], (16,)).sub(wanted[0]).abs().max() < 1e-3, "normalised"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.mask.targets=7"], "may leave nothing of an image of 4 x 4"),
        (["objective.mask.scale=[0.3,0.2]"], r"0 < scale\[0\] <= scale\[1\]"),
        (["encoder=tiny_resnet"], "needs an encoder with patches and tokens"),
        (["objective/mask=bert"], "TokenMask is for another kind of objective"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build(tiny("ijepa", *overrides))
