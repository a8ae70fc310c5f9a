"""GPT's loss against a slow one, what it may see, and what it writes. tests/encoders has its model."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from closeness import assert_sum_close
from conftest import compose, tiny

from sslzoo import rng
from sslzoo.build import build, make
from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError, UserError
from sslzoo.objectives import gpt
from sslzoo.objectives.gpt import logits
from sslzoo.train.plan import check_lengths


def generate(encoder, ids, steps, seed=0, temperature=1.0, top_k=None, **how):
    """Texts of one length as one tensor."""
    seeds = torch.from_numpy(rng.derive_row_seeds(seed, "text", rows=np.arange(len(ids))))
    return torch.stack(gpt.generate(encoder, ids, steps, seeds, temperature, top_k, **how))


def batch() -> Batch:
    g = torch.Generator().manual_seed(0)
    lengths = torch.tensor([20, 2, 13])
    ids = torch.randint(5, 60, (3, 20), generator=g) * (torch.arange(20) < lengths[:, None])
    ids[0, 5:11] = 7  # the commonest
    return Batch(ids, lengths, torch.tensor([rng.derive_seed(0, i) for i in range(3)]), torch.arange(3))


def sharp():
    """A tiny job whose guesses are far from even."""
    job = build(tiny("gpt"))
    with torch.no_grad():
        for p in job.encoder.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return job.encoder.eval(), job.objective.eval()


@torch.no_grad()
def test_the_loss_is_the_papers():
    """The mean of -log p of each token but the first, each text and each of its beginnings by itself."""
    (encoder, objective), given = sharp(), batch()
    table, total, right, targets = encoder.frontend.token_embedding.weight.double().clone(), 0.0, 0, []
    for row, length in enumerate(given.lengths.tolist()):
        for place in range(1, length):
            hidden = encoder(given.inputs[row : row + 1, :place], torch.tensor([place])).last[0, -1].double()
            scores = [float((table[word] * hidden).sum()) for word in range(60)]
            answer = int(given.inputs[row, place])
            total -= scores[answer] - math.log(sum(math.exp(s) for s in scores))
            right += scores[answer] == max(scores)
            targets.append(answer)
    loss = objective(encoder, given, 0)
    assert loss.count == len(targets) == 19 + 1 + 12
    assert float(loss.value) == pytest.approx(total / len(targets), abs=1e-5)
    assert float(loss.logs()["accuracy"]) == pytest.approx(right / len(targets))
    assert float(loss.logs()["chance"]) == pytest.approx(max(map(targets.count, targets)) / len(targets))
    assert loss.logs()["uniform_loss"] == math.log(60)
    # a tokenizer that learned fewer than the data allows
    objective.data = SimpleNamespace(real_vocab_size=30, unigram_entropy=2.5)
    objective.prepare(10, 1, 0)
    logs = objective(encoder, given, 0).logs()
    assert logs["uniform_loss"] == math.log(30) and logs["unigram_loss"] == 2.5


@torch.no_grad()
def test_padding_is_never_guessed():
    (encoder, objective), given = sharp(), batch()
    before = objective(encoder, given, 0).value
    given.inputs[1, 2:] = 9
    assert torch.equal(objective(encoder, given, 0).value, before)
    given.inputs[2, 12] = 9
    assert not torch.equal(objective(encoder, given, 0).value, before)


@torch.no_grad()
def test_no_token_is_seen_before_its_time():
    """A changed token changes the guess of no token up to itself, and of those after it."""
    (encoder, _), given = sharp(), batch()
    before = logits(encoder, encoder(given.inputs, given.lengths).last)
    for place in (1, 6, 11):
        ids = given.inputs.clone()
        ids[:, place] += 1
        after = logits(encoder, encoder(ids % 60, given.lengths).last)
        assert torch.equal(before[:, :place], after[:, :place])
        assert (before[[0, 2], place:13] != after[[0, 2], place:13]).any(-1).all()


def test_the_output_embedding_is_the_inputs():
    job = build(tiny("gpt"))
    assert not list(job.objective.parameters())
    job.objective(job.encoder, batch(), 0).value.backward()
    assert (job.encoder.frontend.token_embedding.weight.grad.abs().sum(1) > 0).all(), (
        "pieces that were nowhere are pushed away"
    )


@pytest.mark.parametrize("pieces", [[24], [10, 1, 1, 12], [1] * 24], ids=["at once", "in parts", "one by one"])
@torch.no_grad()
def test_a_cache_changes_nothing_but_the_work(pieces):
    encoder, _ = sharp()
    ids = torch.randint(0, 60, (2, 24), generator=torch.Generator().manual_seed(3))
    whole = encoder(ids, torch.tensor([24, 24]))
    cache, found = encoder.cache(), []
    for new in ids.split(pieces, dim=1):
        encoded, before = encoder(new, torch.full((2,), new.shape[1]), cache), cache
        assert encoded.cache is not cache and cache == before, "a cache is never changed"
        cache = encoded.cache
        found.append(encoded.hidden)
        assert all(h.shape[1] == new.shape[1] for h in found[-1]), "the work is that of the new tokens"
    for number, hidden in enumerate(whole.hidden):
        joined = torch.cat([part[number] for part in found], dim=1)
        assert_sum_close(joined, hidden)
    assert cache.position == cache.layers[0].size == 24
    with pytest.raises(UserError, match="a text of 25 tokens is longer than the encoder's 24: set data.max_tokens"):
        encoder(ids[:, :1], torch.tensor([1, 1]), cache)


@torch.no_grad()
def test_each_token_is_the_best_of_the_uncached_logits():
    encoder, _ = sharp()
    ids = torch.randint(0, 60, (2, 5), generator=torch.Generator().manual_seed(4))
    made = generate(encoder, ids, 19, temperature=0)
    assert torch.equal(made[:, :5], ids) and made.shape == (2, 24)
    for place in range(5, 24):
        scores = logits(encoder, encoder(made[:, :place], torch.tensor([place, place])).last[:, -1])
        assert torch.equal(made[:, place], scores.argmax(-1))


def test_an_encoder_without_a_cache_writes_the_same(monkeypatch):
    encoder, _ = sharp()
    ids = torch.tensor([[7, 8, 9]])
    quick = generate(encoder, ids, 20, seed=5)
    monkeypatch.setattr(type(encoder), "cache", lambda self: None)
    assert torch.equal(generate(encoder, ids, 20, seed=5), quick)


def test_segments_are_not_gone_on_with():
    """The segment of a token depends on the separators before it, which a cache does not hold."""
    assert build(tiny("gpt", "encoder.frontend.segments=2")).encoder.cache() is None
    assert build(tiny("bert")).encoder.cache() is None


@torch.no_grad()
def test_draws_follow_the_softmax_and_the_key():
    encoder, _ = sharp()
    ids = torch.tensor([[7, 8, 9]])
    scores = logits(encoder, encoder(ids, torch.tensor([3])).last[0, -1])
    many = ids.expand(4000, -1)
    for temperature, top_k in ((1.0, None), (0.5, None), (1.0, 4)):
        made = generate(encoder, many, 1, 1, temperature, top_k)[:, -1]
        kept = scores if top_k is None else scores.masked_fill(scores < scores.sort().values[-top_k], -math.inf)
        expected = (kept / temperature).softmax(-1)
        share = torch.bincount(made, minlength=60) / len(made)
        assert (share - expected).abs().max() < 4 * 0.5 / 4000**0.5
        assert top_k is None or set(made.tolist()) == set(scores.topk(4).indices.tolist())
    assert expected.max() < 0.9 and expected.topk(3).values.min() > 0.03, "more than one is likely"
    a, b, c = (generate(encoder, many[:8], 12, key) for key in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert len({tuple(row) for row in a.tolist()}) > 1, "rows draw for themselves"
    assert torch.equal(generate(encoder, many[:3], 12, 1), a[:3])
    assert torch.equal(generate(encoder, many[:8], 12, 3, top_k=1), generate(encoder, many[:8], 12, temperature=0))


@torch.no_grad()
def test_a_nucleus_is_the_fewest_of_the_best():
    encoder, _ = sharp()
    ids = torch.tensor([[7, 8, 9]])
    scores = logits(encoder, encoder(ids, torch.tensor([3])).last[0, -1])
    many = ids.expand(4000, -1)
    for temperature, top_p in ((1.0, 0.5), (0.7, 0.8), (1.0, 1.0)):
        order, probs = scores.argsort(descending=True).tolist(), (scores / temperature).softmax(-1)
        kept, total = [], 0.0
        for token in order:
            if total >= top_p:
                break
            kept.append(token)
            total += float(probs[token])
        made = generate(encoder, many, 1, 1, temperature, top_p=top_p)[:, -1]
        share = torch.bincount(made, minlength=60) / len(made)
        assert set(made.tolist()) <= set(kept) and (len(kept) < 60 or top_p == 1.0)
        assert (share[kept] - probs[kept] / probs[kept].sum()).abs().max() < 4 * 0.5 / 4000**0.5
    best = generate(encoder, many[:8], 12, temperature=0)
    assert torch.equal(generate(encoder, many[:8], 12, 3, top_p=1e-6), best)
    assert torch.equal(generate(encoder, many[:8], 12, temperature=0, top_p=0.9), best)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@torch.no_grad()
def test_texts_side_by_side_go_on_as_each_by_itself(temperature, cached, monkeypatch):
    encoder, _ = sharp()
    if not cached:
        monkeypatch.setattr(type(encoder), "cache", lambda self: None)
    g = torch.Generator().manual_seed(4)
    prompts = [torch.randint(5, 60, (n,), generator=g) for n in (3, 11, 1, 3, 7)]
    seeds = torch.from_numpy(rng.derive_row_seeds(9, rows=np.arange(5)))
    found = gpt.generate(encoder, prompts, 12, seeds, temperature, top_k=20, top_p=0.9)
    for row, prompt in enumerate(prompts):
        [alone] = gpt.generate(encoder, [prompt], 12, seeds[row : row + 1], temperature, top_k=20, top_p=0.9)
        assert torch.equal(found[row], alone) and len(alone) == len(prompt) + 12
        assert torch.equal(alone[: len(prompt)], prompt)


@torch.no_grad()
def test_a_text_ends_where_it_is_told_to():
    encoder, _ = sharp()
    prompts = [torch.tensor([7, 8, 9]), torch.tensor([7, 8, 9, 10, 11, 12]), torch.tensor([20])]
    whole = gpt.generate(encoder, prompts, 15)
    asked = []

    def stop(row, new):
        asked.append((row, len(new)))
        return row < 2 and len(new) >= 4 + row

    found = gpt.generate(encoder, prompts, 15, stop=stop)
    assert [len(text) for text in found] == [3 + 4, 6 + 5, 1 + 15]
    assert all(torch.equal(text, other[: len(text)]) for text, other in zip(found, whole, strict=True))
    assert sorted(asked) == [(0, n) for n in range(1, 5)] + [(1, n) for n in range(1, 6)] + [
        (2, n) for n in range(1, 16)
    ]
    steps = []
    forward = encoder.forward
    encoder.forward = lambda *args: steps.append(1) or forward(*args)
    gpt.generate(encoder, prompts[:1], 15, stop=lambda row, new: True)
    assert len(steps) == 1, "nothing is made after the last one has ended"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"steps": 22}, "steps=22 more than 3 tokens: at most 21 fit in the encoder's 24"),
        ({"steps": -1}, "steps=-1"),
        ({"steps": 3, "temperature": -0.1}, "temperature >= 0 and top_k >= 1, got -0.1 and None"),
        ({"steps": 3, "top_k": 0}, "got 1.0 and 0"),
        ({"steps": 3, "top_p": 0.0}, "generate needs top_p above 0 and at most 1, got 0.0"),
        ({"steps": 3, "top_p": 1.5}, "at most 1, got 1.5"),
        ({"steps": 3, "ids": torch.zeros(1, 0, dtype=torch.long)}, "at least one token"),
    ],
)
def test_what_cannot_be_written_is_refused(how, says):
    encoder, _ = sharp()
    with pytest.raises(UserError, match=says):
        generate(encoder, **{"ids": torch.tensor([[7, 8, 9]]), **how})
    assert generate(encoder, torch.tensor([[7, 8, 9]]), 21).shape == (1, 24)


def test_an_encoder_that_sees_what_comes_is_refused():
    with pytest.raises(
        ConfigError, match="GPT on this data needs an encoder with a causal trunk; these fit: .*gpt2, gpt_small"
    ):
        build(tiny("gpt", "encoder=tiny_text"))
    with pytest.raises(ConfigError, match="GPT is for text, but the data is speech"):
        build(tiny("gpt", "data=tiny_speech", "encoder=tiny_gru"))


def test_a_text_without_a_next_token_is_refused():
    job = build(tiny("gpt"))
    split = job.data.split("train")
    split.items[5] = split.items[5][:1]
    split.lengths[5] = 1
    with pytest.raises(
        UserError, match="^item 5 has 1 tokens, fewer than the 2 that GPT needs — leave such texts out$"
    ):
        check_lengths(split, job.encoder, job.objective, job.data)


def test_it_shows_where_the_right_token_came():
    (encoder, objective), given = sharp(), batch()
    shown = objective.visualize(encoder, given, 0)
    scores = logits(encoder, encoder(given.inputs, given.lengths).last)
    assert shown["lengths"].tolist() == [20, 2, 13] and torch.equal(shown["ids"], given.inputs)
    for number, length in enumerate([20, 2, 13]):
        for place in range(1, length):
            order = scores[number, place - 1].argsort(descending=True).tolist()
            assert shown["prediction"][number, place - 1].tolist() == order[:3]
            assert shown["rank"][number, place - 1] == order.index(int(given.inputs[number, place]))
    assert shown["given"] == 6 and torch.equal(shown["text"][:6], given.inputs[2, :6]) and len(shown["text"]) == 24


def test_it_reads_as_well_as_it_writes():
    """A probe's features: a causal encoder pools a text's own tokens."""
    encoder = make(compose("objective=gpt", "data=tiny_text", "encoder=gpt_small")["encoder"]).eval()
    given = batch()
    encoded = encoder(given.inputs, given.lengths)
    torch.testing.assert_close(encoded.pooled[2], encoded.last[2, :13].mean(0))
