"""wav2vec 2.0's distractors, and its loss against a slow loop in float64."""

import math

import pytest
import torch
from conftest import compose

from sslzoo import rng
from sslzoo.augment.masking import SpanMask
from sslzoo.build import build
from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError

PARTS = [
    "objective=wav2vec2",
    "data=tiny_speech",
    "encoder=tiny_wave",
    "objective.mask.length=4",
    "objective.feature_dropout=0",
]
SMALL = ["objective.negatives=6", "objective.entries=5", "objective.code_dim=8", "objective.output_dim=12"]


def job(*overrides: str):
    made = build(compose(*PARTS, *SMALL, *overrides))
    return made.encoder, made.objective


def keys_of(n: int) -> torch.Tensor:
    return torch.tensor([rng.derive_seed(0, row) for row in range(n)])


def batch() -> Batch:
    lengths = torch.tensor([9000, 6000, 7500])
    waves = torch.randn(3, 9000, generator=torch.Generator().manual_seed(0))
    inside = torch.arange(9000) < lengths[:, None]
    return Batch(waves * inside, lengths, keys_of(3), torch.arange(3))


def masks(n: int = 300, size: int = 40) -> torch.Tensor:
    """Spans in rows of all lengths, some with none."""
    return SpanMask(0.5, 3)(keys_of(n), torch.arange(n) % size, size)


def test_distractors_are_other_masked_frames_of_the_utterance():
    _, objective = job()
    mask = masks()
    distractors = objective.distractors(keys_of(300), mask)
    row, _ = mask.nonzero(as_tuple=True)
    assert distractors.shape == (len(row), 6)
    assert torch.equal(row[distractors], row[:, None].expand(-1, 6)), "of the same utterance"
    assert not (distractors == torch.arange(len(row))[:, None]).any(), "never the positive's own place"


def test_distractors_are_uniform():
    _, objective = job("objective.negatives=500")
    mask = torch.zeros(40, 9, dtype=torch.bool)
    mask[:, [1, 2, 5, 6, 8]] = True
    distractors = objective.distractors(keys_of(40), mask)
    places = distractors.view(40, 5, 500) - 5 * torch.arange(40)[:, None, None]
    for own in range(5):
        share = places[:, own].flatten().bincount(minlength=5) / 20_000
        assert share[own] == 0
        others = [float(s) for other, s in enumerate(share) if other != own]
        assert others == pytest.approx([0.25] * 4, abs=0.015)


def test_distractors_do_not_depend_on_the_batch():
    _, objective = job()
    seeds, mask = keys_of(300), masks()
    before = mask.sum(1).cumsum(0) - mask.sum(1)
    whole = objective.distractors(seeds, mask)
    for row in (5, 77, 299):
        alone = objective.distractors(seeds[row : row + 1], mask[row : row + 1])
        assert torch.equal(alone + before[row], whole[before[row] : before[row] + len(alone)])


def test_a_lone_masked_frame_has_no_distractors():
    """Neither a neighbour's frame nor one that is not there: it counts nothing."""
    _, objective = job()
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[0, 4] = mask[2, 7] = True
    mask[1, 2:6] = True
    distractors = objective.distractors(keys_of(3), mask)
    assert distractors[0].tolist() == [0] * 6 and distractors[-1].tolist() == [5] * 6
    context, codes = torch.randn(6, 12), torch.randn(6, 12)
    losses = -objective.contrast(context, codes, distractors).log_softmax(1)[:, 0]
    assert losses[0] == losses[-1] == 0 and (losses[1:-1] > 0).all()


def test_a_distractor_of_the_right_code_is_left_out():
    _, objective = job()
    context, codes = torch.randn(4, 12), torch.randn(4, 12)
    codes[2] = codes[0]
    logits = objective.contrast(context, codes, torch.tensor([[1, 2], [0, 2], [0, 3], [0, 1]]))
    assert logits.shape == (4, 3)
    assert torch.isinf(logits).nonzero().tolist() == [[0, 2], [2, 1]]
    cosine = torch.nn.functional.cosine_similarity(context[3], codes[0], dim=0)
    torch.testing.assert_close(logits[3, 1], cosine / objective.temperature)


@pytest.mark.parametrize("step", [0, 400_000])
@torch.no_grad()
def test_the_loss_is_the_papers(step):
    """Equations 2 to 4, frame by frame and candidate by candidate, in float64."""
    encoder, objective = job("objective.temperature=0.3", "objective.diversity=0.4", "objective.feature_penalty=2.5")
    objective.train(), encoder.train()
    given = batch()
    tau = max(2.0 * 0.999995**step, 0.5)
    assert objective.gumbel_temperature(step) == pytest.approx(tau)

    features, frames = encoder.features(given.inputs, given.lengths)
    mask = objective.mask(given.row_seeds, frames, features.shape[1])
    tokens = encoder.project(features, frames)[0].clone()
    tokens[mask] = objective.mask_token
    context = encoder.contextualize(tokens, frames).last
    distractors = objective.distractors(given.row_seeds, mask).tolist()
    places = [tuple(p) for p in mask.nonzero().tolist()]

    def double(linear, x):
        return x.double() @ linear.weight.double().T + linear.bias.double()

    codes, use = [], torch.zeros(2, 5, dtype=torch.float64)
    for row, frame in places:
        logits = double(objective.quantizer.logits, encoder.normalize(features)[row, frame]).view(2, 5)
        key = rng.fold_in(given.row_seeds[row : row + 1], torch.tensor([frame]))
        u = rng.uniform(key, "gumbel", 2, 5)[0].double()
        chosen = ((logits - torch.log(-torch.log(u))) / tau).argmax(1)
        use += logits.softmax(1) / len(places)
        code = torch.cat([objective.quantizer.codes[group, chosen[group]] for group in range(2)])
        codes.append(double(objective.project_code, code))

    def sim(a, b):
        return float(a @ b / a.norm() / b.norm())

    total = 0.0
    for number, (row, frame) in enumerate(places):
        asked = double(objective.project_context, context[row, frame])
        right = codes[number]
        wrong = [codes[d] for d in distractors[number] if not torch.equal(codes[d], right)]
        scores = [math.exp(sim(asked, q) / 0.3) for q in [right, *wrong]]
        total -= math.log(scores[0] / sum(scores))
    contrastive = total / len(places)
    entropy = -(use * use.log()).sum(1)
    diversity = (10 - float(entropy.exp().sum())) / 10
    squares = [float(z.square().mean()) for row in range(3) for z in features[row, : frames[row]].double()]
    expected = contrastive + 0.4 * diversity

    loss = objective(encoder, given, step)
    assert loss.count == len(places)
    assert float(loss.logs()["contrastive"]) == pytest.approx(contrastive, abs=1e-5)
    assert float(loss.value) == pytest.approx(expected, abs=1e-5), "no penalty where nothing learns"
    with torch.enable_grad():
        trained = objective(encoder, given, step)
    assert float(trained.value) == pytest.approx(expected + 2.5 * sum(squares) / len(squares), abs=1e-5)
    assert float(loss.logs()["masked"]) == pytest.approx(len(places) / int(frames.sum()))
    assert 0 <= float(loss.logs()["accuracy"]) <= 1 and loss.logs()["chance"] == 1 / 7


def test_features_learn_at_a_tenth_of_the_rate():
    """Section 4.2: gradients to the convolutions are scaled, others are not."""

    def gradients(share):
        encoder, objective = job(f"objective.feature_grad={share}", "objective.feature_penalty=0")
        objective(encoder, batch(), 0).value.backward()
        return (
            encoder.frontend.layers[0].conv.weight.grad,
            encoder.trunk.blocks[0].up.weight.grad,
            objective.quantizer.codes.grad,
        )

    whole, tenth = gradients(1.0), gradients(0.1)
    torch.testing.assert_close(tenth[0], 0.1 * whole[0], atol=1e-7, rtol=1e-3)
    for a, b in zip(tenth[1:], whole[1:], strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-3)


@torch.no_grad()
def test_evaluation_takes_the_likeliest_codes():
    """Without Gumbel noise, twice the same; in training, the noise is each key's own."""
    encoder, objective = job()
    encoder.eval(), objective.eval()
    given = batch()
    assert objective(encoder, given, 0).value == objective(encoder, given, 10**6).value
    objective.train()
    other = Batch(given.inputs, given.lengths, given.row_seeds + 1, given.index)
    assert objective(encoder, given, 0).value == objective(encoder, given, 0).value
    assert objective(encoder, given, 0).value != objective(encoder, other, 0).value


@pytest.mark.parametrize("bad", ["negatives=0", "temperature=0", "temperature=-1.0"])
def test_refuses_what_cannot_be_contrasted(bad):
    with pytest.raises(ConfigError, match=rf"objective.{bad.split('=')[0]} must be (at least 1|above 0), got"):
        job(f"objective.{bad}")
