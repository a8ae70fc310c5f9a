"""GPT-2 against transformers, with its random weights copied: hidden states, logits, loss, its start,
what it writes."""

from types import SimpleNamespace

import copies
import pytest
import torch
from copies import CLOSE, assert_hidden, batch_of, shaken
from test_every_encoder import config

from sslzoo.build import make
from sslzoo.data.base import PAD
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.nn.masked import valid_mask
from sslzoo.objectives.gpt import GPT, generate, logits

transformers = pytest.importorskip("transformers")
DROP = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def pair():
    torch.manual_seed(0)
    size = {"vocab_size": 50, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_inner": 40, "n_positions": 20}
    theirs = shaken(
        transformers.GPT2LMHeadModel(transformers.GPT2Config(**size, **DROP, bos_token_id=1, eos_token_id=None))
    ).eval()
    trunk = Transformer(16, 3, 4, hidden=40, norm="pre", activation="gelu_tanh", causal=True, scale_residuals=True)
    encoder = SequenceEncoder(WordPieces(16, 50, 20, segments=0), trunk).eval()
    copies.gpt2_model(encoder, theirs.transformer)
    return encoder, GPT(encoder, SimpleNamespace(vocab_size=50)), theirs


@pytest.mark.parametrize("sizes", [(20, 20), (12, 2, 20)], ids=["full", "padded"])
def test_hidden_states_logits_and_loss(sizes):
    encoder, objective, theirs = pair()
    g = torch.Generator().manual_seed(1)
    batch = batch_of([torch.randint(1, 50, (n,), generator=g) for n in sizes])
    there = valid_mask(batch.lengths, 20)
    assert (batch.inputs[~there] == PAD).all()
    answer = theirs(
        batch.inputs,
        attention_mask=there.long(),
        labels=batch.inputs.masked_fill(~there, -100),
        output_hidden_states=True,
    )
    encoded = encoder(batch.inputs, batch.lengths)
    assert_hidden(encoded.hidden, answer.hidden_states, batch.lengths)
    torch.testing.assert_close(logits(encoder, encoded.last)[there], answer.logits[there], **CLOSE)
    loss = objective(encoder, batch, 0)
    assert loss.count == sum(sizes) - len(sizes)
    torch.testing.assert_close(loss.value, answer.loss, **CLOSE)
    loss.value.backward()
    answer.loss.backward()
    # tied: the vocabulary's table gets gradients from both its ends
    torch.testing.assert_close(
        encoder.frontend.token_embedding.weight.grad, theirs.transformer.wte.weight.grad, **CLOSE
    )
    torch.testing.assert_close(
        encoder.frontend.position_embedding.weight.grad, theirs.transformer.wpe.weight.grad, **CLOSE
    )


def test_the_best_continuation_is_theirs():
    encoder, _, theirs = pair()
    with torch.no_grad():
        theirs.transformer.wpe.weight.mul_(10)  # so that what is best changes from place to place
    copies.gpt2_model(encoder, theirs.transformer)
    ids = torch.randint(0, 50, (3, 6), generator=torch.Generator().manual_seed(2))
    ours = torch.stack(generate(encoder, ids, 14, temperature=0))
    expected = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=14, pad_token_id=0
    )
    assert torch.equal(ours, expected)
    assert len(set(ours[:, 6:].flatten().tolist())) > 5, "not one token again and again"


def test_it_starts_as_theirs_does():
    """The standard deviation of every kind of weight; the residual projections' is 0.02 / sqrt(2 layers)."""
    node = config("gpt_small")
    torch.manual_seed(0)
    ours = make(node)
    dim, depth = node["trunk"]["dim"], node["trunk"]["depth"]
    size = {"vocab_size": 60, "n_embd": dim, "n_layer": depth, "n_head": 4, "n_positions": 24}
    theirs = transformers.GPT2Model(transformers.GPT2Config(**size))
    like = SequenceEncoder(WordPieces(dim, 60, 24, segments=0), Transformer(dim, depth, 4, norm="pre", causal=True))
    copies.gpt2_model(like, theirs)
    for (name, a), (other, b) in zip(ours.named_parameters(), like.named_parameters(), strict=True):
        assert name == other and a.shape == b.shape
        if a.ndim == 1:
            assert torch.equal(a, b), name
            continue
        expected = 0.02 / (2 * depth) ** 0.5 if name.endswith(("attention.out.weight", "down.weight")) else 0.02
        # of n normal draws the deviation is known to 1 / sqrt(2 n)
        close = pytest.approx(expected, rel=5 / (2 * a.numel()) ** 0.5)
        assert float(a.std()) == close and float(b.std()) == close, name
        assert abs(float(a.mean())) < 5 * expected / a.numel() ** 0.5, name
