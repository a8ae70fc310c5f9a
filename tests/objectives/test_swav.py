"""SwAV: its loss against a slow loop and lightly, its queue, and what is easily got wrong."""

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from slow_sinkhorn import slow
from test_contracts import batch_of, gradients, ready
from two_ranks import on_two_ranks

from sslzoo.build import build
from sslzoo.errors import ConfigError


def scores_of(job, batch):
    """Cosines [V, B, K] of every view with the prototypes, one by one."""
    objective = job.objective
    views = objective.views.draw(job.encoder, batch)
    z = objective.projector(torch.cat(objective.views.embed(job.encoder, views, joint=True)))
    rows = [[F.cosine_similarity(x, c, dim=0) for c in objective.prototypes.weight] for x in z]
    return torch.stack([torch.stack(row) for row in rows]).unflatten(0, (-1, len(batch)))


@pytest.mark.parametrize("encoder", ["tiny_resnet", "tiny_image"])
def test_the_loss_is_the_slow_loop_and_lightlys(encoder):
    job = ready(tiny("swav", f"encoder={encoder}", "objective.queue=null"))
    batch = batch_of(job, 0)
    value = job.objective(job.encoder, batch, 6).value
    scores = scores_of(job, batch)
    codes = [torch.tensor(slow(scores[view].detach(), 0.05, 3)) for view in range(2)]
    total = 0.0
    for t in range(2):
        for s in range(4):
            if s != t:
                for q, x in zip(codes[t], scores[s].double(), strict=True):
                    p = torch.exp(x / 0.1)
                    total = total - (q * torch.log(p / p.sum())).sum() / (2 * 3 * len(batch))
    assert float(value) == pytest.approx(float(total), rel=1e-4)
    weight = next(job.encoder.parameters())
    ours, theirs = (torch.autograd.grad(x, weight, retain_graph=True)[0] for x in (value, total))
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4 * float(theirs.abs().max()))
    lightly = pytest.importorskip("lightly.loss").SwaVLoss()
    assert float(value) == pytest.approx(float(lightly(list(scores[:2]), list(scores[2:]))), rel=1e-4)


def test_prototypes_are_normalised_however_long_they_grow():
    job = ready(tiny("swav"))
    batch = batch_of(job, 0)
    before = job.objective.eval()(job.encoder, batch, 0).value
    with torch.no_grad():
        job.objective.prototypes.weight.mul_(torch.linspace(0.1, 10, 12)[:, None])
    torch.testing.assert_close(job.objective(job.encoder, batch, 0).value, before)


def test_prototypes_learn_from_the_second_epoch_on():
    job, name = ready(tiny("swav")), "objective.prototypes.weight"
    assert not gradients(job, batch_of(job, 5), 5)[1][name].any()
    job.objective.zero_grad()
    assert gradients(job, batch_of(job, 6), 6)[1][name].any()


def test_the_queue_is_filled_from_its_epoch_on_and_used_once_full():
    """A queue of three batches, from the second epoch on: filled by steps 6 to 8."""
    job = ready(tiny("swav", "objective.queue_epoch=1"))
    objective, plain = job.objective, ready(tiny("swav", "objective.queue=null")).objective
    held = []
    for step in range(12):
        batch = batch_of(job, step)
        queue, used = objective.queue.clone(), step >= 9
        _, z = objective.project(job.encoder, objective.views.draw(job.encoder, batch))
        scores = objective.prototypes(z[:2])
        wanted = objective.prototypes(queue)
        with_queue = [torch.tensor(slow(torch.cat(pair), 0.05, 3))[:8].float() for pair in zip(scores, wanted)]
        for view in range(2):
            code = objective.assign(scores[view], view, step)
            expected = with_queue[view] if used else plain.assign(scores[view], view, step)
            torch.testing.assert_close(code, expected, rtol=1e-3, atol=1e-5)
        objective(job.encoder, batch, step)
        held.append(int((objective.queue.norm(dim=2) > 0.5).sum()))
        if step >= 6:
            place = (step - 6) % 3 * 8
            torch.testing.assert_close(objective.queue[:, place : place + 8], z[:2].detach(), atol=1e-5, rtol=0)
    assert held == [0] * 6 + [16, 32, 48, 48, 48, 48]


def test_two_ranks_use_one_queue_once(tmp_path):
    """With unequal shares of a batch: codes and queue are those of one rank."""
    config = tiny("swav", "data.batch.size=9", "objective.queue=18")

    def work(rank, world=2):
        job, logs = ready(config), []
        for step in range(4):
            logs.append(gradients(job, batch_of(job, step, rank, world), step)[0]["loss"])
        return {"queue": job.objective.queue, "logs": torch.tensor(logs)}

    first, second = on_two_ranks(work, tmp_path)
    one = work(0, 1)
    assert torch.equal(first["queue"], second["queue"]) and first["logs"].tolist() == second["logs"].tolist()
    torch.testing.assert_close(first["logs"], one["logs"], rtol=1e-4, atol=0)
    for begin in (0, 9):  # the first rank's rows come first
        ours, theirs = first["queue"][:, begin : begin + 9], one["queue"][:, begin : begin + 9]
        torch.testing.assert_close(ours, torch.cat([theirs[:, 0::2], theirs[:, 1::2]], 1), atol=1e-4, rtol=0)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="queue=20 is not a multiple of the batch of 8: set it to null or 16"):
        build(tiny("swav", "objective.queue=20"))
    with pytest.raises(ConfigError, match="swav needs temperature and epsilon above 0"):
        build(tiny("swav", "objective.epsilon=0.0"))
