"""NPC and VQ-APC: loss and gradient against a slow loop in float64; what an output depends on; their codes."""

import copy

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of

from sslzoo.build import build
from sslzoo.encoders.masked_conv import MaskedConv
from sslzoo.errors import ConfigError


@pytest.mark.parametrize("overrides", [["npc"], ["npc", "objective.entries=null"], ["vq_apc"]])
def test_loss_and_gradient_are_the_slow_loop(overrides):
    job = build(tiny(*overrides))
    job.objective.eval()  # the likeliest code
    encoder, objective = copy.deepcopy(job.encoder).double(), copy.deepcopy(job.objective).double()
    batch, ahead = batch_of(job, 0), getattr(job.objective, "ahead", 0)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row in range(len(batch)):
        n = batch.lengths[row : row + 1]
        features, size = job.encoder.features(batch.inputs[row : row + 1, : int(n)], n)
        x = features.double()
        hidden = encoder.contextualize(*encoder.project(x, size)).last[0]
        for t in range(int(size) - ahead):
            code = hidden[t]
            if objective.quantizer is not None:
                best = objective.quantizer.logits(code).view(objective.quantizer.groups, -1).argmax(1)
                code = torch.cat([book[int(k)] for book, k in zip(objective.quantizer.codes, best, strict=True)])
            total, count = total + (objective.head(code) - x[0, t + ahead]).abs().mean(), count + 1
    (total / count).backward()
    loss = job.objective(job.encoder, batch, 0)
    loss.value.backward()
    assert loss.count == count and float(loss.value) == pytest.approx(float(total) / count, rel=1e-5)
    pairs = [*zip(job.encoder.parameters(), encoder.parameters(), strict=True)]
    for fast, exact in [*pairs, *zip(job.objective.parameters(), objective.parameters(), strict=True)]:
        if exact.grad is not None:
            torch.testing.assert_close(fast.grad.double(), exact.grad, atol=2e-6, rtol=2e-3)


@pytest.mark.parametrize(("depth", "kernel", "blind"), [(1, 5, 0), (3, 15, 2)])
def test_an_output_depends_on_no_frame_in_its_middle(depth, kernel, blind):
    trunk = MaskedConv(8, depth, kernel, blind)
    x = torch.randn(1, 41, 8, requires_grad=True)
    trunk(x, torch.tensor([41]))[-1][0, 20].sum().backward()
    seen = x.grad[0].abs().sum(1) > 0
    middle = torch.zeros(41, dtype=torch.bool)
    middle[20 - blind : 21 + blind] = True
    assert not seen[middle].any() and seen[20 + blind + 1] and seen[20 - blind - 1]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="temperature must be above 0"):
        build(tiny("npc", "objective.temperature=0.0"))
    with pytest.raises(ConfigError, match="odd kernel that is wider"):
        MaskedConv(8, 4, 9, 2)
    with pytest.raises(ConfigError, match="vq_apc needs entries >= 2"):
        build(tiny("vq_apc", "objective.entries=1"))
