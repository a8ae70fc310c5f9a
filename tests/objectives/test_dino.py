"""DINO: its loss against a slow loop, and what is easily got wrong."""

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of, gradients, ready

from sslzoo.build import build
from sslzoo.errors import ConfigError


@pytest.fixture(params=["tiny_image", "tiny_resnet"])
def job(request):
    return ready(tiny("dino", f"encoder={request.param}"))


def test_the_loss_is_the_slow_loop(job):
    objective, batch = job.objective, batch_of(job, 0)
    torch.nn.init.normal_(objective.center.center, std=0.1)
    center = objective.center.center.double().clone()
    drawn = objective.views.draw(job.encoder, batch)
    assert len(drawn.views) == 4
    student = [objective.projector.cosines(x).double() for x in objective.views.embed(job.encoder, drawn, joint=True)]
    taught = objective.teach(drawn).double().chunk(2)
    total = 0.0
    for t, targets in enumerate(taught):
        for s, logits in enumerate(student):
            if s == t:
                continue
            for row in range(len(batch)):
                q = torch.exp((targets[row] - center) / 0.04)
                p = torch.exp(logits[row] / 0.1)
                total -= sum(q[k] / q.sum() * torch.log(p[k] / p.sum()) for k in range(len(q)))
    expected = total / (2 * 3) / len(batch)
    loss = objective(job.encoder, batch, 0)
    assert float(loss.value) == pytest.approx(float(expected), rel=1e-5)
    mean = torch.cat(taught).mean(0)
    torch.testing.assert_close(objective.center.center.double(), 0.9 * center + 0.1 * mean, rtol=1e-5, atol=1e-6)


def test_the_teacher_does_not_train(job):
    objective = job.objective
    before = [p.clone() for p in objective.teacher.parameters()]
    gradients(job, batch_of(job, 0))
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, objective.teacher.parameters(), strict=True))
    with torch.no_grad():
        for p in [*job.encoder.parameters(), *objective.projector.parameters()]:
            p.add_(1.0)
    objective.after_step(job.encoder, 0, 10)
    for a, b in zip(before, objective.teacher.parameters(), strict=True):
        torch.testing.assert_close(b, a + 0.004, atol=1e-5, rtol=1e-4)


def test_the_last_layer_is_frozen_in_the_first_epoch_only(job):
    """48 images in batches of 8: six steps."""
    last = "objective.projector.prototypes.weight"
    for step, learns in ((0, False), (5, False), (6, True)):
        job.encoder.zero_grad()
        job.objective.zero_grad()
        found = gradients(job, batch_of(job, step), step)[1]
        assert bool(found[last].any()) == learns
        assert found["objective.projector.mlp.0.weight"].any()


def test_the_teachers_temperature_warms_up_by_epochs():
    objective = ready(tiny("dino", "objective.warmup_epochs=4")).objective
    found = [objective.teacher_temperature(6 * epoch + 5) for epoch in range(6)]
    assert found == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07])


def test_sharpening_and_centring_each_do_their_part(job):
    """A lower temperature has less entropy; a center that is the logits' mean takes away what all rows share."""
    objective, taught = job.objective, torch.randn(64, 24, generator=torch.Generator().manual_seed(0)) * 0.1
    taught[:, 0] += 0.5
    sharp, soft = (objective.center(taught, t) for t in (0.04, 0.07))
    entropy = [float(-(p * p.log()).sum(1).mean()) for p in (sharp, soft)]
    assert entropy[0] < entropy[1] and (sharp.argmax(1) == 0).float().mean() > 0.9
    for _ in range(100):
        objective.center.update(taught)
    assert (objective.center(taught, 0.04).argmax(1) == 0).float().mean() < 0.2


def test_validation_does_not_move_the_center(job):
    objective = job.objective.eval()
    objective(job.encoder, batch_of(job, 0), 0)
    assert not objective.center.center.any()


def test_its_teachers_follow_what_they_are_given():
    with pytest.raises(ConfigError, match="temperatures must be above 0"):
        build(tiny("dino", "objective.teacher_temperature=0.0"))
