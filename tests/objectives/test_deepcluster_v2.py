"""DeepCluster-v2: its loss against a slow loop, its memory and its clusterings."""

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from test_contracts import batch_of, gradients, ready, refresh, train
from two_ranks import on_two_ranks

from sslzoo.build import build
from sslzoo.errors import UserError
from sslzoo.objectives.deepcluster_v2 import spherical_kmeans
from sslzoo.train import refresh as refreshing
from sslzoo.train.refresh import pooled_features


@pytest.mark.parametrize("encoder", ["tiny_resnet", "tiny_image"])
def test_the_loss_is_the_slow_loop(encoder):
    job = ready(tiny("deepcluster_v2", f"encoder={encoder}"))
    objective, batch = job.objective, batch_of(job, 0)
    value = objective(job.encoder, batch, 0).value
    features = objective.views.embed(job.encoder, objective.views.draw(job.encoder, batch), joint=True)
    z = F.normalize(objective.projector(torch.cat(features)).double(), dim=1).unflatten(0, (4, 8))
    total = 0.0
    for head in range(2):
        for view in z:
            for row, image in zip(view, batch.index.tolist(), strict=True):
                p = torch.stack([torch.exp(row @ c / 0.1) for c in objective.centroids[head].double()])
                total = total - torch.log(p[objective.labels[head, image]] / p.sum()) / (2 * 4 * 8)
    assert float(value) == pytest.approx(float(total), rel=1e-5)
    weight = objective.projector[0].weight
    ours, theirs = (torch.autograd.grad(x, weight, retain_graph=True)[0] for x in (value, total))
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4 * float(theirs.abs().max()))


def test_prototypes_are_the_normalised_means_of_their_clusters():
    objective = ready(tiny("deepcluster_v2", "objective.iterations=50")).objective
    for head in range(2):
        memory, labels = objective.memory[head % 2], objective.labels[head]
        assert torch.equal(labels, (memory @ objective.centroids[head].T).argmax(1))
        for k in labels.unique().tolist():
            mean = F.normalize(memory[labels == k].mean(0), dim=0)
            torch.testing.assert_close(objective.centroids[head, k], mean, atol=1e-4, rtol=0)
    assert not torch.equal(objective.labels[0], objective.labels[1]), "heads begin differently"
    assert not any(p.requires_grad for p in [objective.centroids, objective.memory])


def test_kmeans_finds_directions_that_are_there():
    axes = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    truth = torch.arange(80) % 4
    x = F.normalize(axes[truth] + 0.05 * torch.randn(80, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    found = [spherical_kmeans(x, 4, 10, seed) for seed in range(5)]
    torch.testing.assert_close(found[0].norm(dim=1), torch.ones(4))
    assert torch.equal(found[0], spherical_kmeans(x, 4, 10, 0))
    best = max(float((c @ axes.T).amax(0).min()) for c in found)
    assert best > 0.99


def test_the_memory_is_filled_once_and_then_kept_by_the_steps(tmp_path, monkeypatch):
    """No pass over the data but the first."""
    passes, given = [], pooled_features
    monkeypatch.setattr(refreshing, "pooled_features", lambda *a: passes.append(1) or given(*a))
    train(tiny("deepcluster_v2", "trainer.max_steps=13"), tmp_path / "run")
    assert len(passes) == 1
    job = ready(tiny("deepcluster_v2"))
    objective, batch = job.objective, batch_of(job, 0)
    before = objective.memory.clone()
    z = objective.project(job.encoder, objective.views.draw(job.encoder, batch))[1]
    objective(job.encoder, batch, 0)
    torch.testing.assert_close(objective.memory[:, batch.index], z[:2], atol=1e-5, rtol=0)
    rest = torch.ones(48, dtype=torch.bool)
    rest[batch.index] = False
    assert torch.equal(objective.memory[:, rest], before[:, rest])


def test_two_ranks_have_one_memory_and_one_assignment(tmp_path):
    config = tiny("deepcluster_v2", "data.batch.size=9")

    def work(rank, world=2):
        job = build(config)
        job.objective.prepare(48, 5, 0)
        for step in range(3):
            refresh(job)
            gradients(job, batch_of(job, step, rank, world), step)
        return dict(job.objective.named_buffers())

    first, second = on_two_ranks(work, tmp_path)
    one = work(0, 1)
    for name in ("memory", "labels", "centroids", "rounds"):
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], one[name], atol=1e-4, rtol=0, msg=name)


def test_validation_takes_the_nearest_clusters_and_remembers_nothing():
    job = ready(tiny("deepcluster_v2"))
    objective, batch = job.objective.eval(), batch_of(job, 0)
    before, batch.index = objective.memory.clone(), batch.index + 1000
    objective(job.encoder.eval(), batch, 0)
    assert torch.equal(objective.memory, before)
    whole = objective.normalised(job.encoder(objective.views.whole(batch.inputs), batch.lengths).pooled)
    expected = torch.stack([torch.cdist(whole, c).argmin(1) for c in objective.centroids])
    assert torch.equal(objective.targets(job.encoder, batch), expected)


def test_fewer_images_than_clusters_are_refused():
    with pytest.raises(UserError, match="48 images cannot make 60 clusters: set objective.clusters=4 or less"):
        ready(tiny("deepcluster_v2", "objective.clusters=60"))
