"""MoCo v3: its loss against a slow loop, and what is easily got wrong; MoCo v1's settings."""

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from test_contracts import batch_of, gradients, ready
from two_ranks import on_two_ranks

from sslzoo.build import build


def slow(queries, keys, temperature: float) -> torch.Tensor:
    """Algorithm 1 of 2104.02057, row by row: both directions, each with its factor of 2 t."""
    total = 0.0
    for q, k in ((queries[0], keys[1]), (queries[1], keys[0])):
        for row in range(len(q)):
            right = torch.exp(F.cosine_similarity(q[row], k[row], dim=0) / temperature)
            every = sum(torch.exp(F.cosine_similarity(q[row], other, dim=0) / temperature) for other in k)
            total = total - 2 * temperature * torch.log(right / every) / len(q)
    return total


@pytest.mark.parametrize("encoder", ["tiny_image", "tiny_resnet"])
def test_the_loss_is_the_slow_loop(encoder):
    job = ready(tiny("moco_v3", f"encoder={encoder}", "objective.temperature=0.3"))
    objective, batch = job.objective, batch_of(job, 0)
    value = objective(job.encoder, batch, 0).value
    views = objective.views.draw(job.encoder, batch).views
    pooled = [job.encoder(view, batch.lengths).pooled for view in views]
    queries = [objective.predictor(objective.projector(x)).double() for x in pooled]
    taught = [objective.teacher.encoder(view, batch.lengths).pooled for view in views]
    keys = [objective.teacher.projector(x).double().detach() for x in taught]
    expected = slow(queries, keys, 0.3)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    weight = objective.predictor[0].weight
    ours, theirs = (torch.autograd.grad(x, weight, retain_graph=True)[0] for x in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4 * float(theirs.abs().max()))


def test_the_patch_projection_of_a_vit_does_not_learn():
    job = build(tiny("moco_v3"))
    assert not any(p.requires_grad for p in job.encoder.frontend.linear.parameters())
    assert job.encoder.frontend.cls_token.requires_grad
    names = set(gradients(job, batch_of(job, 0))[1])
    assert not any("frontend.linear" in name for name in names)
    free = build(tiny("moco_v3", "objective.freeze_patches=false"))
    assert all(p.requires_grad for p in free.encoder.frontend.linear.parameters())


def test_heads_are_the_references():
    """Three layers for a ViT, two for a residual network; a predictor of two; last norms without weights."""
    for encoder, layers in (("tiny_image", 3), ("tiny_resnet", 2)):
        objective = build(tiny("moco_v3", f"encoder={encoder}")).objective
        for head, count in ((objective.projector, layers), (objective.predictor, 2)):
            assert sum(isinstance(m, torch.nn.Linear) for m in head) == count
            assert head[-1].weight is None and all(m.bias is None for m in head if isinstance(m, torch.nn.Linear))


def test_the_teacher_does_not_train():
    job = ready(tiny("moco_v3"))
    gradients(job, batch_of(job, 0))
    teacher = job.objective.teacher
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert teacher.momentum_at(0, 100) == pytest.approx(0.99) and teacher.momentum_at(100, 100) == pytest.approx(1.0)


def test_keys_are_those_of_all_ranks(tmp_path):
    """Per rank, there would be half as many."""
    config = tiny("moco_v3", "data.batch.size=9")

    def work(rank):
        job = build(config)
        logits, positive, _, _ = job.objective.contrast(job.encoder, batch_of(job, 0, rank, 2))
        return {"shape": torch.tensor(logits[0].shape), "positive": positive}

    first, second = on_two_ranks(work, tmp_path)
    assert first["shape"].tolist() == [5, 9] and second["shape"].tolist() == [4, 9]
    assert torch.cat([first["positive"], second["positive"]]).tolist() == list(range(9))


def test_v1_is_moco_with_a_linear_head_its_temperature_and_its_views():
    v1, v2 = (build(tiny(name)).objective for name in ("moco_v1", "moco"))
    assert isinstance(v1.projector, torch.nn.Linear) and type(v1) is type(v2)
    assert v1.temperature == 0.07 and v1.teacher.momentum == 0.999
    assert v1.views.jitter_chance == 1.0 and v1.views.chances["blur"] == [0.0, 0.0]
    assert v2.views.jitter_chance == 0.8 and v2.views.chances["blur"] == [0.5, 0.5]


def test_jitter_chance_is_the_share_of_rows_that_are_jittered():
    views = build(tiny("moco_v1")).objective.views
    views.scale, views.ratio, views.chances = [1.0, 1.0], [1.0, 1.0], {k: [0.0, 0.0] for k in views.chances}
    images, seeds = torch.rand(1, 3, 16, 16).expand(64, -1, -1, -1), torch.arange(64)
    for chance, share in ((1.0, 1.0), (0.0, 0.0), (0.5, 0.5)):
        views.jitter_chance = chance
        changed = (views(images, seeds, "view") - images).abs().amax((1, 2, 3)) > 1e-3
        assert float(changed.float().mean()) == pytest.approx(share, abs=0.2 if 0 < share < 1 else 0.0)
