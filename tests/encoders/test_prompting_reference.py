"""Scores of words at a mask: against transformers with its random weights copied, and against slow loops."""

import math
from types import SimpleNamespace

import copies
import numpy as np
import pytest
import torch
from copies import CLOSE, batch_of, shaken

from sslzoo.data.base import CLS, MASK, SEP, SPECIALS
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError
from sslzoo.objectives.bert import BERT
from sslzoo.objectives.gpt import GPT
from sslzoo.prompts.language_model import LanguageModel
from sslzoo.prompts.objectives import PromptClassification, PromptRegression
from sslzoo.prompts.scoring import chain_scores, confident_scores, fewer_masks, margin_loss, parallel_scores
from sslzoo.prompts.verbalizer import Verbalizer

transformers = pytest.importorskip("transformers")
ONE = [[(7,)], [(9,), (11,)], [(30,)]]  # tokens of the words of three labels
SEVERAL = [[(7,)], [(9, 12), (11,)], [(30, 31, 32)]]


def bert(eps: float = 1e-12):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=20, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    theirs = shaken(transformers.BertForMaskedLM(config)).eval()
    trunk = Transformer(16, 2, 4, hidden=40, norm="post", eps=eps)
    encoder = SequenceEncoder(WordPieces(16, 50, 20, segments=2), trunk)
    copies.bert_model(encoder, theirs.bert)
    objective = BERT(encoder, SimpleNamespace(vocab_size=50), mask=lambda seeds, allowed: None)
    copies.bert_head(objective, theirs)
    return encoder, LanguageModel(objective), theirs


def gpt():
    torch.manual_seed(0)
    size = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 40, "n_positions": 20}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    theirs = shaken(transformers.GPT2LMHeadModel(transformers.GPT2Config(**size, **drop))).eval()
    trunk = Transformer(16, 2, 4, hidden=40, norm="pre", activation="gelu_tanh", causal=True, scale_residuals=True)
    encoder = SequenceEncoder(WordPieces(16, 50, 20, segments=0), trunk)
    copies.gpt2_model(encoder, theirs.transformer)
    return encoder, LanguageModel(GPT(encoder, SimpleNamespace(vocab_size=50))), theirs


def asked(kind, encoder, model, tokens, labels=None, ends: bool = False, scores=None):
    """An objective of words with these tokens, as if a tokenizer and a template had made them."""
    masks = max(len(ids) for several in tokens for ids in several)
    words = [[str(ids) for ids in several] for several in tokens]
    prompt = SimpleNamespace(
        template="…", labels=labels, verbalizer=lambda classes, _: Verbalizer(classes, words, tokens)
    )
    tokenizer = SimpleNamespace(masks=masks, template=SimpleNamespace(ends_with_mask=ends))
    data = SimpleNamespace(
        tokenizer=tokenizer, task=SimpleNamespace(metric="accuracy"), classes=list("abc"),
        data=SimpleNamespace(scores=scores),
    )  # fmt: skip
    return kind(encoder, data, model, prompt)


def prompts(masks: int, last: bool = False):
    """Three rows of other lengths, with so many masks somewhere, or at their ends."""
    g, rows = np.random.default_rng(0), []
    for before, after in ((3, 4), (5, 0), (2, 7)):
        left, right = (g.integers(SPECIALS, 50, n).tolist() for n in (before, after))
        left, right = (left + right, []) if last else (left, right)
        rows.append(torch.tensor([CLS, *left, *[MASK] * masks, *right, SEP]))
    return rows


def batch(rows, **labels):
    found = batch_of(rows)
    found.targets = {"label": labels.get("label", torch.tensor([2, 0, 1]))}
    return found


def at_masks(theirs, row: torch.Tensor) -> torch.Tensor:
    """transformers' log-probabilities at the masks of a single row [k, V]."""
    return theirs(row[None]).logits[0][row == MASK].log_softmax(-1)


def test_prompt_logits_are_those_of_transformers():
    encoder, model, theirs = bert()
    objective, rows = asked(PromptClassification, encoder, model, ONE), prompts(1)
    expected = torch.stack([theirs(row[None]).logits[0][row == MASK][0] for row in rows])
    expected = torch.stack([expected[:, 7], (expected[:, 9] + expected[:, 11]) / 2, expected[:, 30]], 1)
    found = objective.logits(encoder, batch(rows))
    torch.testing.assert_close(found, expected, **CLOSE)
    assert found.std() > 0.01
    loss = objective(encoder, batch(rows), 0).value
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(expected, torch.tensor([2, 0, 1])), **CLOSE)
    assert {name.split(".")[0] for name, _ in objective.named_parameters()} == {"language_model"}


def test_a_causal_models_next_token_at_the_end():
    encoder, model, theirs = gpt()
    objective, rows = asked(PromptClassification, encoder, model, ONE, ends=True), prompts(1, last=True)
    expected = torch.stack([theirs(row[:-2][None]).logits[0, -1] for row in rows])
    expected = torch.stack([expected[:, 7], (expected[:, 9] + expected[:, 11]) / 2, expected[:, 30]], 1)
    torch.testing.assert_close(objective.logits(encoder, batch(rows)), expected, **CLOSE)
    with pytest.raises(ConfigError, match="reads from left to right, and does not see what follows the mask"):
        asked(PromptClassification, encoder, model, ONE, ends=False)


def test_a_causal_models_words_of_several_tokens():
    """The product of each token's probability after those before it."""
    encoder, model, theirs = gpt()
    objective, rows = asked(PromptClassification, encoder, model, SEVERAL, ends=True), prompts(3, last=True)

    def score(row, word):
        total = 0.0
        for i, token in enumerate(word):
            seen = torch.cat([row[:-4], torch.tensor(word[:i], dtype=torch.int64)])
            total = total + theirs(seen[None]).logits[0, -1].log_softmax(-1)[token]
        return total

    expected = torch.stack(
        [torch.stack([torch.stack([score(row, w) for w in label]).mean() for label in SEVERAL]) for row in rows]
    )
    for mode in (True, False):
        torch.testing.assert_close(objective.train(mode).logits(encoder, batch(rows)), expected, **CLOSE)


def test_words_of_several_tokens_are_filled_in_by_confidence():
    """2009.07118, section 3.1, word by word and row by row."""
    encoder, model, theirs = bert()
    objective, rows = asked(PromptClassification, encoder, model, SEVERAL).eval(), prompts(3)

    def score(row, word):
        at = (row == MASK).nonzero()[:, 0]
        row = torch.cat([row[: at[0] + len(word)], row[at[-1] + 1 :]])  # as many masks as the word has tokens
        left, total = list(range(len(word))), 0.0
        while left:
            log_probs = theirs(row[None]).logits[0].log_softmax(-1)
            best = max(left, key=lambda i: float(log_probs[at[0] + i, word[i]]))
            total = total + log_probs[at[0] + best, word[best]]
            row[at[0] + best] = word[best]
            left.remove(best)
        return total

    expected = torch.stack(
        [torch.stack([torch.stack([score(row, w) for w in label]).mean() for label in SEVERAL]) for row in rows]
    )
    torch.testing.assert_close(objective.logits(encoder, batch(rows)), expected, **CLOSE)
    # in training all tokens are predicted at once, of as many masks as the longest word has
    parallel = torch.stack([at_masks(theirs, row) for row in rows])
    words = [[parallel[:, range(len(w)), w].sum(1) for w in label] for label in SEVERAL]
    expected = torch.stack([torch.stack(label).mean(0) for label in words], 1)
    objective.train()
    torch.testing.assert_close(objective.logits(encoder, batch(rows)), expected, **CLOSE)
    right = expected[range(3), [2, 0, 1]]
    slow = sum(max(0.0, float(1 - right[b] + expected[b, c])) for b in range(3) for c in range(3) if c != [2, 0, 1][b])
    assert float(objective(encoder, batch(rows), 0).value) == pytest.approx(slow / 3, rel=1e-4)


def test_the_likelier_token_comes_first_in_closed_form():
    """Two tokens, of which the second is surer: q = p(b | _ _) p(a | _ b), not p(a | _ _) p(b | a _)."""
    p = {(MASK, MASK): (0.1, 0.6), (MASK, 20): (0.5, 0.0), (10, MASK): (0.0, 0.9)}

    def predict(ids, lengths, at):
        size, found = ids.shape[1], torch.full((len(at), 50), -30.0)
        for row, flat in enumerate(at.tolist()):
            own = ids[flat // size]
            place = flat % size - 1
            a, b = p[tuple(own[1:3].tolist())] if (10, 20) != tuple(own[1:3].tolist()) else (1.0, 1.0)
            found[row, (10, 20)[place]] = math.log(max((a, b)[place], 1e-13))
        return found

    ids, lengths = torch.tensor([[CLS, MASK, MASK, SEP]] * 2), torch.tensor([4, 4])
    found = confident_scores(predict, ids, lengths, (10, 20), torch.device("cpu"))
    assert found.tolist() == pytest.approx([math.log(0.6 * 0.5)] * 2)
    chain = chain_scores(
        lambda filled, _, at: torch.zeros(len(at), 50) + (filled[0, 1] == 10) * -2.0,
        ids,
        lengths,
        (10, 20),
        torch.device("cpu"),
    )
    assert chain.tolist() == [-4.0, -4.0]


def test_fewer_masks_and_parallel_scores():
    ids = torch.tensor([[CLS, 9, MASK, MASK, MASK, SEP, 0], [CLS, MASK, MASK, MASK, 8, 7, SEP]])
    less, lengths = fewer_masks(ids, torch.tensor([6, 7]), 1)
    assert less.tolist() == [[CLS, 9, MASK, SEP, 0], [CLS, MASK, 8, 7, SEP]] and lengths.tolist() == [4, 5]
    assert torch.equal(fewer_masks(ids, torch.tensor([6, 7]), 3)[0], ids)
    log_probs = torch.arange(2 * 3 * 4).view(2, 3, 4).float()
    assert parallel_scores(log_probs, (3, 1)).tolist() == [3 + 5, 15 + 17]


def test_margin_loss():
    scores = torch.tensor([[0.0, -3.0, 0.5], [-1.0, 2.0, -4.0]])
    # row 0 of label 0: 1 + 0.5 from label 2, nothing from label 1; row 1 of label 1: nothing
    assert float(margin_loss(scores, torch.tensor([0, 1]))) == pytest.approx(1.5 / 2)


@pytest.mark.parametrize("labels", [None, ["1", "3"]])
def test_a_number_lies_between_two_poles(labels):
    """2012.15723, eq. 3 and 4."""
    encoder, model, theirs = bert()
    low, high = (0.0, 5.0) if labels is None else (1.0, 3.0)
    objective = asked(PromptRegression, encoder, model, [[(7,)], [(9,)]], labels, scores=[0, 5])
    rows, values = prompts(1), torch.tensor([2.0, 1.0, 3.0])
    logits = torch.stack([theirs(row[None]).logits[0][row == MASK][0] for row in rows])
    upper = torch.sigmoid(logits[:, 9] - logits[:, 7])
    found = objective.logits(encoder, batch(rows))
    torch.testing.assert_close(found, (low + (high - low) * upper)[:, None], **CLOSE)
    share = ((values - low) / (high - low)).double().tolist()
    slow = 0.0
    for q, p in zip(share, upper.double().tolist(), strict=True):
        slow += sum(a * math.log(a / b) for a, b in ((q, p), (1 - q, 1 - p)) if a > 0)
    loss = objective(encoder, batch(rows, label=values), 0).value
    assert float(loss) == pytest.approx(slow / 3, rel=1e-4)


def test_poles_that_are_none():
    encoder, model, _ = bert()
    for labels in (["5", "0"], ["low", "high"], ["1"]):
        with pytest.raises(ConfigError, match="lies between two values that have a word each: set prompt.labels="):
            asked(PromptRegression, encoder, model, [[(7,)], [(9,)]], labels)
    with pytest.raises(ConfigError, match="a regression needs words of one"):
        asked(PromptRegression, encoder, model, [[(7, 8)], [(9,)]], ["0", "5"])
