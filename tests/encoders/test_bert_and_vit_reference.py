"""BERT and ViT against transformers, with its random weights copied: hidden states, logits and loss."""

from types import SimpleNamespace

import copies
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from copies import CLOSE, assert_hidden, batch_of, hidden_of, shaken

from sslzoo.augment.masking import TokenMask
from sslzoo.data.base import CLS, PAD, SEP, SPECIALS, Batch
from sslzoo.encoders.image import Patches
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.nn.images import to_float
from sslzoo.objectives.bert import BERT

transformers = pytest.importorskip("transformers")


def bert_pair():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=20,
        pad_token_id=PAD,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    theirs = shaken(transformers.BertForPreTraining(config)).eval()
    trunk = Transformer(16, 3, 4, hidden=40, norm="post", eps=1e-12)
    encoder = SequenceEncoder(WordPieces(16, 50, 20, segments=2), trunk, pool="first")
    objective = BERT(encoder, SimpleNamespace(vocab_size=50), TokenMask(0.3))
    copies.bert_model(encoder, theirs.bert)
    copies.bert_head(objective, theirs)
    return encoder, objective, theirs


def sentences() -> tuple[Batch, torch.Tensor]:
    """Two segments, one segment, and a long one that the others are padded to; and the segments."""
    g = np.random.default_rng(0)

    def words(n):
        return g.integers(SPECIALS, 50, n).tolist()

    texts = [
        [CLS, *words(4), SEP, *words(6), SEP],
        [CLS, *words(5), SEP],
        [CLS, *words(9), SEP, *words(7), SEP],
    ]
    batch = batch_of([torch.tensor(t) for t in texts])
    segments = torch.zeros_like(batch.inputs)
    segments[0, 6:], segments[1, 7:], segments[2, 11:] = 1, 1, 1
    return batch, segments


def test_bert_hidden_states_logits_and_loss():
    encoder, objective, theirs = bert_pair()
    batch, segments = sentences()
    attention = (torch.arange(batch.inputs.shape[1]) < batch.lengths[:, None]).long()
    ids, chosen = objective.corrupt(batch.inputs, batch.lengths, batch.row_seeds)
    assert (ids != batch.inputs).any()

    answer, hidden = hidden_of(
        theirs.bert.encoder.layer,
        None,
        lambda: theirs(input_ids=ids, attention_mask=attention, token_type_ids=segments),
    )
    encoded = encoder.eval()(ids, batch.lengths)
    assert_hidden([h.detach() for h in encoded.hidden], hidden, batch.lengths)
    torch.testing.assert_close(encoded.pooled, encoded.last[:, 0])

    logits = objective.predict(encoder, encoded.last)
    inside = attention.bool()
    torch.testing.assert_close(logits[inside], answer.prediction_logits[inside], **CLOSE)

    expected = F.cross_entropy(
        answer.prediction_logits.flatten(0, 1), batch.inputs.masked_fill(~chosen, -100).flatten()
    )
    loss = objective(encoder, batch, 0)
    assert loss.count == int(chosen.sum())
    torch.testing.assert_close(loss.value, expected, **CLOSE)
    for value in (loss.value, expected):
        value.backward()
    # tied: the vocabulary's table gets gradients from both its ends
    torch.testing.assert_close(
        encoder.frontend.token_embedding.weight.grad[1:],
        theirs.bert.embeddings.word_embeddings.weight.grad[1:],
        **CLOSE,
    )


def test_vit_hidden_states():
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=40,
        image_size=16,
        patch_size=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-6,
    )
    theirs = shaken(transformers.ViTModel(config, add_pooling_layer=False)).eval()
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    frontend = Patches(16, 16, 4, 3, mean, std, position="learned")
    encoder = SequenceEncoder(frontend, Transformer(16, 3, 4, hidden=40, norm="pre", eps=1e-6), pool="first").eval()
    copies.vit_model(encoder, theirs)

    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    prepared = (to_float(images) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        ours = encoder(images, torch.ones(3, dtype=torch.long))
        _, hidden = hidden_of(theirs.layers, theirs.layernorm, lambda: theirs(prepared))
    assert ours.lengths.tolist() == [17] * 3
    assert_hidden(ours.hidden, hidden, ours.lengths)
    torch.testing.assert_close(ours.pooled, hidden[-1][:, 0], **CLOSE)
