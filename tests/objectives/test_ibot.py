"""iBOT: its loss against a slow loop and lightly's, DINOv2's settings, and what is easily got wrong."""

import pytest
import torch
from conftest import tiny
from slow_sinkhorn import slow as slow_sinkhorn
from test_contracts import batch_of, gradients, ready, still
from two_ranks import on_two_ranks

from sslzoo.build import build
from sslzoo.errors import ConfigError


def cross_entropy(q: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    p = torch.exp(logits / 0.1)
    return -(q * torch.log(p / p.sum())).sum()


def distribution(logits: torch.Tensor, center: torch.Tensor, temperature: float) -> torch.Tensor:
    q = torch.exp((logits - center) / temperature)
    return q / q.sum()


def masked_logits(job, batch):
    """What is masked [2B, P]; the student's cosines of class tokens by view and of all patches [2B, P, K], and the
    teacher's, in float64."""
    objective, encoder = job.objective, job.encoder
    drawn, mask = objective.views.draw(encoder, batch), objective.masks(batch)
    student, teacher = [], []
    for view in range(2):
        features, lengths = encoder.features(drawn.views[view], batch.lengths)
        tokens, lengths = encoder.project(features, lengths)
        table = encoder.frontend.positions(features.shape[1])
        for row, patch in mask[view * len(batch) : (view + 1) * len(batch)].nonzero().tolist():
            tokens[row, 1 + patch] = objective.mask_token + table[1 + patch]
        student.append(objective.projector.cosines(encoder.contextualize(tokens, lengths).last))
        teacher.append(
            objective.teacher.projector.cosines(objective.teacher.encoder(drawn.views[view], batch.lengths).last)
        )
    small = [objective.projector.cosines(encoder(x, batch.lengths).last[:, 0]) for x in drawn.views[2:]]
    classes = [*(x[:, 0] for x in student), *small]
    patches, taught = torch.cat(student)[:, 1:], torch.cat(teacher).detach().double()
    return mask, [x.double() for x in classes], patches.double(), taught[:, 0], taught[:, 1:]


@pytest.mark.parametrize("centering", ["mean", "sinkhorn"])
def test_the_loss_is_the_slow_loop_and_lightlys(centering):
    job = ready(tiny("ibot", f"objective.centering={centering}", "objective.patch_weight=0.7"))
    objective, batch = job.objective, batch_of(job, 0)
    for center in (objective.center, objective.patch_center):
        torch.nn.init.normal_(center.center, std=0.1)
    centers = [c.center.double().clone() for c in (objective.center, objective.patch_center)]
    mask, classes, patches, taught, taught_patches = masked_logits(job, batch)
    loss = objective(job.encoder, batch, 0)
    if centering == "sinkhorn":
        q = torch.tensor(slow_sinkhorn(taught, 0.04, 3)).chunk(2)
        shared = iter(slow_sinkhorn(taught_patches[mask], 0.04, 3))
    else:
        q = torch.stack([distribution(x, centers[0], 0.04) for x in taught]).chunk(2)
        shared = None
    total = sum(
        cross_entropy(q[t][row], classes[s][row]) / (2 * 2) / 8
        for t in range(2)
        for s in range(3)
        if s != t
        for row in range(8)
    )
    for row in range(16):
        at = mask[row].nonzero()[:, 0].tolist()
        for patch in at:
            if shared is not None:
                target = torch.tensor(next(shared))
            else:
                target = distribution(taught_patches[row, patch], centers[1], 0.04)
            total = total + 0.7 * cross_entropy(target, patches[row, patch]) / len(at) / 16
    assert float(loss.value) == pytest.approx(float(total), rel=1e-4)
    weight = objective.projector.mlp[0].weight
    ours, theirs = (torch.autograd.grad(x, weight, retain_graph=True)[0] for x in (loss.value, total))
    torch.testing.assert_close(ours, theirs, rtol=5e-3, atol=2e-4 * float(theirs.abs().max()))
    if centering == "mean":
        lightly = pytest.importorskip("lightly.loss.ibot_loss").IBOTPatchLoss(output_dim=24)
        lightly.center.value.copy_(centers[1][None])
        theirs = lightly(taught_patches[mask].float(), patches[mask].float(), mask.view(16, 4, 4))
        assert float(loss.logs()["patch_loss"]) == pytest.approx(float(theirs), rel=1e-4)
        torch.testing.assert_close(objective.patch_center.center, lightly.center.value.flatten(), rtol=1e-4, atol=1e-5)


def test_each_image_has_as_many_masked_patches_as_were_drawn():
    objective = build(tiny("ibot", "objective.mask.prob=1.0", "objective.mask.ratio=[0.4,0.4]")).objective
    seeds = torch.arange(500)
    mask = objective.mask(seeds, 8, "mask of view a")
    assert (mask.sum(1) == 26).all(), "rows must not differ, where one share is set"
    assert not torch.equal(mask, objective.mask(seeds, 8, "mask of view b"))
    # in blocks: most masked patches have a masked neighbour at their right; 40 % if they were scattered
    grid = mask.view(-1, 8, 8)
    assert float((grid[:, :, :-1] & grid[:, :, 1:]).sum() / grid[:, :, :-1].sum()) > 0.6
    some = build(tiny("ibot")).objective.mask
    counts = some(seeds, 8, "mask").sum(1)
    assert 0.4 < float((counts > 0).float().mean()) < 0.6
    assert int(counts[counts > 0].min()) >= 6 and int(counts.max()) <= 32
    assert torch.equal(some(seeds[7:9], 8, "mask"), some(seeds, 8, "mask")[7:9])


def test_no_masked_patch_is_no_loss_and_leaves_the_center():
    job = ready(tiny("ibot", "objective.mask.prob=0.000001"))
    torch.nn.init.normal_(job.objective.patch_center.center)
    before = job.objective.patch_center.center.clone()
    loss = job.objective(job.encoder, batch_of(job, 0), 0)
    assert float(loss.logs()["patch_loss"]) == 0 and loss.value.isfinite()
    assert torch.equal(job.objective.patch_center.center, before)


@pytest.mark.parametrize("setting", ["objective.centering=sinkhorn", "objective.koleo_weight=0.1"])
def test_two_ranks_give_one_ranks_gradients_with_dinov2s_settings(setting, tmp_path):
    config = tiny("ibot", setting, "data.batch.size=9")

    def work(rank, world=2):
        job = still(ready(config))
        logs, grads = gradients(job, batch_of(job, 0, rank, world), 7)
        return {"loss": torch.tensor(logs["loss"]), **{k: g.clone() for k, g in grads.items()}}

    first, second = on_two_ranks(work, tmp_path)
    one = work(0, 1)
    torch.testing.assert_close(first["loss"], one["loss"], rtol=1e-5, atol=1e-5)
    scale = max(float(g.abs().max()) for name, g in one.items() if name != "loss")
    for name in one.keys() - {"loss"}:
        both = (first[name] + second[name]) / 2
        assert torch.allclose(both, one[name], atol=1e-4 * scale), name


def test_the_teacher_does_not_train():
    job = ready(tiny("ibot"))
    gradients(job, batch_of(job, 0))
    assert all(p.grad is None and not p.requires_grad for p in job.objective.teacher.parameters())


def test_it_needs_patches():
    with pytest.raises(
        ConfigError, match="IBOT on this data needs an encoder with .*patches.*; these fit: .*vit_small"
    ):
        build(tiny("ibot", "encoder=tiny_resnet"))
