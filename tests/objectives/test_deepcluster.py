"""DeepCluster's loss against a slow one, what a re-assignment changes, and what it refuses."""

import pytest
import torch
from conftest import tiny
from test_contracts import assert_equal, batch_of, ready, refresh, stopped_is_never_stopped, train
from two_ranks import on_ranks, on_two_ranks

from sslzoo import rng
from sslzoo.build import build, write_config
from sslzoo.data.loader import collate
from sslzoo.errors import UserError
from sslzoo.nn import cluster
from sslzoo.objectives.deepcluster import pca
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import checkpoint, launch
from sslzoo.train.refresh import pooled_features


def features_of(n: int, dim: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def refreshed(n: int, features: torch.Tensor, seed: int = 0):
    """A tiny objective, made for n images and refreshed with their features."""
    objective = build(tiny("deepcluster")).objective
    objective.prepare(n, 6, seed)
    objective.refresh(features, torch.arange(n))
    return objective


def test_loss_against_a_slow_loop():
    job = ready(tiny("deepcluster"))
    batch, objective = batch_of(job, 0), job.objective
    found = objective(job.encoder, batch, 0)
    _, logits, labels = objective.answer(job.encoder, batch)
    sizes = [int((objective.labels == k).sum()) for k in range(5)]
    total = weight = 0.0
    for row in range(len(batch)):
        label = int(objective.labels[batch.index[row]])
        assert label == int(labels[row])
        scores = logits[row].double()
        w = len(objective.labels) / 5 / sizes[label]
        total += w * float(scores.exp().sum().log() - scores[label])
        weight += w
    assert float(found.value) == pytest.approx(total / weight, abs=1e-5)
    assert float(found.count) == pytest.approx(weight, rel=1e-5)


def test_the_loss_is_that_of_images_drawn_uniformly_over_clusters():
    """Section 3.3: over the training set it is the mean over clusters of the means within them, as is the accuracy."""
    job = ready(tiny("deepcluster"))
    split, objective = job.data.split("train"), job.objective
    assert len(set(objective.sizes.tolist())) > 1, "clusters of one size would show nothing"
    batch = collate([split.item(i, rng.derive_seed(1, i)) for i in range(len(split))])
    found = objective(job.encoder, batch, 0)
    _, logits, labels = objective.answer(job.encoder, batch)
    losses = -logits.double().log_softmax(1).gather(1, labels[:, None])[:, 0]
    right = (logits.argmax(1) == labels).double()
    for value, one in ((found.value, losses), (found.logs()["accuracy"], right)):
        uniform = torch.stack([one[labels == k].mean() for k in range(5)]).mean()
        assert float(value) == pytest.approx(float(uniform), abs=1e-5)
    assert float(found.count) == pytest.approx(len(split), rel=1e-5)


def test_pca_whitens(monkeypatch):
    monkeypatch.setattr("sslzoo.objectives.deepcluster.CHUNK", 70)
    x = features_of(300) @ features_of(16, seed=1) + 3
    mean, whitening = pca(x, 10)
    y = (x - mean).double() @ whitening.double()
    torch.testing.assert_close(y.T @ y / len(y), torch.eye(10, dtype=torch.float64), atol=1e-4, rtol=0)
    u, _, _ = torch.linalg.svd((x - x.mean(0)).double(), full_matrices=False)
    slow = u[:, :10] * len(x) ** 0.5
    torch.testing.assert_close(y.abs(), slow.abs(), atol=1e-3, rtol=1e-3)
    flat = torch.cat([features_of(50, 3), torch.zeros(50, 13)], 1)
    assert torch.isfinite(pca(flat, 10)[1]).all(), "directions without variance"


def test_a_refresh_makes_new_labels_and_a_new_head():
    job = build(tiny("deepcluster"))
    objective = job.objective
    objective.prepare(48, 6, 0)
    assert objective.refresh_every == 6
    made = objective.refresh(features_of(48), torch.arange(48))
    labels, head = objective.labels.clone(), objective.head.weight.clone()
    assert {id(p) for p in made} == {id(p) for p in objective.head.parameters()}
    assert sorted(set(labels.tolist())) == list(range(5)), "no cluster is empty"
    assert objective.sizes.tolist() == torch.bincount(labels).tolist()
    objective.refresh(features_of(48, seed=2), torch.arange(48))
    assert not torch.equal(objective.labels, labels) and not torch.equal(objective.head.weight, head)
    again = refreshed(48, features_of(48))
    assert torch.equal(again.labels, labels) and torch.equal(again.head.weight, head)


def test_a_run_of_another_seed_finds_other_clusters():
    one, two = (refreshed(48, features_of(48), seed) for seed in (0, 1))
    assert torch.equal(one.mean, two.mean) and not torch.equal(one.head.weight, two.head.weight)
    alike = one.labels[:, None] == one.labels, two.labels[:, None] == two.labels
    assert not torch.equal(*alike), "clusters are the same ones, whatever they are called"


def test_the_runs_seed_reaches_it(monkeypatch, tmp_path):
    config = tiny("deepcluster", "seed=7", "trainer.max_steps=1")
    labels = []
    after = Pretrain.optimizer_step
    monkeypatch.setattr(
        Pretrain, "optimizer_step", lambda self, *a, **k: (labels.append(self.objective.labels), after(self, *a, **k))
    )
    train(config, tmp_path / "run")
    assert torch.equal(labels[0], ready(config).objective.labels)
    other = build(config)
    other.objective.prepare(48, 6, 8)
    refresh(other)
    assert not torch.equal(labels[0], other.objective.labels)


def test_clusters_that_are_there_are_found():
    centres = 10 * features_of(5, seed=3)
    truth = torch.arange(100) % 5
    objective = refreshed(100, centres[truth] + 0.1 * features_of(100))
    for k in range(5):
        assert len(set(objective.labels[truth == k].tolist())) == 1
    assert len(set(objective.labels[:5].tolist())) == 5


def test_training_assigns_anew_each_epoch_and_the_optimiser_forgets_the_head(tmp_path, monkeypatch):
    config = tiny("deepcluster", "trainer.max_steps=11", "trainer.save_every=1", "trainer.keep=20")
    steps, step = {}, Pretrain.optimizer_step

    def noted(self, *args, **kwargs):
        step(self, *args, **kwargs)
        state = self.optimizers().optimizer.state
        steps[self.global_step] = [
            int(state[p]["step"]) for p in (self.objective.head.weight, next(self.encoder.parameters()))
        ]

    monkeypatch.setattr(Pretrain, "optimizer_step", noted)
    run = train(config, tmp_path / "run")
    states = [checkpoint.load(path)["state_dict"] for path in sorted(run.checkpoints.glob("*.ckpt"))]
    rounds = [int(state["objective.rounds"]) for state in states]
    epoch = rounds.index(2)
    assert rounds == [1] * epoch + [2] * (11 - epoch) and 0 < epoch < 11
    assert steps[epoch - 1] == [epoch, epoch] and steps[epoch] == [1, epoch + 1]


@pytest.mark.parametrize(("stop", "rounds"), [(6, 1), (9, 2)], ids=["where one is due", "between two"])
def test_stopped_at_a_reassignment_and_between_two(stop, rounds, tmp_path):
    """The checkpoint of a step at which one is due was written before the labels changed."""
    config = tiny("deepcluster", "trainer.max_steps=13", "trainer.save_every=50", "trainer.log_every=2")
    assert ready(config).objective.refresh_every == 6
    middle = stopped_is_never_stopped(config, [stop], tmp_path)
    assert int(middle["objective.rounds"]) == rounds
    assert (
        int(checkpoint.load(checkpoint.latest_checkpoint(Run(tmp_path / "whole")))["state_dict"]["objective.rounds"])
        == 3
    )


@pytest.mark.parametrize("rows", [cluster.ROWS, 6], ids=["of all", "of a sample"])
def test_ranks_read_a_share_each_and_assign_as_one_does(rows, tmp_path, monkeypatch):
    config = tiny("deepcluster", "data.batch.size=9")
    monkeypatch.setattr("sslzoo.objectives.deepcluster.CHUNK", 7)
    monkeypatch.setattr(cluster, "ROWS", rows)
    fit = cluster.fit

    def work(rank):
        job = build(config)
        split = job.data.split("train")
        read, items, fitted = split.read, [], []
        split.read = lambda index, seed=None: items.append(index) or read(index, seed)
        cluster.fit = lambda x, *how: fitted.append(x) or fit(x, *how)
        job.objective.prepare(len(split), 5, 3)
        features, index = pooled_features(job.encoder, split, 9, "cpu")
        assert sorted(items) == index.tolist() and features.shape == (len(index), 16)
        job.objective.refresh(features, index)
        cluster.fit = fit
        state = dict(job.objective.named_buffers())
        return {
            "features": features,
            "index": index,
            "fitted": fitted,
            "state": state,
            "head": job.objective.head.weight.detach(),
        }

    one = work(0)
    assert one["index"].tolist() == list(range(48)) and len(one["fitted"][0]) == min(48, 5 * rows)
    for world in (2, 3):
        found = on_ranks(work, tmp_path / f"{world}", world)
        for rank, part in enumerate(found):
            assert part["index"].tolist() == list(range(rank, 48, world))
            torch.testing.assert_close(part["features"], one["features"][rank::world], atol=1e-6, rtol=0)
            assert_equal(part["state"], found[0]["state"])
            assert torch.equal(part["head"], one["head"])
            assert len(part["fitted"]) == (rank == 0), "the first rank clusters, for all"
            for name, value in one["state"].items():
                torch.testing.assert_close(part["state"][name], value, atol=1e-3, rtol=0, msg=name)
            assert torch.equal(part["state"]["labels"], one["state"]["labels"])
        torch.testing.assert_close(found[0]["fitted"][0], one["fitted"][0], atol=1e-4, rtol=0)


def test_a_rank_without_rows_takes_part(tmp_path):
    """Of fewer images than ranks, say, or of shares that differ."""
    features = features_of(48)

    def work(rank):
        objective = build(tiny("deepcluster")).objective
        objective.prepare(48, 6, 0)
        rows = torch.arange(48)[: 48 * rank]
        objective.refresh(features[rows], rows)
        return objective.labels

    one = refreshed(48, features).labels
    assert all(torch.equal(labels, one) for labels in on_two_ranks(work, tmp_path))


def test_features_that_cannot_be_clustered_stop_every_rank(tmp_path):
    def work(rank):
        objective = build(tiny("deepcluster")).objective
        objective.prepare(48, 6, 0)
        with pytest.raises(UserError, match="the first rank could not" if rank else "too much alike"):
            objective.refresh(torch.ones(24, 16), torch.arange(24) * 2 + rank)
        return torch.ones(1)

    assert len(on_two_ranks(work, tmp_path)) == 2


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_features_are_taken_in_the_trainers_precision_and_in_eval_mode(precision, tmp_path, monkeypatch):
    seen = []

    class Watching(torch.nn.Module):
        def forward(self, x):
            if torch.is_inference_mode_enabled():
                seen.append((torch.is_autocast_enabled("cpu"), self.training))
            return x

    config = tiny("deepcluster", "trainer.max_steps=1", "trainer.accelerator=cpu", f"trainer.precision={precision}")
    config = {k: v for k, v in config.items() if k not in ("name", "root")}
    run, job = Run(tmp_path / "run"), build(config)
    write_config(run, config)
    job.encoder.blocks.append(Watching())
    launch.pretrain(job, run)
    assert set(seen) == {(precision == "bf16-mixed", False)}


def test_an_image_of_another_split_gets_the_nearest_cluster():
    job = ready(tiny("deepcluster"))
    batch = batch_of(job, 0)
    job.objective.eval()
    job.encoder.eval()
    with torch.no_grad():
        _, _, labels = job.objective.answer(job.encoder, batch)
    assert torch.equal(labels, job.objective.labels[batch.index]), "those it was fitted on are nearest to their own"


def test_refuses_fewer_images_than_clusters(tmp_path):
    with pytest.raises(UserError, match=r"48 images cannot make 60 clusters: set objective.clusters=4 or less"):
        train(tiny("deepcluster", "objective.clusters=60"), tmp_path / "run")


def test_names_a_collapse_into_one_point():
    with pytest.raises(UserError, match="too much alike"):
        refreshed(48, torch.ones(48, 16))


def test_workers_read_the_same_features():
    job = ready(tiny("deepcluster"))
    split = job.data.split("train")
    plain, read = (pooled_features(job.encoder, split, 9, "cpu", workers) for workers in (0, 2))
    assert torch.equal(plain[0], read[0]) and torch.equal(plain[1], read[1])
