"""HuBERT against torchaudio, with its random weights copied: hidden states, logits, loss and gradients."""

from types import SimpleNamespace

import copies
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from copies import assert_hidden, batch_of, hidden_of, shaken
from torchaudio.models import hubert_pretrain_model

from sslzoo.augment.masking import SpanMask
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.speech import Waveform
from sslzoo.encoders.transformer import ConvPosition, Transformer
from sslzoo.objectives.hubert import HuBERT

CONVS = [[12, 10, 5], [12, 3, 2], [12, 3, 2], [12, 2, 2]]  # a stride of 40
CLUSTERS = 7


def hubert_pair(norm: str, penalty: float = 10.0):
    """Our encoder and objective, and torchaudio's model with the same weights."""
    torch.manual_seed(0)
    large = norm == "layer"
    theirs = shaken(
        hubert_pretrain_model(
            extractor_mode=f"{norm}_norm",
            extractor_conv_layer_config=[tuple(conv) for conv in CONVS],
            extractor_conv_bias=large,
            encoder_embed_dim=16,
            encoder_projection_dropout=0.0,
            encoder_pos_conv_kernel=8,
            encoder_pos_conv_groups=4,
            encoder_num_layers=3,
            encoder_num_heads=2,
            encoder_attention_dropout=0.0,
            encoder_ff_interm_features=40,
            encoder_ff_interm_dropout=0.0,
            encoder_dropout=0.0,
            encoder_layer_norm_first=large,
            encoder_layer_drop=0.0,
            mask_prob=0.8,
            mask_selection="static",
            mask_other=0.0,
            mask_length=4,
            no_mask_overlap=False,
            mask_min_space=1,
            mask_channel_prob=0.0,
            mask_channel_selection="static",
            mask_channel_other=0.0,
            mask_channel_length=4,
            no_mask_channel_overlap=False,
            mask_channel_min_space=1,
            skip_masked=False,
            skip_nomask=True,
            num_classes=CLUSTERS,
            final_dim=10,
            feature_grad_mult=0.1,
        )
    )
    frontend = Waveform(16, layers=CONVS, norm=norm, bias=large)
    trunk = Transformer(16, 3, 2, hidden=40, norm="pre" if large else "post", position=ConvPosition(16, 8, 4))
    encoder = SequenceEncoder(frontend, trunk)
    data = SimpleNamespace(sample_rate=16000, targets=SimpleNamespace(clusters=CLUSTERS, hop=40))
    objective = HuBERT(encoder, data, SpanMask(0.8, 4), output_dim=10, feature_penalty=penalty)
    copies.hubert_pretraining(encoder, objective, theirs)
    return encoder, objective, theirs


def frames(samples: int) -> int:
    for _, kernel, stride in CONVS:
        samples = (samples - kernel) // stride + 1
    return samples


def labelled(*lengths: int):
    """A batch of noise with random labels, and the same as torchaudio takes it: standardised, with lengths."""
    g = np.random.default_rng(0)
    waves = [(0.1 * g.standard_normal(n) + 0.05).astype(np.float32) for n in lengths]
    batch = batch_of(waves)
    labels = torch.full((len(lengths), frames(max(lengths))), -100)
    for row, n in enumerate(lengths):
        labels[row, : frames(n)] = torch.from_numpy(g.integers(0, CLUSTERS, frames(n)))
    batch.targets = {"codes": labels}
    inputs = torch.zeros_like(batch.inputs)
    for row, wave in enumerate(waves):
        inputs[row, : len(wave)] = torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7))
    return batch, inputs, torch.tensor(lengths)


def masked_alike(objective, theirs, batch, lengths, monkeypatch) -> None:
    """Let torchaudio mask what we mask."""
    counts = torch.tensor([frames(n) for n in lengths.tolist()])
    mask = objective.mask(batch.row_seeds, counts, int(counts.max()))
    assert mask.any(1).all() and not mask.all()
    masker = theirs.mask_generator
    monkeypatch.setattr(
        masker, "forward", lambda x, padding: (torch.where(mask[..., None], masker.mask_embedding, x), mask)
    )


CASES = [("group", (2400, 2400, 2400)), ("layer", (2400, 2400, 2400)), ("layer", (2400, 1300, 1900))]


@pytest.mark.parametrize(("norm", "lengths"), CASES)
def test_hidden_states_and_logits(norm, lengths, monkeypatch):
    """Every layer's output and every masked frame's logits; without padding under group norm, which takes it in
    there (see test_wav2vec2_reference.py)."""
    encoder, objective, theirs = hubert_pair(norm)
    batch, inputs, counts = labelled(*lengths)
    masked_alike(objective, theirs, batch, counts, monkeypatch)
    layers = theirs.wav2vec2.encoder.transformer.layers
    norm_after = theirs.wav2vec2.encoder.transformer.layer_norm if norm == "layer" else None
    given = counts if len(set(lengths)) > 1 else None
    contextualize, seen = encoder.contextualize, []
    monkeypatch.setattr(encoder, "contextualize", lambda *a: seen.append(contextualize(*a)) or seen[-1])
    with torch.no_grad():
        labels = batch.targets["codes"].clamp(min=0)
        (expected, _, _), hidden = hidden_of(layers, norm_after, lambda: theirs.eval()(inputs, labels, given))
        _, _, asked, logits, right = objective.answer(encoder.eval(), batch)
    [ours] = seen
    assert ours.lengths.tolist() == [frames(n) for n in lengths]
    assert_hidden(ours.hidden, hidden, ours.lengths)
    assert expected.shape == (int(asked.sum()), 1 + CLUSTERS) and len(right)
    # theirs has the right cluster first, and again among all as -inf
    torch.testing.assert_close(logits.gather(1, right[:, None])[:, 0], expected[:, 0], atol=1e-5, rtol=1e-5)
    others = logits.scatter(1, right[:, None], float("-inf"))
    torch.testing.assert_close(others, expected[:, 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("norm", "lengths"), CASES)
def test_loss_and_gradients(norm, lengths, monkeypatch):
    """The authors' loss: the cross-entropy of masked frames and ten times the features' mean square, whose
    gradients reach the convolutions at a tenth."""
    padded = len(set(lengths)) > 1
    encoder, objective, theirs = hubert_pair(norm, penalty=0.0 if padded else 10.0)  # theirs takes padding in
    batch, inputs, counts = labelled(*lengths)
    masked_alike(objective, theirs, batch, counts, monkeypatch)
    encoder.train(), objective.train(), theirs.train()
    logits, _, square = theirs(inputs, batch.targets["codes"].clamp(min=0), counts if padded else None)
    expected = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
    expected = expected if padded else expected + 10 * square
    loss = objective(encoder, batch, 0)
    assert loss.count == len(logits)
    torch.testing.assert_close(loss.value, expected, atol=0, rtol=1e-5)

    loss.value.backward()
    expected.backward()
    for p in theirs.parameters():
        p.data = p.grad.clone()  # so that the copy carries gradients over
    found = [(n, p.grad.clone(), p) for m in (encoder, objective) for n, p in m.named_parameters()]
    scale = max(float(g.abs().max()) for _, g, _ in found)
    copies.hubert_pretraining(encoder, objective, theirs)
    for name, gradient, p in found:
        torch.testing.assert_close(gradient, p.detach(), atol=1e-5 * scale, rtol=1e-4, msg=name)
