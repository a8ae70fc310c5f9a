"""MoCo: its loss, its queue, and its keys' batch norm."""

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from test_contracts import batch_of, stopped_is_never_stopped
from two_ranks import on_two_ranks

from sslzoo.build import build
from sslzoo.errors import ConfigError, UserError
from sslzoo.run import Run
from sslzoo.train import checkpoint


def test_the_loss_is_the_slow_loop_and_lightlys():
    job = build(tiny("moco"))
    batch, objective = batch_of(job, 0), job.objective
    queue = objective.queue.clone()
    logits, features, keys, _ = objective.contrast(job.encoder, batch)
    loss = objective(job.encoder, batch, 0)
    query = F.normalize(objective.projector(features), dim=1)
    total = 0.0
    for q, k in zip(query.double(), keys.double(), strict=True):
        right = torch.exp(q @ k / 0.2)
        wrong = sum(torch.exp(q @ other / 0.2) for other in queue.double())
        total = total - torch.log(right / (right + wrong)) / len(query)
    assert float(loss.value) == pytest.approx(float(total), abs=1e-5)
    weights = [*job.encoder.parameters(), *objective.projector.parameters()]
    ours, slow = (torch.autograd.grad(x, weights, retain_graph=True) for x in (loss.value, total))
    for a, b in zip(ours, slow, strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=2e-3)
    assert not any(p.requires_grad for p in objective.teacher.parameters()) and not keys.requires_grad
    assert logits.shape == (8, 25)
    lightly = pytest.importorskip("lightly.loss")
    theirs = lightly.NTXentLoss(temperature=0.2, memory_bank_size=(24, 16))
    theirs.memory_bank.bank, theirs.memory_bank.bank_ptr = queue.clone(), torch.zeros(1, dtype=torch.long)
    assert float(theirs(query, keys)) == pytest.approx(float(loss.value), abs=1e-5)


def test_the_queue_holds_the_last_keys_and_never_its_own_positives():
    job = build(tiny("moco"))
    objective = job.objective.train()
    for step in range(5):
        batch = batch_of(job, step)
        before = objective.queue.clone()
        place = int(objective.queue_ptr)
        keys = objective.encode_keys(objective.views(batch.inputs, batch.row_seeds, "view b"), batch)
        similar = (keys @ before.T).max()
        assert similar < 1 - 1e-6, "a key is in the queue before its batch is done"
        objective(job.encoder, batch, step)
        assert int(objective.queue_ptr) == (place + 8) % 24
        held = objective.queue[place : place + 8]
        torch.testing.assert_close(held, keys, atol=1e-5, rtol=0)
        others = torch.ones(24, dtype=torch.bool)
        others[place : place + 8] = False
        assert torch.equal(objective.queue[others], before[others])
    objective.eval()
    objective(job.encoder, batch, 5)
    assert int(objective.queue_ptr) == 40 % 24, "validation must not fill the queue"


def test_stopped_with_its_queue_half_way_round(tmp_path):
    config = tiny("moco", "objective.queue=32", "trainer.max_steps=11", "trainer.save_every=4", "trainer.log_every=2")
    middle = stopped_is_never_stopped(config, [6], tmp_path)
    assert int(middle["objective.queue_ptr"]) == 16, "on its second way round"
    whole = checkpoint.load(checkpoint.latest_checkpoint(Run(tmp_path / "whole")))["state_dict"]
    assert int(whole["objective.queue_ptr"]) == 11 * 8 % 32
    assert not torch.equal(whole["objective.queue"], middle["objective.queue"])


@pytest.mark.parametrize("encoder", ["tiny_resnet", "tiny_image"])
def test_two_ranks_fill_one_queue(encoder, tmp_path):
    """With unequal shares of a batch, and parts of it that one rank has nothing of."""
    config = tiny("moco", f"encoder={encoder}", "data.batch.size=9", "objective.queue=27")

    def work(rank, world=2):
        job = build(config)
        for step in range(4):
            job.objective(job.encoder, batch_of(job, step, rank, world), step)
        return {"queue": job.objective.queue, "queue_ptr": job.objective.queue_ptr}

    first, second = on_two_ranks(work, tmp_path)
    one = work(0, 1)
    assert torch.equal(first["queue"], second["queue"])
    assert int(first["queue_ptr"]) == int(second["queue_ptr"]) == int(one["queue_ptr"]) == 9
    for begin in (0, 9, 18):  # a batch's keys, those of the first rank's rows first
        ours, theirs = first["queue"][begin : begin + 9], one["queue"][begin : begin + 9]
        torch.testing.assert_close(ours, torch.cat([theirs[0::2], theirs[1::2]]), atol=1e-4, rtol=0)


def test_each_part_of_the_keys_has_its_own_statistics():
    job = build(tiny("moco"))
    batch, objective = batch_of(job, 0), job.objective.train()
    whole = objective.encode_keys(batch.inputs.float() / 255, batch)
    part = batch.row_seeds.argsort().argsort() * 4 // 8
    for number in range(4):
        mine = part == number
        assert int(mine.sum()) == 2
        alone = objective.teacher.projector(objective.teacher.encoder(batch.inputs[mine], batch.lengths[mine]).pooled)
        torch.testing.assert_close(whole[mine], F.normalize(alone, dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.queue=20", "queue=20 is not a multiple of the batch of 8; the nearest is 16"),
        ("objective.queue=4", "nearest is 8"),
        ("objective.splits=8", "a batch of 8 is too small: .* at least 16"),
    ],
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_what_cannot_be_is_refused(override, message, ranks):
    """The batch is that of all ranks: their number changes nothing."""
    trainer = ["trainer=ddp", f"trainer.devices={ranks}", "trainer.accelerator=cpu"]
    with pytest.raises(ConfigError, match=message):
        build(tiny("moco", *trainer, override))
    assert build(tiny("moco", *trainer)).trainer.ranks == ranks


def test_batches_of_many_sizes_are_refused():
    with pytest.raises(ConfigError, match="data.batch counts seconds, but the data is image"):
        build(tiny("moco", "~data.batch.size", "data.batch._target_=sslzoo.data.sampler.BySeconds"))


def test_a_queue_longer_than_the_set_is_refused():
    """It would hold an image's own older keys, as negatives."""
    objective = build(tiny("moco")).objective
    objective.prepare(24, 3, 0)
    with pytest.raises(
        UserError, match=r"queue=24 holds more keys than the 23 images .* set objective.queue=16 or less"
    ):
        objective.prepare(23, 3, 0)
