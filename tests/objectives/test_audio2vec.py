"""Audio2Vec and temporal gap: loss and gradient against a slow loop in float64; where slices lie; short utterances."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of

from sslzoo import rng
from sslzoo.build import build


def vector(encoder, features, first, size):
    part = features[first : first + size][None]
    return encoder.contextualize(*encoder.project(part, torch.tensor([size]))).pooled[0]


def check(job, batch, slow):
    """slow: of an encoder and head in float64 and a row's frames, whole and drawn numbers, its loss."""
    encoder, head = (copy.deepcopy(m).double() for m in (job.encoder, job.objective.head))
    features, lengths = job.encoder.features(batch.inputs, batch.lengths)
    losses = []
    for row, n in enumerate(lengths.tolist()):
        if n >= job.objective.min_tokens:
            losses.append(slow(encoder, head, features[row, :n].double(), n, batch.row_seeds[row : row + 1]))
    (sum(losses) / len(losses)).backward()
    loss = job.objective(job.encoder, batch, 0)
    loss.value.backward()
    assert loss.count == len(losses) and float(loss.value) == pytest.approx(float(sum(losses)) / len(losses), rel=1e-5)
    pairs = [*zip(job.encoder.parameters(), encoder.parameters(), strict=True)]
    for fast, exact in [*pairs, *zip(job.objective.head.parameters(), head.parameters(), strict=True)]:
        torch.testing.assert_close(fast.grad.double(), exact.grad, atol=2e-6, rtol=2e-3)
    return loss


@pytest.mark.parametrize("name", ["audio2vec", "audio2vec_skip"])
def test_the_loss_is_of_the_slices_that_were_not_seen(name):
    job = build(tiny(name))
    size, gap = job.objective.size, job.objective.gap
    batch = batch_of(job, 0)
    batch = replace(batch, lengths=torch.where(torch.arange(len(batch)) == 1, 1500, batch.lengths))

    def slow(encoder, head, frames, n, seed):
        start = int(rng.integers(seed, "slices", n - 3 * size - 2 * gap + 1, 1))
        places = [start + k * (size + gap) for k in range(3)]
        assert places[2] + size <= n, "never over padding"
        given, asked = ([0, 2], [1]) if name == "audio2vec" else ([1], [0, 2])
        seen = torch.cat([vector(encoder, frames, places[k], size) for k in given])
        wanted = torch.cat([frames[places[k] : places[k] + size].flatten() for k in asked])
        return ((head(seen) - wanted) ** 2).mean()

    assert check(job, batch, slow).count == len(batch) - 1


def test_the_loss_is_of_the_distance():
    job = build(tiny("temporal_gap"))
    size, furthest = job.objective.size, job.objective.furthest

    def slow(encoder, head, frames, n, seed):
        apart = int(rng.integers(seed, "gap", min(n - size, furthest) + 1, 1))
        start = int(rng.integers(seed, "slices", n - size - apart + 1, 1))
        places = [start + apart, start] if int(rng.integers(seed, "order", 2, 1)) else [start, start + apart]
        logit = head(torch.cat([vector(encoder, frames, place, size) for place in places]))[0]
        share, said = apart / furthest, torch.sigmoid(logit)
        return -share * torch.log(said) - (1 - share) * torch.log(1 - said)

    assert check(job, batch_of(job, 0), slow).logs() == {"uniform_loss": math.log(2)}
