"""APC: what is predicted from what, and the loss against a slow loop."""

from dataclasses import replace

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of

from sslzoo.build import build
from sslzoo.errors import ConfigError


@pytest.mark.parametrize("ahead", [1, 5])
def test_the_loss_is_the_slow_loop_and_never_over_padding(ahead):
    job = build(tiny("apc", f"objective.ahead={ahead}"))
    batch = batch_of(job, 0)
    features, lengths = job.encoder.features(batch.inputs, batch.lengths)
    hidden = job.encoder.contextualize(*job.encoder.project(features, lengths)).last
    total, count = 0.0, 0
    for x, h, n in zip(features.double(), hidden, lengths.tolist(), strict=True):
        for t in range(n - ahead):
            total += float((job.objective.head(h[t]).double() - x[t + ahead]).abs().mean())
            count += 1
    loss = job.objective(job.encoder, batch, 0)
    assert float(loss.value) == pytest.approx(total / count, abs=1e-5) and int(loss.count) == count


@torch.no_grad()
def test_utterances_too_short_for_a_prediction_count_nothing():
    """As they may come to validation."""
    job = build(tiny("apc"))
    batch = batch_of(job, 0)
    brief = replace(batch, inputs=batch.inputs[:, :900], lengths=torch.full_like(batch.lengths, 900))
    loss = job.objective(job.encoder, brief, 0)
    assert loss.count == 0 and float(loss.value) == 0


TRUNKS = {
    "gru": ["encoder=tiny_gru"],
    "lstm": ["encoder=tiny_gru", "+encoder.trunk.cell=lstm"],
    "transformer": ["encoder=logmel_causal"],
}


@pytest.mark.parametrize("trunk", TRUNKS)
@torch.no_grad()
def test_a_prediction_has_not_seen_what_it_predicts(trunk):
    job = build(tiny("apc", *TRUNKS[trunk]))
    assert torch.isfinite(job.objective(job.encoder, batch_of(job, 0), 0).value)
    batch = batch_of(job, 0)
    features, lengths = job.encoder.features(batch.inputs, batch.lengths)
    changed = features.clone()
    changed[:, 10:] += 5
    a, b = (job.encoder.contextualize(*job.encoder.project(x, lengths)).last for x in (features, changed))
    assert torch.equal(a[:, :10], b[:, :10]) and not torch.equal(a[:, 10], b[:, 10])


def test_the_trunk_is_torchs_layers_with_residuals():
    job = build(tiny("apc"))
    x = torch.randn(2, 7, 16)
    hidden = job.encoder.trunk(x, torch.tensor([7, 7]))
    for layer, before, after in zip(job.encoder.trunk.blocks, hidden[:-1], hidden[1:], strict=True):
        torch.testing.assert_close(after, before + layer(before)[0])


def test_a_trunk_that_sees_the_future_is_refused():
    with pytest.raises(ConfigError, match="needs an encoder with a causal trunk; these fit: encoder=.*gru_small"):
        build(tiny("apc", "encoder=tiny_speech"))
    with pytest.raises(ConfigError, match="ahead must be at least 1"):
        build(tiny("apc", "objective.ahead=0"))
