"""Heads against transformers' BERT, with its random weights copied: logits, losses and gradients."""

from dataclasses import replace
from types import SimpleNamespace

import copies
import numpy as np
import pytest
import torch
from copies import CLOSE, batch_of, shaken, take

from sslzoo.data.base import CLS, PAD, SEP, SPECIALS
from sslzoo.data.loader import IGNORE
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.tasks.answering import Answering
from sslzoo.tasks.classification import Classification
from sslzoo.tasks.regression import Regression
from sslzoo.tasks.tagging import Tagging

transformers = pytest.importorskip("transformers")


def pair(kind: str, labels: int):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=20, pad_token_id=PAD, num_labels=labels,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0,
    )  # fmt: skip
    theirs = shaken(getattr(transformers, kind)(config)).eval()
    trunk = Transformer(16, 2, 4, hidden=40, norm="post", eps=1e-12)
    encoder = SequenceEncoder(WordPieces(16, 50, 20, segments=2), trunk, pool="first")
    copies.bert_model(encoder, theirs.bert)
    return encoder.train(), theirs


def texts(same_length: bool = False):
    """Two segments, one, and a long one that the others are padded to."""
    g = np.random.default_rng(0)
    sizes = [(5, 8), (5, 8), (5, 8)] if same_length else [(4, 6), (5, 0), (9, 7)]
    items, segments = [], []
    for first, second in sizes:
        item = [CLS, *g.integers(SPECIALS, 50, first).tolist(), SEP]
        segments.append([0] * len(item) + [1] * (second + 1 if second else 0))
        items.append(torch.tensor([*item, *([*g.integers(SPECIALS, 50, second).tolist(), SEP] if second else [])]))
    batch = batch_of(items)
    width = batch.inputs.shape[1]
    # padding after the first separator is of the second segment
    given = torch.tensor([row + [1] * (width - len(row)) for row in segments])
    attention = (torch.arange(width) < batch.lengths[:, None]).long()
    return batch, {"input_ids": batch.inputs, "attention_mask": attention, "token_type_ids": given}


def data(metric: str, classes: int | None = None):
    return SimpleNamespace(
        task=SimpleNamespace(metric=metric, balanced=False), classes=classes and [str(i) for i in range(classes)]
    )


def assert_alike(encoder, objective, batch, theirs, expected) -> None:
    """The loss, and the gradient of the words' embeddings through all of the encoder."""
    loss = objective(encoder, batch, 0).value
    torch.testing.assert_close(loss, expected, **CLOSE)
    for value in (loss, expected):
        value.backward()
    ours = encoder.frontend.token_embedding.weight.grad[1:]
    torch.testing.assert_close(ours, theirs.bert.embeddings.word_embeddings.weight.grad[1:], **CLOSE)
    assert ours.abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_sequence_classification(kind):
    encoder, theirs = pair("BertForSequenceClassification", 3 if kind == "classification" else 1)
    if kind == "classification":
        objective, labels = (
            Classification(encoder, data("accuracy", 3), pooler=True, dropout=0),
            torch.tensor([2, 0, 1]),
        )
    else:
        objective, labels = Regression(encoder, data("spearman"), pooler=True, dropout=0), torch.tensor([2.5, 0.0, 4.2])
    take(objective.pooler, theirs.bert.pooler.dense)
    take(objective.head, theirs.classifier)
    batch, given = texts()
    batch = replace(batch, targets={"label": labels})
    answer = theirs(**given, labels=labels)
    torch.testing.assert_close(objective.logits(encoder, batch), answer.logits, **CLOSE)
    assert_alike(encoder, objective, batch, theirs, answer.loss)


def test_token_classification():
    encoder, theirs = pair("BertForTokenClassification", 5)
    objective = Tagging(encoder, data("accuracy", 5), dropout=0)
    take(objective.head, theirs.classifier)
    batch, given = texts()
    labels = torch.full_like(batch.inputs, IGNORE)
    for row, length in enumerate(batch.lengths.tolist()):
        labels[row, 1 : length - 1 : 2] = torch.arange(length)[1 : length - 1 : 2] % 5
    answer = theirs(**given, labels=labels)
    inside = given["attention_mask"].bool()
    batch = replace(batch, targets={"label": labels})
    torch.testing.assert_close(objective.logits(encoder, batch)[inside], answer.logits[inside], **CLOSE)
    assert_alike(encoder, objective, batch, theirs, answer.loss)


def test_question_answering():
    """Their softmax is over padding as well, so the loss is of rows of one length; the logits are of any."""
    encoder, theirs = pair("BertForQuestionAnswering", 2)
    objective = Answering(encoder, data("f1", 1))
    take(objective.head, theirs.qa_outputs)
    batch, given = texts()
    inside, answer = given["attention_mask"].bool(), theirs(**given)
    ours = objective.logits(encoder, batch)
    for number, name in enumerate(("start_logits", "end_logits")):
        torch.testing.assert_close(ours[:, number][inside], getattr(answer, name)[inside], **CLOSE)
        assert bool((ours[:, number][~inside] == -torch.inf).all())
    batch, given = texts(same_length=True)
    start, end = torch.tensor([7, 0, 9]), torch.tensor([9, 0, 9])
    batch = replace(batch, targets={"start": start, "end": end})
    assert_alike(encoder, objective, batch, theirs, theirs(**given, start_positions=start, end_positions=end).loss)
