"""Speech SimCLR: its loss and gradient are those of its two parts, view by view and value by value, in float64."""

import copy
import math

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of

from sslzoo.build import build


@pytest.mark.parametrize("name", ["speech_simclr", "simclr_audio"])
def test_loss_and_gradient_are_the_slow_loop(name):
    job = build(tiny(name))
    batch, encoder = batch_of(job, 0), copy.deepcopy(job.encoder).double()
    objective, slow = job.objective, copy.deepcopy(job.objective).double()
    drawn = objective.views.draw(job.encoder, batch)
    vectors = []
    for view in drawn.views:
        for row, n in enumerate(drawn.lengths.tolist()):
            frames, size = encoder.frontend.stack_frames(view[row : row + 1, :n].double(), torch.tensor([n]))
            vectors.append(encoder.contextualize(*encoder.project(frames, size)).pooled[0])
    z = slow.projector(torch.stack(vectors))
    z = [x / x.norm() for x in z]
    value = 0.0
    for i in range(len(z)):
        positive = (i + len(batch)) % len(z)
        others = [torch.exp(z[i] @ z[k] / objective.temperature) for k in range(len(z)) if k != i]
        value = value + torch.log(sum(others)) - z[i] @ z[positive] / objective.temperature
    value = value / len(z)
    if name == "speech_simclr":
        features, lengths = job.encoder.features(batch.inputs, batch.lengths)
        single, part = job.encoder.frontend.unstack_frames(features), slow
        altered, counts = objective.corruption(batch.row_seeds, single, lengths * 2)
        total, count = 0.0, 0
        for row, n in enumerate(lengths.tolist()):
            seen = altered[row].reshape(features.shape[1], -1)[None, :n].double()
            hidden = encoder.contextualize(*encoder.project(seen, torch.tensor([n]))).last
            rebuilt = part.head(hidden)[0].reshape(2 * n, -1)
            for t in range(2 * n):
                error = (rebuilt[t] - single[row, t].double()).abs()
                total, count = total + (error * counts[row, t]).sum(), count + int(counts[row, t].sum())
        value = value + objective.weight * total / count
    value.backward()
    loss = objective(job.encoder, batch, 0)
    loss.value.backward()
    assert loss.count == 2 * len(batch) and float(loss.value) == pytest.approx(float(value), rel=1e-5)
    pairs = [*zip(job.encoder.parameters(), encoder.parameters(), strict=True)]
    for fast, exact in [*pairs, *zip(objective.parameters(), slow.parameters(), strict=True)]:
        torch.testing.assert_close(fast.grad.double(), exact.grad, atol=5e-6, rtol=5e-3)
    uniform = float(loss.logs()["uniform_loss"])
    assert uniform >= math.log(2 * len(batch) - 1) - 1e-6
