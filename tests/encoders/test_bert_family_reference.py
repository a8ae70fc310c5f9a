"""ELECTRA and ALBERT against transformers, with its random weights copied: hidden states, logits and loss."""

from types import SimpleNamespace

import copies
import pytest
import torch
import torch.nn.functional as F
from copies import CLOSE, assert_hidden, hidden_of, shaken
from test_bert_and_vit_reference import sentences

from sslzoo.augment.masking import TokenMask
from sslzoo.data.base import PAD
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.objectives.electra import ELECTRA

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 50,
    "embedding_size": 12,
    "num_hidden_layers": 3,
    "max_position_embeddings": 20,
    "pad_token_id": PAD,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def encoder_of(**trunk) -> SequenceEncoder:
    """A factorised encoder with random weights, for others to be copied into."""
    frontend = WordPieces(16, 50, 20, segments=2, embedding_dim=12)
    trunk = Transformer(16, 3, 4, hidden=40, norm="post", eps=1e-12, input_norm=False, **trunk)
    return SequenceEncoder(frontend, trunk, pool="first")


def test_electra():
    torch.manual_seed(0)
    config = transformers.ElectraConfig(hidden_size=16, num_attention_heads=4, intermediate_size=40, **SIZES)
    theirs = shaken(transformers.ElectraForPreTraining(config)).eval()
    config = transformers.ElectraConfig(hidden_size=8, num_attention_heads=2, intermediate_size=32, **SIZES)
    generator = shaken(transformers.ElectraForMaskedLM(config)).eval()
    generator.electra.embeddings = theirs.electra.embeddings
    generator.generator_lm_head.weight = theirs.electra.embeddings.word_embeddings.weight
    encoder = encoder_of().eval()
    trunk = Transformer(8, 3, 2, norm="post", eps=1e-12, input_norm=False)
    objective = ELECTRA(encoder, SimpleNamespace(vocab_size=50), trunk, TokenMask(0.3)).eval()
    copies.electra(encoder, objective, generator, theirs)

    batch, segments = sentences()
    inside = torch.arange(batch.inputs.shape[1]) < batch.lengths[:, None]
    how = {"attention_mask": inside.long(), "token_type_ids": segments}
    ids, chosen = objective.masked(batch.inputs, batch.lengths, batch.row_seeds)
    _, guesses, corrupted, replaced, logits = objective.play(encoder, batch)
    expected = generator(input_ids=ids, **how).logits
    torch.testing.assert_close(guesses, expected[chosen], **CLOSE)
    answer, hidden = hidden_of(theirs.electra.encoder.layer, None, lambda: theirs(input_ids=corrupted, **how))
    assert_hidden([h.detach() for h in encoder(corrupted, batch.lengths).hidden], hidden, batch.lengths)
    torch.testing.assert_close(logits[inside], answer.logits[inside], **CLOSE)
    assert replaced.any()

    named = F.cross_entropy(expected[chosen], batch.inputs[chosen])
    told = theirs(input_ids=corrupted, **how, labels=replaced.long()).loss
    torch.testing.assert_close(objective(encoder, batch, 0).value, named + 50 * told, atol=1e-5, rtol=1e-6)


def test_albert_hidden_states():
    torch.manual_seed(0)
    config = transformers.AlbertConfig(hidden_size=16, num_attention_heads=4, intermediate_size=40, **SIZES)
    theirs = shaken(transformers.AlbertModel(config, add_pooling_layer=False)).eval()
    encoder = encoder_of(activation="gelu_tanh", share_layers=True).eval()
    copies.albert_model(encoder, theirs)
    batch, segments = sentences()
    inside = torch.arange(batch.inputs.shape[1]) < batch.lengths[:, None]
    answer = theirs(
        batch.inputs, attention_mask=inside.long(), token_type_ids=segments, output_hidden_states=True
    ).hidden_states
    assert len(answer) == 4
    assert_hidden([h.detach() for h in encoder(batch.inputs, batch.lengths).hidden], answer, batch.lengths)


def test_shared_layers_are_one_and_get_the_sum_of_their_gradients():
    torch.manual_seed(0)
    shared, apart = Transformer(16, 3, 4, share_layers=True), Transformer(16, 3, 4)
    for block in apart.blocks:
        block.load_state_dict(shared.blocks[0].state_dict())
    x, lengths = torch.randn(2, 5, 16), torch.tensor([5, 4])
    for trunk in (shared, apart):
        trunk(x, lengths)[-1].square().sum().backward()
    assert len(shared.blocks) == 1
    for name, weight in shared.blocks[0].named_parameters():
        total = sum(dict(block.named_parameters())[name].grad for block in apart.blocks)
        torch.testing.assert_close(weight.grad, total, atol=1e-4, rtol=1e-5)
