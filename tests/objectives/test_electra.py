"""ELECTRA's loss against a slow one, its draws, and what it shares. tests/encoders has its models."""

import math

import pytest
import torch
from conftest import tiny
from texts import batch

from sslzoo import rng
from sslzoo.build import build
from sslzoo.data.base import MASK
from sslzoo.errors import ConfigError


@torch.no_grad()
def test_the_loss_is_the_papers():
    """The generator's over masked places, the encoder's over every token that is no padding, each in float64."""
    job, given = build(tiny("electra", "objective.weight=7")), batch()
    encoder, objective = job.encoder.eval(), job.objective.eval()
    for bias in (objective.generator_bias, objective.out.bias):
        bias.copy_(torch.randn(bias.shape, generator=torch.Generator().manual_seed(1)))
    at, guesses, corrupted, replaced, logits = objective.play(encoder, given)
    named, told, right, tokens = 0.0, 0.0, 0, 0
    for scores, place in zip(guesses.double().tolist(), at.tolist(), strict=True):
        answer = int(given.inputs.flatten()[place])
        named += math.log(sum(map(math.exp, scores))) - scores[answer]
    for row, length in enumerate(given.lengths.tolist()):
        for place in range(length):
            p = 1 / (1 + math.exp(-float(logits[row, place])))
            new = int(corrupted[row, place]) != int(given.inputs[row, place])
            assert new == bool(replaced[row, place])
            told -= math.log(p if new else 1 - p)
            right += (p > 0.5) == new
            tokens += 1
    loss = objective(encoder, given, 0)
    assert loss.count == tokens == 36
    assert float(loss.value) == pytest.approx(named / len(at) + 7 * told / tokens, rel=1e-5)
    logs = {name: float(value) for name, value in loss.logs().items()}
    assert logs["generator"] == pytest.approx(named / len(at), rel=1e-5)
    assert logs["discriminator"] == pytest.approx(told / tokens, rel=1e-5)
    assert logs["accuracy"] == pytest.approx(right / tokens)


def test_only_masked_places_are_replaced_and_a_right_guess_is_none():
    job, given = build(tiny("electra")), batch()
    ids, chosen = job.objective.masked(given.inputs, given.lengths, given.row_seeds)
    assert (ids[chosen] == MASK).all() and torch.equal(ids[~chosen], given.inputs[~chosen])
    at, guesses, corrupted, _, _ = job.objective.play(job.encoder, given)
    assert torch.equal(corrupted[~chosen], given.inputs[~chosen])
    sure = torch.full_like(guesses, -50.0)
    sure[torch.arange(len(at)), given.inputs.flatten()[at]] = 50.0
    job.objective.generate = lambda *_: sure
    assert not job.objective.play(job.encoder, given)[3].any(), "a generator that is always right replaces nothing"


def test_draws_follow_the_generators_belief_within_the_datas_vocabulary():
    objective = build(tiny("electra")).objective
    objective.vocab_size = 6
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, 0.5, -30.0, 90.0]).expand(20_000, 7)
    drawn = objective.sample(logits, torch.tensor([rng.derive_seed(3, i) for i in range(20_000)]))
    expected = logits[0, :6].double().softmax(0)
    counts = drawn.bincount(minlength=7).double() / 20_000
    assert counts[6] == 0, "an id that the data does not have is never drawn"
    torch.testing.assert_close(counts[:6], expected, atol=5 * 0.5 / 20_000**0.5, rtol=0)


def test_no_gradient_passes_through_the_draw():
    """With the generator's own loss away, it learns nothing but through the embeddings that it shares."""
    job = build(tiny("electra"))
    _, _, _, replaced, logits = job.objective.play(job.encoder, batch())
    (logits * replaced).sum().backward()
    assert all(p.grad is None for p in job.objective.generator.parameters())
    assert job.encoder.frontend.token_embedding.weight.grad is not None


@pytest.mark.parametrize(("override", "message"), [
    ("encoder.frontend.embedding_dim=null", "set encoder.frontend.embedding_dim and encoder.trunk.input_norm=false"),
    ("objective.weight=-1", "electra needs weight >= 0"),
    ("objective.keep=1", "electra needs weight >= 0 and 0 <= keep < 1"),
])  # fmt: skip
def test_what_cannot_be_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        build(tiny("electra", override))
