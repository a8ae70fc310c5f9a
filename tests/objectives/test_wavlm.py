"""WavLM: what is mixed into what, and how loud; labels and their loss are HuBERT's; NEST's mixing in BEST-RQ."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of, still

from sslzoo.augment.utterance_mixing import UtteranceMixing
from sslzoo.build import build
from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError


def tones(n: int = 40, size: int = 1000) -> Batch:
    """Row i has the value i + 1 everywhere, so that what is added tells of whom it is."""
    lengths = torch.tensor([size - 10 * i for i in range(n)])
    waves = (torch.arange(n) + 1.0)[:, None] * (torch.arange(size) < lengths[:, None])
    return Batch(waves, lengths, torch.arange(n) + 77, torch.arange(n))


def test_a_part_of_another_utterance_is_added_at_the_ratio_drawn():
    batch = tones()
    mixed = UtteranceMixing(1.0, [3.0, 3.0], 0.5, 1.0)(batch, 1000)
    for row, n in enumerate(batch.lengths.tolist()):
        added = mixed[row] - batch.inputs[row]
        where = (added.abs() > 1e-6).nonzero()[:, 0]
        assert 1 <= len(where) <= n / 2 and where[-1] - where[0] + 1 == len(where) and where[-1] < n
        own, other = (row + 1.0) ** 2, float(added[where[0]]) ** 2
        assert 10 * math.log10(own / other) == pytest.approx(3.0, abs=1e-3)


def test_as_many_are_mixed_as_it_says_and_never_with_themselves():
    batch = replace(tones(400), inputs=torch.randn(400, 1000), lengths=torch.full((400,), 1000))
    mixed = UtteranceMixing(0.2, [0.0, 0.0], 0.5, 1.0)(batch, 1000)
    assert (mixed != batch.inputs).any(1).float().mean() == pytest.approx(0.2, abs=0.06)
    one = tones(1)
    assert torch.equal(UtteranceMixing(1.0)(one, 1000), one.inputs)
    rows = torch.arange(40)[:, None]
    steady = replace(batch, inputs=1000.0 ** (rows / 40) * torch.ones(1000), lengths=torch.full((40,), 1000))
    steady = replace(steady, row_seeds=batch.row_seeds[:40], index=batch.index[:40])
    scaled = UtteranceMixing(1.0, [0.0, 0.0], 1.0, 1.0)
    two = replace(steady, inputs=steady.inputs * torch.tensor([1.0, -1.0]).repeat(20)[:, None])
    for row in range(0, 40, 2):  # of a pair whose other half has the other sign, what is added has it too
        pair = [
            replace(two, **{k: getattr(two, k)[row : row + 2] for k in ("inputs", "lengths", "row_seeds", "index")})
        ]
        added = scaled(pair[0], 1000) - pair[0].inputs
        assert (added[0] <= 1e-4).all() and (added[1] >= -1e-4).all() and (added[0] < -0.5).any()


@pytest.mark.parametrize("name", ["wavlm", "best_rq"])
def test_the_loss_is_of_the_clean_labels_on_what_is_heard(name):
    more = ["objective/mixing=utterances", "objective.mixing.prob=1.0"] if name == "best_rq" else []
    job = still(build(tiny(name, *more)))
    batch, objective = batch_of(job, 0), job.objective
    encoder = copy.deepcopy(job.encoder).double()
    heard = objective.mixing(batch, 16000)
    assert not torch.equal(heard, batch.inputs)
    clean, lengths = job.encoder.features(batch.inputs, batch.lengths)
    mask = objective.mask(batch.row_seeds, lengths, clean.shape[1])
    head = copy.deepcopy(objective).double()
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row, n in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        features, size = job.encoder.features(heard[one, : batch.lengths[row]], batch.lengths[one])
        features = features.double()
        if name == "best_rq":
            from sslzoo import rng

            noise = objective.noise * rng.normal(batch.row_seeds[one], "noise", *clean.shape[1:])
            features = torch.where(mask[one, :n, None], noise[:, :n].double(), features)
            tokens, codes = encoder.project(features, size)[0], objective.codes(clean[row])
        else:
            tokens, codes = encoder.project(features, size)[0], batch.targets["codes"][row]
            tokens = torch.where(mask[one, :n, None], head.mask_token, tokens)
        last = encoder.contextualize(tokens, size).last[0]
        for t in range(n):
            if mask[row, t] and t < len(codes) and codes[t] >= 0:
                logits = head.logits(last[t : t + 1])[0] if name == "wavlm" else head.head(last[t])
                total, count = total - logits.log_softmax(0)[codes[t]], count + 1
    (total / count).backward()
    loss = objective(job.encoder, batch, 0)
    loss.value.backward()
    assert loss.count == count and float(loss.value) == pytest.approx(float(total) / count, rel=1e-5)
    for fast, exact in zip(job.encoder.parameters(), encoder.parameters(), strict=True):
        torch.testing.assert_close(fast.grad.double(), exact.grad, atol=2e-6, rtol=2e-3)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="mixing needs"):
        UtteranceMixing(1.5)
