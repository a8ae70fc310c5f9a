"""BERT's pooler as an encoder's pooling, against transformers."""

import copies
import torch
from copies import CLOSE
from test_bert_and_vit_reference import sentences, transformers

from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}


def pooling_encoder() -> SequenceEncoder:
    torch.manual_seed(0)
    return SequenceEncoder(WordPieces(16, 50, 20), Transformer(16, 2, 4, hidden=40, norm="post", eps=1e-12), "pooler")


def test_pooled_is_their_pooler_output():
    torch.manual_seed(1)
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=20, **SIZES)
    theirs = copies.shaken(transformers.BertModel(config)).eval()
    encoder = pooling_encoder().eval()
    copies.bert_model(encoder, theirs)
    copies.take(encoder.pooler, theirs.pooler.dense)
    batch, segments = sentences()
    inside = (torch.arange(batch.inputs.shape[1]) < batch.lengths[:, None]).long()
    expected = theirs(batch.inputs, attention_mask=inside, token_type_ids=segments).pooler_output
    torch.testing.assert_close(encoder(batch.inputs, batch.lengths).pooled, expected, **CLOSE)


def test_its_weights_have_a_gradient_of_zero_where_a_loss_reads_tokens_alone():
    """Ranks wait for the gradient of every weight that learns."""
    encoder = pooling_encoder().train()
    batch, _ = sentences()
    encoder(batch.inputs, batch.lengths).last.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert not any(p.grad.any() for p in encoder.pooler.parameters())
