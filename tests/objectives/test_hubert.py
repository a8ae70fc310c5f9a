"""HuBERT's loss against a slow loop in float64, and that labels meet the frames that they are of."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from test_contracts import batch_of, gradients, still, stopped_is_never_stopped, train

from sslzoo.build import build, load_encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.label.make import label
from sslzoo.label.sources import Layer


def waves(*overrides: str):
    """A job whose features are learned."""
    return still(build(tiny("hubert", "encoder=tiny_wave", "objective.mask.length=4", *overrides)))


@pytest.mark.parametrize("step", [0, 1000])
def test_the_loss_is_the_papers(step):
    """Equations 1 and 3 and the authors' penalty, frame by frame and cluster by cluster."""
    job = waves("objective.temperature=0.3", "objective.feature_penalty=2.5")
    encoder, objective, batch = job.encoder, job.objective, batch_of(job, 0)
    with torch.no_grad():
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        mask = objective.mask(batch.row_seeds, lengths, features.shape[1])
        tokens, _ = encoder.project(features, lengths)
        tokens = tokens.clone()
        tokens[mask] = objective.mask_token
        hidden = encoder.contextualize(tokens, lengths).last
    weight, bias = objective.project.weight.double(), objective.project.bias.double()
    embeddings, codes = objective.embeddings.double(), batch.targets["codes"]
    total, right, labels = 0.0, 0, []
    for row, frame in mask.nonzero().tolist():
        if frame >= codes.shape[1] or codes[row, frame] == -100:
            continue
        asked = weight @ hidden[row, frame].double() + bias
        scores = [float(asked @ e / asked.norm() / e.norm()) / 0.3 for e in embeddings]
        label = int(codes[row, frame])
        total -= scores[label] - math.log(sum(math.exp(s) for s in scores))
        right += scores[label] == max(scores)
        labels.append(label)
    squares = [float(f.square().mean()) for r in range(len(batch)) for f in features[r, : lengths[r]].double()]

    with torch.no_grad():
        loss = objective(encoder, batch, step)
    assert loss.count == len(labels) > 20
    assert float(loss.value) == pytest.approx(total / len(labels), abs=1e-5), "no penalty where nothing learns"
    trained = objective(encoder, batch, step)
    assert float(trained.value) == pytest.approx(total / len(labels) + 2.5 * sum(squares) / len(squares), abs=1e-5)
    share = torch.bincount(torch.tensor(labels), minlength=8).double() / len(labels)
    assert float(loss.logs()["accuracy"]) == pytest.approx(right / len(labels))
    assert float(loss.logs()["chance"]) == pytest.approx(float(share.max()))
    used = share[share > 0]
    assert float(loss.logs()["label_perplexity"]) == pytest.approx(
        math.exp(-float((used * used.log()).sum())), rel=1e-4
    )
    assert loss.logs()["uniform_loss"] == math.log(8)
    assert float(loss.logs()["masked"]) == pytest.approx(len(labels) / int(lengths.sum()))


def test_features_that_are_given_have_no_penalty():
    job = still(build(tiny("hubert")))
    batch = batch_of(job, 0)
    penalised = job.objective(job.encoder, batch, 0).value
    job.objective.feature_penalty = 0.0
    assert penalised == job.objective(job.encoder, batch, 0).value


def test_features_learn_at_a_tenth_of_the_rate():
    def found(share):
        job = waves(f"objective.feature_grad={share}", "objective.feature_penalty=0")
        _, grads = gradients(job, batch_of(job, 0))
        return [grads[f"encoder.{n}"] for n in ("frontend.layers.0.conv.weight", "trunk.blocks.0.up.weight")]

    whole, tenth = found(1.0), found(0.1)
    torch.testing.assert_close(tenth[0], 0.1 * whole[0], atol=1e-7, rtol=1e-3)
    torch.testing.assert_close(tenth[1], whole[1], atol=1e-7, rtol=1e-3)


def test_masked_frames_tell_nothing_of_themselves(monkeypatch):
    job = still(build(tiny("hubert")))
    batch = batch_of(job, 0)
    features, lengths = job.encoder.features(batch.inputs, batch.lengths)
    mask = job.objective.mask(batch.row_seeds, lengths, features.shape[1])
    *_, logits, _ = job.objective.answer(job.encoder, batch)
    other = torch.where(mask[..., None], features + 7, features)
    monkeypatch.setattr(job.encoder, "features", lambda *given: (other, lengths))
    *_, again, _ = job.objective.answer(job.encoder, batch)
    assert torch.equal(logits, again)


def test_only_masked_frames_count():
    """Other labels of frames that are seen change nothing; of masked ones, they do."""
    job = still(build(tiny("hubert")))
    batch = batch_of(job, 0)
    _, _, asked, *_ = job.objective.answer(job.encoder, batch)
    codes = batch.targets["codes"]
    size = min(codes.shape[1], asked.shape[1])
    inside = codes[:, :size] != -100

    def loss(where):
        moved = codes.clone()
        moved[:, :size] = torch.where(where & inside, (codes[:, :size] + 1) % 8, codes[:, :size])
        return job.objective(job.encoder, replace(batch, targets={"codes": moved}), 0).value

    assert loss(~asked[:, :size]) == loss(torch.zeros_like(inside)) != loss(asked[:, :size])


@pytest.mark.parametrize("apart", [-1, 1])
def test_one_label_less_or_more_is_cropped(apart):
    """Of one row, and of the longest."""
    job = still(build(tiny("hubert")))
    batch = batch_of(job, 0)
    _, lengths, *_ = job.objective.answer(job.encoder, batch)
    codes = torch.full((len(batch), int(lengths.max()) + 1), -100)
    for row, n in enumerate(lengths.tolist()):
        codes[row, : n + apart] = 3
    _, _, asked, logits, labels = job.objective.answer(job.encoder, replace(batch, targets={"codes": codes}))
    mask = job.objective.mask(batch.row_seeds, lengths, asked.shape[1])
    if apart < 0:
        last = F.one_hot(lengths - 1, asked.shape[1]).bool()
        assert (mask & last).any(), "a last frame is masked, and has no label"
        mask = mask & ~last
    assert torch.equal(asked, mask) and (labels == 3).all() and len(logits) == int(mask.sum())


@pytest.mark.parametrize("apart", [-2, 2])
def test_more_than_one_apart_is_refused_naming_the_item(apart):
    job = still(build(tiny("hubert")))
    batch = batch_of(job, 0)
    _, lengths, *_ = job.objective.answer(job.encoder, batch)
    codes = torch.full((len(batch), int(lengths.max()) + 2), -100)
    for row, n in enumerate(lengths.tolist()):
        codes[row, : n + (apart if row == 2 else 0)] = 3
    with pytest.raises(UserError, match=f"targets of item {int(batch.index[2])} are of another length") as caught:
        job.objective(job.encoder, replace(batch, targets={"codes": codes}), 0)
    assert f"{int(lengths[2]) + apart} labels for {int(lengths[2])} frames" in str(caught.value)


def test_a_batch_without_labels_to_name_has_no_loss_but_a_gradient():
    job = still(build(tiny("hubert")))
    batch = batch_of(job, 0)
    job.objective.mask = lambda seeds, lengths, size: torch.zeros(len(seeds), size, dtype=torch.bool)
    loss = job.objective(job.encoder, batch, 0)
    assert loss.count == 0 and float(loss.value) == 0
    loss.value.backward()
    assert all(torch.isfinite(p.grad).all() for p in job.encoder.parameters() if p.grad is not None)


def test_targets_of_another_rate_are_refused_before_any_data(monkeypatch):
    with pytest.raises(ConfigError) as caught:
        build(tiny("hubert", "encoder.frontend.stack=4"))
    said = str(caught.value)
    assert "have a label every 20 ms, and the encoder a frame every 40 ms" in said
    assert "`sslzoo label source=mfcc hop_ms=40`, or choose another encoder" in said and "\n" not in said


@pytest.mark.parametrize("bad", ["output_dim=0", "temperature=0", "temperature=-1.0"])
def test_bad_values_are_refused(bad):
    with pytest.raises(ConfigError, match=rf"objective.{bad.split('=')[0]} must be (at least 1|above 0), got"):
        build(tiny("hubert", f"objective.{bad}"))


def test_utterances_that_no_span_fits_in_are_refused(tmp_path):
    with pytest.raises(UserError, match="shorter than the 21 that HuBERT needs"):
        train(tiny("hubert", "objective.mask.length=20"), tmp_path / "run")


def test_a_second_iteration_stopped_is_never_stopped(tmp_path):
    """On labels of a middle layer of a first run."""
    first = train(tiny("hubert", "trainer.max_steps=3"), tmp_path / "first")
    encoder, data = load_encoder(first)
    said = label(Layer(encoder, 1), data, tmp_path / "labels", clusters=11)
    assert said["used"] == 11
    config = tiny("hubert", f"targets={tmp_path / 'labels'}", "trainer.max_steps=8", "trainer.save_every=3")
    middle = stopped_is_never_stopped(config, [5], tmp_path)
    assert len(middle["objective.embeddings"]) == 11, "it names the new clusters"


def test_it_shows_where_the_right_cluster_came():
    job = still(build(tiny("hubert")))
    batch = batch_of(job, 0)
    shown = job.objective.visualize(job.encoder, batch, 0)
    _, lengths, asked, logits, labels = job.objective.answer(job.encoder, batch)
    assert shown["kind"] == "masked_frames" and shown["candidates"] == 8
    assert torch.equal(shown["waveform"], batch.inputs[0, : batch.lengths[0]])
    assert torch.equal(shown["mask"], asked[0, : int(lengths[0])])
    assert int(shown["mask"].sum()) and ((shown["rank"] == 0) == (logits.argmax(1) == labels)).all()
