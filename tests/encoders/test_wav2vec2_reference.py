"""wav2vec 2.0 against transformers, with its random weights copied: hidden states, loss and gradients."""

from types import SimpleNamespace

import copies
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from copies import CLOSE, assert_hidden, batch_of, hidden_of, shaken

from sslzoo import rng
from sslzoo.augment.masking import SpanMask
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.speech import Waveform
from sslzoo.encoders.transformer import ConvPosition, Transformer
from sslzoo.objectives.wav2vec2 import Wav2Vec2

transformers = pytest.importorskip("transformers")

CONVS = [[12, 10, 5], [12, 3, 2], [12, 3, 2], [12, 2, 2]]  # a stride of 40


def wav2vec2_pair(norm: str):
    """Our encoder and objective, and transformers' model with the same weights."""
    torch.manual_seed(0)
    stable = norm == "layer"
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=40,
        feat_extract_norm=norm,
        conv_dim=[c for c, _, _ in CONVS],
        conv_kernel=[k for _, k, _ in CONVS],
        conv_stride=[s for _, _, s in CONVS],
        conv_bias=stable,
        do_stable_layer_norm=stable,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        num_codevectors_per_group=6,
        codevector_dim=8,
        proj_codevector_dim=10,
        diversity_loss_weight=0.1,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        feat_quantizer_dropout=0.0,
        layerdrop=0.0,
        mask_feature_prob=0.0,
    )
    theirs = shaken(transformers.Wav2Vec2ForPreTraining(config))
    frontend = Waveform(16, layers=CONVS, norm=norm, bias=stable)
    trunk = Transformer(16, 3, 2, hidden=40, norm="pre" if stable else "post", position=ConvPosition(16, 8, 4))
    encoder = SequenceEncoder(frontend, trunk)
    objective = Wav2Vec2(
        encoder,
        SimpleNamespace(sample_rate=16000),
        SpanMask(0.65, 4),
        negatives=7,
        code_dim=8,
        output_dim=10,
        entries=6,
        feature_penalty=0.0,
        feature_grad=1.0,
        feature_dropout=0.0,
    )
    copies.wav2vec2_pretraining(encoder, objective, theirs)
    return encoder, objective, theirs


def waves(*lengths: int) -> list[np.ndarray]:
    g = np.random.default_rng(0)
    return [(0.1 * g.standard_normal(n) + 0.05).astype(np.float32) for n in lengths]


def standardized(items):
    """Inputs as wav2vec 2.0's own preparation makes them, and their attention mask."""
    prepare = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    made = prepare(items, sampling_rate=16000, padding=True, return_tensors="pt")
    return made.input_values, made.attention_mask


def their_hidden(model, *args, **kwargs):
    """The trunk's input and every layer's output, the last one normed where the trunk ends in a norm."""
    stable = model.config.do_stable_layer_norm
    norm = model.encoder.layer_norm if stable else None
    return hidden_of(model.encoder.layers, norm, lambda: model(*args, **kwargs))[1]


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_wav2vec2_hidden_states(norm):
    encoder, _, theirs = wav2vec2_pair(norm)
    batch = batch_of(waves(2400, 2400))
    with torch.no_grad():
        ours = encoder.eval()(batch.inputs, batch.lengths)
        expected = their_hidden(theirs.wav2vec2.eval(), standardized(waves(2400, 2400))[0])
    assert ours.lengths.tolist() == [expected[0].shape[1]] * 2 == [59] * 2
    assert_hidden(ours.hidden, expected, ours.lengths)


def test_wav2vec2_hidden_states_with_padding_and_layer_norm():
    """Under layer norm, transformers masks padding as we do."""
    encoder, _, theirs = wav2vec2_pair("layer")
    batch = batch_of(waves(2400, 700, 1311))
    inputs, mask = standardized(waves(2400, 700, 1311))
    with torch.no_grad():
        ours = encoder.eval()(batch.inputs, batch.lengths)
        expected = their_hidden(theirs.wav2vec2.eval(), inputs, attention_mask=mask)
    assert_hidden(ours.hidden, expected, ours.lengths)


def test_wav2vec2_group_norm_leaves_padding_out():
    """transformers' group norm takes padding in, so each utterance is run alone there."""
    encoder, _, theirs = wav2vec2_pair("group")
    items = waves(2400, 700, 1311)
    batch = batch_of(items)
    with torch.no_grad():
        ours = encoder.eval()(batch.inputs, batch.lengths)
        for row, item in enumerate(items):
            expected = their_hidden(theirs.wav2vec2.eval(), standardized([item])[0])
            length = ours.lengths[row : row + 1]
            assert length.item() == expected[0].shape[1]
            assert_hidden([h[row : row + 1] for h in ours.hidden], expected, length)


@pytest.mark.parametrize(("norm", "lengths"), [("group", (2400, 2400, 2400)), ("layer", (2400, 1300, 1900))])
def test_wav2vec2_loss_and_gradients(norm, lengths, monkeypatch):
    """The same masks, negatives and Gumbel noise give the same loss and the same gradient to every weight."""
    encoder, objective, theirs = wav2vec2_pair(norm)
    items = waves(*lengths)
    batch, step = batch_of(items), 1000
    encoder.train(), objective.train(), theirs.train()

    frames = encoder.features(batch.inputs, batch.lengths)[1]
    size = int(frames.max())
    mask = objective.mask(batch.row_seeds, frames, size)
    assert mask.any(1).all()
    flat = mask.flatten().nonzero()[:, 0]
    negatives = torch.zeros(mask.numel(), objective.negatives, dtype=torch.long)
    negatives[flat] = flat[objective.distractors(batch.row_seeds, mask)]
    row, column = mask.nonzero(as_tuple=True)
    noise = torch.full((mask.numel(), 2, 6), 0.5)
    noise[flat] = rng.uniform(rng.fold_in(batch.row_seeds[row], column), "gumbel", 2, 6)

    def gumbel_softmax(logits, tau, hard):
        soft = ((logits - torch.log(-torch.log(noise.view_as(logits)))) / tau).softmax(-1)
        return F.one_hot(soft.argmax(-1), 6) - soft.detach() + soft

    monkeypatch.setattr(F, "gumbel_softmax", gumbel_softmax)
    theirs.set_gumbel_temperature(objective.gumbel_temperature(step))
    inputs, attention = standardized(items)
    expected = theirs(
        inputs,
        attention_mask=attention if norm == "layer" else None,
        mask_time_indices=mask,
        sampled_negative_indices=negatives.view(*mask.shape, -1),
    )

    loss = objective(encoder, batch, step)
    assert loss.count == int(mask.sum())
    torch.testing.assert_close(loss.value, expected.loss / loss.count, **CLOSE)
    torch.testing.assert_close(loss.logs()["contrastive"], expected.contrastive_loss.detach() / loss.count, **CLOSE)
    torch.testing.assert_close(
        loss.logs()["code_perplexity"], expected.codevector_perplexity.detach(), atol=1e-4, rtol=0
    )

    loss.value.backward()
    (expected.loss / loss.count).backward()
    gradients = {id(p): p.grad.clone() for p in theirs.parameters()}
    for p in theirs.parameters():
        p.data = gradients[id(p)]  # so that the copy carries gradients over
    found = [(n, p.grad.clone(), p) for m in (encoder, objective) for n, p in m.named_parameters()]
    scale = max(float(g.abs().max()) for _, g, _ in found)
    copies.wav2vec2_pretraining(encoder, objective, theirs)
    for name, gradient, p in found:
        torch.testing.assert_close(gradient, p.detach(), atol=1e-5 * scale, rtol=1e-4, msg=name)
