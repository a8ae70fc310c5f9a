"""BEST-RQ: its codes against a slow loop, its loss, and that what is frozen stays so."""

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of, gradients

from sslzoo.build import build
from sslzoo.errors import ConfigError


def test_codes_are_the_nearest_unit_vectors():
    job = build(tiny("best_rq"))
    batch = batch_of(job, 0)
    features, _ = job.encoder.features(batch.inputs, batch.lengths)
    found = job.objective.codes(features[0, :12])
    book = job.objective.codebook.double()
    for x, code in zip(features[0, :12].double(), found.tolist(), strict=True):
        y = x @ job.objective.projection.double()
        distances = [float((c / c.norm() - y / y.norm()).norm()) for c in book]
        assert distances[code] == pytest.approx(min(distances), abs=1e-6)


def test_the_loss_is_the_slow_loop():
    job = build(tiny("best_rq"))
    batch = batch_of(job, 0)
    mask, logits, codes = job.objective.answer(job.encoder, batch)
    assert len(logits) == int(mask.sum()) > 0
    total = 0.0
    for row, code in zip(logits.double(), codes.tolist(), strict=True):
        total += float(torch.log(torch.exp(row - row.max()).sum()) + row.max() - row[code])
    loss = job.objective(job.encoder, batch, 0)
    assert float(loss.value) == pytest.approx(total / len(codes), abs=1e-5) and loss.count == len(codes)


def test_masked_frames_tell_nothing_of_themselves():
    job = build(tiny("best_rq"))
    batch = batch_of(job, 0)
    features, lengths = job.encoder.features(batch.inputs, batch.lengths)
    mask, logits, _ = job.objective.answer(job.encoder, batch)
    whole = job.encoder.features
    # other features at the masked places give the same answer
    job.encoder.features = lambda *given: (torch.where(mask[..., None], features + 7, features), lengths)
    _, again, _ = job.objective.answer(job.encoder, batch)
    assert torch.equal(logits, again)
    job.encoder.features = whole


def test_the_projection_and_the_codebook_never_train():
    job = build(tiny("best_rq"))
    _, grads = gradients(job, batch_of(job, 0))
    assert not any("codebook" in name or "projection" in name for name in grads)
    state = job.objective.state_dict()
    assert {"codebook", "projection"} <= set(state), "a continued run must name the same codes"
    torch.testing.assert_close(state["codebook"].norm(dim=1), torch.ones(32))


def test_bad_values_are_refused():
    with pytest.raises(ConfigError, match="entries >= 2"):
        build(tiny("best_rq", "objective.entries=1"))
