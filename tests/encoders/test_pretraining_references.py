"""BERT with next sentences, RoBERTa and ALBERT against transformers, its random weights copied:
both heads and losses."""

from types import SimpleNamespace

import copies
import pytest
import torch
import torch.nn.functional as F
from copies import CLOSE, shaken
from test_bert_and_vit_reference import sentences
from test_bert_family_reference import SIZES, encoder_of

from sslzoo.augment.masking import TokenMask
from sslzoo.augment.ngram_mask import NgramMask
from sslzoo.data.base import CLS, PAD, PAIR, SEP
from sslzoo.data.sentence_rows import FullSentences, NextSentence, SentenceOrder
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.objectives.albert import ALBERT
from sslzoo.objectives.bert_nsp import BERTNextSentence
from sslzoo.objectives.roberta import RoBERTa

transformers = pytest.importorskip("transformers")

WIDE = {"hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 40}
DATA = SimpleNamespace(vocab_size=50)


def both_heads(encoder, objective, theirs, ids: str, pair: str) -> None:
    """Hold logits of both heads, the loss and some gradients to transformers' of the same corrupted pairs."""
    batch, segments = sentences()
    batch.targets[PAIR] = torch.tensor([1, 0, 1])
    inside = torch.arange(batch.inputs.shape[1]) < batch.lengths[:, None]
    corrupted, chosen = objective.corrupt(batch.inputs, batch.lengths, batch.row_seeds)
    assert chosen.any(1).all() and (corrupted != batch.inputs).any()
    answer = theirs(input_ids=corrupted, attention_mask=inside.long(), token_type_ids=segments)
    encoded = encoder.eval()(corrupted, batch.lengths)
    torch.testing.assert_close(objective.predict(encoder, encoded.last)[inside], answer[ids][inside], **CLOSE)
    torch.testing.assert_close(objective.pair_head(encoded.last, encoded.pooled), answer[pair], **CLOSE)

    labels = batch.inputs.masked_fill(~chosen, -100)
    named = F.cross_entropy(answer[ids].flatten(0, 1), labels.flatten())
    expected = named + F.cross_entropy(answer[pair], batch.targets[PAIR])
    loss = objective(encoder, batch, 0)
    assert loss.count == 3
    torch.testing.assert_close(loss.value, expected, atol=1e-5, rtol=1e-6)
    logs = loss.logs()
    assert float(logs["pair_accuracy"]) == pytest.approx(
        float((answer[pair].argmax(1) == batch.targets[PAIR]).float().mean())
    )
    right = answer[ids].argmax(-1)[chosen] == batch.inputs[chosen]
    assert float(logs["accuracy"]) == pytest.approx(float(right.float().mean()))
    for value in (loss.value, expected):
        value.backward()
    torch.testing.assert_close(
        encoder.frontend.token_embedding.weight.grad[1:],
        theirs.get_input_embeddings().weight.grad[1:],
        **CLOSE,
    )


@pytest.mark.parametrize("pool", ["first", "pooler"])
def test_bert_for_pretraining(pool):
    """The pooler is the encoder's, or the objective's where that has none."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**{**SIZES, **WIDE, "num_hidden_layers": 2})
    theirs = shaken(transformers.BertForPreTraining(config)).eval()
    trunk = Transformer(16, 2, 4, hidden=40, norm="post", eps=1e-12)
    encoder = SequenceEncoder(WordPieces(16, 50, 20, segments=2), trunk, pool=pool)
    objective = BERTNextSentence(encoder, DATA, TokenMask(0.3), NextSentence())
    copies.bert_model(encoder, theirs.bert)
    copies.bert_head(objective, theirs)
    copies.take(encoder.pooler if pool == "pooler" else objective.pair_head.pooler, theirs.bert.pooler.dense)
    copies.take(objective.pair_head.out, theirs.cls.seq_relationship)
    both_heads(encoder, objective, theirs, "prediction_logits", "seq_relationship_logits")


def test_albert_for_pretraining():
    torch.manual_seed(0)
    config = transformers.AlbertConfig(**SIZES, **WIDE, hidden_act="gelu_new", classifier_dropout_prob=0.0)
    theirs = shaken(transformers.AlbertForPreTraining(config)).eval()
    encoder = encoder_of(activation="gelu_tanh", share_layers=True)
    objective = ALBERT(encoder, DATA, NgramMask(0.3), SentenceOrder())
    copies.albert_model(encoder, theirs.albert)
    copies.take(objective.dense, theirs.predictions.dense)
    copies.take(objective.norm, theirs.predictions.LayerNorm)
    with torch.no_grad():
        objective.bias.copy_(theirs.predictions.bias)
    copies.take(objective.pair_head.pooler, theirs.albert.pooler)
    copies.take(objective.pair_head.out, theirs.sop_classifier.classifier)
    both_heads(encoder, objective, theirs, "prediction_logits", "sop_logits")


def test_roberta_for_masked_lm():
    """Its positions begin at pad_token_id + 1: the rows before are never read, and are not here."""
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        **{**SIZES, **WIDE, "max_position_embeddings": 20 + PAD + 1, "type_vocab_size": 1},
        bos_token_id=CLS,
        eos_token_id=SEP,
        layer_norm_eps=1e-5,
    )
    theirs = shaken(transformers.RobertaForMaskedLM(config)).eval()
    trunk = Transformer(16, 3, 4, hidden=40, norm="post", eps=1e-5)
    encoder = SequenceEncoder(WordPieces(16, 50, 20, segments=1), trunk, pool="first").eval()
    objective = RoBERTa(encoder, DATA, TokenMask(0.3), FullSentences())
    embeddings = theirs.roberta.embeddings
    with torch.no_grad():
        encoder.frontend.position_embedding.weight.copy_(embeddings.position_embeddings.weight[PAD + 1 :])
        objective.bias.copy_(theirs.lm_head.bias)
    copies.take(encoder.frontend.token_embedding, embeddings.word_embeddings)
    copies.take(encoder.frontend.segment_embedding, embeddings.token_type_embeddings)
    copies.take(encoder.trunk.norm, embeddings.LayerNorm)
    copies.bert_layers(encoder.trunk, theirs.roberta.encoder.layer)
    copies.take(objective.dense, theirs.lm_head.dense)
    copies.take(objective.norm, theirs.lm_head.layer_norm)

    batch, _ = sentences()  # whose separators stand for the ends of documents, too
    inside = torch.arange(batch.inputs.shape[1]) < batch.lengths[:, None]
    ids, chosen = objective.corrupt(batch.inputs, batch.lengths, batch.row_seeds)
    answer = theirs(input_ids=ids, attention_mask=inside.long(), labels=batch.inputs.masked_fill(~chosen, -100))
    found = objective.predict(encoder, encoder(ids, batch.lengths).last)
    torch.testing.assert_close(found[inside], answer.logits[inside], **CLOSE)
    torch.testing.assert_close(objective(encoder, batch, 0).value, answer.loss, **CLOSE)
