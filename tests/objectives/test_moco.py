"""MoCo: its loss, its queue, and its keys' batch norm."""

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from test_contracts import batch_of

from sslzoo.build import build
from sslzoo.errors import ConfigError


def test_the_loss_is_the_slow_loop_and_lightlys():
    job = build(tiny("moco"))
    batch, objective = batch_of(job, 0), job.objective
    queue = objective.queue.clone()
    logits, seen, keys, _ = objective.contrast(job.encoder, batch)
    loss = objective(job.encoder, batch, 0)
    query = F.normalize(objective.projector(seen), dim=1)
    total = 0.0
    for q, k in zip(query.double(), keys.double(), strict=True):
        right = torch.exp(q @ k / 0.2)
        wrong = sum(torch.exp(q @ other / 0.2) for other in queue.double())
        total -= float(torch.log(right / (right + wrong)))
    assert float(loss.value) == pytest.approx(total / len(query), abs=1e-5)
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
        place = int(objective.place)
        keys = objective.keys_of(objective.views(batch.inputs, batch.keys, "view b"), batch)
        similar = (keys @ before.T).max()
        assert similar < 1 - 1e-6, "a key is in the queue before its batch is done"
        objective(job.encoder, batch, step)
        assert int(objective.place) == (place + 8) % 24
        held = objective.queue[place : place + 8]
        torch.testing.assert_close(held, keys, atol=1e-5, rtol=0)
        others = torch.ones(24, dtype=torch.bool)
        others[place : place + 8] = False
        assert torch.equal(objective.queue[others], before[others])
    objective.eval()
    objective(job.encoder, batch, 5)
    assert int(objective.place) == 40 % 24, "validation must not fill the queue"


def test_each_part_of_the_keys_has_its_own_statistics():
    job = build(tiny("moco"))
    batch, objective = batch_of(job, 0), job.objective.train()
    whole = objective.keys_of(batch.inputs.float() / 255, batch)
    part = batch.keys.argsort().argsort() * 4 // 8
    for number in range(4):
        mine = part == number
        assert int(mine.sum()) == 2
        alone = objective.key_projector(objective.key_encoder(batch.inputs[mine], batch.lengths[mine]).pooled)
        torch.testing.assert_close(whole[mine], F.normalize(alone, dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.queue=20", "queue=20 is not a multiple of the batch of 8; the nearest is 16"),
        ("objective.queue=4", "nearest is 8"),
        ("objective.splits=8", "a batch of 8 is too small: .* at least 16"),
    ],
)
def test_what_cannot_be_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        build(tiny("moco", override))
