"""CPC: its candidates, its loss against a slow loop, and what a context may know."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import compose, tiny
from test_contracts import batch_of

from sslzoo import rng
from sslzoo.build import build, make
from sslzoo.errors import ConfigError, UserError
from sslzoo.train.plan import check_lengths


def ready(*overrides: str):
    job = build(tiny("cpc", *overrides))
    return job, batch_of(job, 0)


@pytest.mark.parametrize(("ahead", "negatives"), [(1, 5), (3, 6), (4, 100)])
@torch.no_grad()
def test_the_loss_is_the_slow_loop_and_never_over_padding(ahead, negatives):
    """Equation 4 with equation 3's scores, step by step and token by token."""
    job, batch = ready(f"objective.ahead={ahead}", f"objective.negatives={negatives}")
    batch = replace(batch, lengths=torch.where(torch.arange(len(batch)) == 1, 1500, batch.lengths))
    tokens, lengths = job.encoder.embed(batch.inputs, batch.lengths)
    context = job.encoder.contextualize(tokens, lengths).last.double()
    picked = job.objective.candidates(batch.row_seeds, lengths, tokens.shape[1])
    tokens, total, right, chance, count = tokens.double(), 0.0, 0, 0.0, 0
    for row, n in enumerate(lengths.tolist()):
        for k in range(1, ahead + 1):
            weight = job.objective.predict[k - 1].weight.double()
            for t in range(n - k):
                assert picked[row, t + k, 0] == t + k and picked[row, t + k].max() < n
                scores = [float(tokens[row, place] @ weight @ context[row, t]) for place in picked[row, t + k]]
                total -= scores[0] - math.log(sum(map(math.exp, scores)))
                right += scores[0] > max(scores[1:])
                chance += 1 / len(set(picked[row, t + k].tolist()))
                count += 1
    loss = job.objective(job.encoder, batch, 0)
    assert int(loss.count) == count
    assert float(loss.value) == pytest.approx(total / count, abs=1e-5)
    assert float(loss.logs()["accuracy"]) == pytest.approx(right / count)
    assert float(loss.logs()["chance"]) == pytest.approx(chance / count)
    assert loss.logs()["uniform_loss"] == math.log(1 + negatives)


def test_the_right_one_is_never_among_the_others():
    job, _ = ready("objective.negatives=500")
    seeds = torch.tensor([rng.derive_seed(3, row) for row in range(40)])
    wrong = job.objective.candidates(seeds, torch.full((40,), 6), 6)[:, :, 1:]
    for own in range(6):
        share = (wrong[:, own].flatten().bincount(minlength=6) / 20_000).tolist()
        assert share.pop(own) == 0
        assert share == pytest.approx([0.2] * 5, abs=0.015)


def test_one_who_knows_what_comes_loses_nothing():
    """If the right one were also among the wrong ones, no score could bring its loss below log 2."""
    job, _ = ready("objective.ahead=2", "objective.negatives=50")
    tokens = torch.nn.functional.one_hot(torch.arange(12), 16).float()[None]
    for linear in job.objective.predict:
        torch.nn.init.eye_(linear.weight)
    candidates = job.objective.candidates(torch.tensor([7]), torch.tensor([12]), 12)
    for k in (1, 2):
        context = 50 * tokens.roll(-k, 1)
        *_, logits = list(job.objective.scores(tokens, context, candidates))[:k]
        losses = -logits.log_softmax(2)[..., 0]
        assert logits.shape == (1, 12 - k, 51) and losses.max() < 1e-6


@pytest.mark.parametrize("name", ["cpc", "cpc_small"])
@torch.no_grad()
def test_a_context_knows_of_no_later_sample(name):
    """A token's samples begin at t * stride: those behind the receptive field of c_t change nothing of it."""
    torch.manual_seed(0)
    encoder = make(compose("objective=cpc", "data=tiny_speech", f"encoder={name}")["encoder"]).eval()
    wave, lengths = 0.1 * torch.randn(1, 4000), torch.tensor([4000])
    last = 10
    changed = wave.clone()
    changed[:, last * encoder.stride + encoder.frontend.receptive_field :] += 0.3
    a, b = (encoder(x, lengths).last for x in (wave, changed))
    assert torch.equal(a[:, : last + 1], b[:, : last + 1]) and not torch.equal(a[:, last + 1], b[:, last + 1])
    longer = encoder(torch.cat([wave, wave], 1), 2 * lengths).last
    torch.testing.assert_close(longer[:, : a.shape[1]], a, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frontend", ["norm=group", "normalize_input=true"])
@torch.no_grad()
def test_the_other_norms_do_know(frontend):
    """Which is why cpc.yaml has neither."""
    encoder = make(
        compose("objective=cpc", "data=tiny_speech", "encoder=cpc_small", f"encoder.frontend.{frontend}")["encoder"]
    )
    wave, changed = 0.1 * torch.randn(2, 1, 4000).expand(2, 1, 4000).clone()
    changed[:, :2000] = wave[:, :2000]
    a, b = (encoder.eval()(x, torch.tensor([4000])).last for x in (wave, changed))
    assert not torch.allclose(a[:, 0], b[:, 0])


@pytest.mark.parametrize("encoder", ["gru_small", "cpc_small"])
def test_it_learns_over_frames_and_over_the_waveform(encoder):
    job, batch = ready(f"encoder={encoder}", "objective.ahead=12")
    job.objective(job.encoder, batch, 0).value.backward()
    missing = [n for m in (job.encoder, job.objective) for n, p in m.named_parameters() if p.grad is None]
    assert not missing


@torch.no_grad()
def test_utterances_too_short_for_a_step_count_nothing():
    """As they may come to validation: no number that is not one, and a picture."""
    job, batch = ready()
    brief = replace(batch, lengths=torch.full_like(batch.lengths, 100))
    loss = job.objective(job.encoder, replace(brief, inputs=brief.inputs[:, :300]), 0)
    assert int(loss.count) == 0 and float(loss.value) == 0
    assert job.objective.visualize(job.encoder, brief, 0)["rank"].tolist() == [-1]
    two = replace(batch, lengths=torch.full_like(batch.lengths, 560))
    assert int(job.objective(job.encoder, two, 0).count) == len(batch), "two tokens: one step of one position"


def test_refusals():
    with pytest.raises(
        ConfigError, match="needs an encoder with a causal trunk; these fit: encoder=cpc, cpc_small, .*gru_small"
    ):
        build(tiny("cpc", "encoder=logmel_small"))
    for bad in ("ahead=0", "negatives=0"):
        with pytest.raises(ConfigError, match=rf"objective\.{bad[:-2]} must be at least 1, got 0"):
            build(tiny("cpc", f"objective.{bad}"))


@pytest.mark.parametrize(
    ("objective", "setting", "said"),
    [
        ("cpc", "objective.ahead=40", "41 that CPC needs — set a smaller objective.ahead$"),
        ("apc", "objective.ahead=40", "41 that APC needs — set a smaller objective.ahead$"),
        ("wav2vec2", "objective.mask.length=40", "41 that Wav2Vec2 needs — .*objective.mask.length$"),
        ("mockingjay", "objective.corruption.length=80", "41 that Reconstruct needs — .*objective.corruption.length$"),
    ],
)
def test_an_utterance_too_short_to_be_asked_is_refused_before_the_first_step(objective, setting, said):
    job = build(tiny(objective, setting))
    with pytest.raises(UserError, match=rf"^item \d+ is 0\.3\d\d s, \d+ tokens: shorter than the {said}"):
        check_lengths(job.data.split("train"), job.encoder, job.objective, job.data)
    job.data.min_seconds = 0.1  # as files on disk have; the built-in sets have no such setting
    with pytest.raises(UserError, match=r"set data.min_seconds=0\.\d\d data.on_error=skip, or a smaller objective"):
        check_lengths(job.data.split("train"), job.encoder, job.objective, job.data)
    job = build(tiny(objective))
    check_lengths(job.data.split("train"), job.encoder, job.objective, job.data)


def test_a_cut_too_short_to_be_asked_is_refused():
    job = build(tiny("cpc", "+data.cut=700"))
    with pytest.raises(UserError, match="is cut to 0.044 s, 2 tokens: .* set data.max_seconds=0.06, or a smaller"):
        check_lengths(job.data.split("train"), job.encoder, job.objective, job.data)
