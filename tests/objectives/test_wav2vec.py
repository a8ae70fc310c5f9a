"""wav2vec and vq-wav2vec: loss and gradient against a slow loop in float64; negatives, codes,
and what a context knows."""

import copy
import math

import pytest
import torch
from conftest import compose, tiny
from test_contracts import batch_of, gradients

from sslzoo import rng
from sslzoo.build import build, make
from sslzoo.errors import ConfigError
from sslzoo.nn.quantize import KMeansQuantizer


def slow_loss(job, batch):
    """Token by token without padding, each question by itself."""
    encoder, objective = copy.deepcopy(job.encoder).double(), copy.deepcopy(job.objective).double().eval()
    lengths = job.encoder.features(batch.inputs, batch.lengths)[1]
    picked = job.objective.candidates(batch.row_seeds, lengths, int(lengths.max()))
    total, count, apart, tokens_seen = torch.zeros((), dtype=torch.float64), 0, 0.0, 0
    for row, n in enumerate(lengths.tolist()):
        features, size = job.encoder.features(
            batch.inputs[row : row + 1, : batch.lengths[row]], batch.lengths[row, None]
        )
        z = encoder.project(features.double(), size)[0][0]
        quantizer = getattr(objective, "quantizer", None)
        if isinstance(quantizer, KMeansQuantizer):
            found = []
            for x in quantizer.norm(quantizer.project(z)):
                parts = []
                for part, book in zip(x.chunk(quantizer.groups), quantizer.codes, strict=True):
                    entry = book[int(((book - part) ** 2).sum(1).argmin())]
                    apart = apart + ((part.detach() - entry) ** 2 + 0.25 * (part - entry.detach()) ** 2).sum() / len(x)
                    parts.append(part + (entry - part).detach())
                found.append(torch.cat(parts))
                tokens_seen += 1
            z = torch.stack(found)
        elif quantizer is not None:
            found = []
            for x in z:
                scores = quantizer.logits(x).view(quantizer.groups, -1).argmax(1)
                found.append(torch.cat([book[int(k)] for book, k in zip(quantizer.codes, scores, strict=True)]))
            z = torch.stack(found)
        context = encoder.contextualize(z[None], size).last[0]
        for k in range(1, objective.ahead + 1):
            for i in range(n - k):
                asked = objective.predict[k - 1](context[i])
                right, *wrong = picked[row, i + k].tolist()
                assert right == i + k and right not in wrong, "no negative is the positive"
                total = total - torch.log(torch.sigmoid(z[right] @ asked))
                for place in wrong:
                    total = total - torch.log(torch.sigmoid(-(z[place] @ asked)))
                count += 1
    value = total / count + (apart / tokens_seen if tokens_seen else 0.0)
    value.backward()
    return value, count, encoder, objective


@pytest.mark.parametrize("name", ["wav2vec", "vq_wav2vec", "vq_wav2vec_kmeans"])
def test_loss_and_gradient_are_the_slow_loop(name):
    job = build(tiny(name, "objective.ahead=2", "objective.negatives=3", "data.batch.max_items=3"))
    job.objective.eval()  # the likeliest code
    batch = batch_of(job, 0)
    value, count, encoder, objective = slow_loss(job, batch)
    loss = job.objective(job.encoder, batch, 0)
    loss.value.backward()
    assert loss.count == count and float(loss.value) == pytest.approx(float(value), rel=1e-5)
    pairs = [*zip(job.encoder.parameters(), encoder.parameters(), strict=True)]
    for fast, exact in [*pairs, *zip(job.objective.parameters(), objective.parameters(), strict=True)]:
        if exact.grad is not None:
            torch.testing.assert_close(fast.grad.double(), exact.grad, atol=2e-6, rtol=2e-3)


def test_a_guesser_loses_the_uniform_loss():
    job = build(tiny("wav2vec"))
    for p in job.objective.predict.parameters():
        torch.nn.init.zeros_(p)
    loss = job.objective(job.encoder, batch_of(job, 0), 0)
    assert float(loss.value) == pytest.approx(5 * math.log(2), rel=1e-6)
    assert loss.logs()["uniform_loss"] == pytest.approx(5 * math.log(2))


def test_gumbels_noise_is_a_tokens_own_and_kmeans_takes_the_nearest():
    job = build(tiny("vq_wav2vec"))
    batch = batch_of(job, 0)
    tokens, lengths = job.encoder.embed(batch.inputs, batch.lengths)
    whole = job.objective.quantized(tokens, lengths, batch.row_seeds, 0)[0]
    one = job.objective.quantized(tokens[1:2, :9], torch.tensor([9]), batch.row_seeds[1:2], 0)[0]
    torch.testing.assert_close(whole[1, :9], one[0])
    assert not whole[lengths.argmin(), lengths.min() :].any(), "padding has no code"
    _, grads = gradients(build(tiny("vq_wav2vec_kmeans")), batch)
    assert float(grads["objective.quantizer.codes"].abs().sum()) > 0


def test_an_encoder_of_wav2vecs_is_causal_and_log_compressed():
    encoder = make(compose("objective=rotation", "data=tiny_speech", "encoder=wav2vec_small")["encoder"]).eval()
    wave = 0.1 * torch.randn(1, 6000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([6000])
    later = wave.clone()
    later[:, 4000:] = 0
    features, _ = encoder.features(wave, lengths)
    assert (features >= 0).all()
    before = (4000 - encoder.frontend.receptive_field) // encoder.stride + 1
    a, b = (encoder(x, lengths).last for x in (wave, later))
    torch.testing.assert_close(a[:, :before], b[:, :before], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(a[:, before + 5 :], b[:, before + 5 :])


def test_negatives_of_a_token_are_drawn_from_all_others():
    job = build(tiny("wav2vec", "objective.negatives=400"))
    wrong = job.objective.candidates(torch.tensor([rng.derive_seed(1)]), torch.tensor([5]), 5)[0, :, 1:]
    assert [sorted(set(row.tolist())) for row in wrong] == [[k for k in range(5) if k != own] for own in range(5)]


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="entries >= 2"):
        build(tiny("vq_wav2vec", "objective.entries=1"))
