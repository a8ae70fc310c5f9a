"""What ALBERT, BERT with next sentences and RoBERTa ask of their rows. tests/encoders has their heads and losses,
tests/data their rows, tests/augment their masks."""

import math

import pytest
import torch
from conftest import compose, tiny
from test_contracts import batch_of, ready

from sslzoo.build import build
from sslzoo.data.base import MASK, PAIR
from sslzoo.errors import ConfigError


def test_albert_masks_whole_words_of_its_tokenizer():
    words = [
        "data=docstrings",
        "data.per_package=200",
        "data.vocab_size=600",
        "encoder=albert_small",
        "data/batch=items_32",
    ]
    job = ready(compose("objective=albert", *words))
    batch, objective = batch_of(job, 0), job.objective
    corrupted, chosen = objective.corrupt(batch.ids, batch.lengths, batch.row_seeds)
    continues = torch.from_numpy(job.data.is_continuation)[batch.ids]
    assert continues.any() and (corrupted[chosen] == MASK).float().mean() > 0.5
    # a piece that goes on a word is chosen just if the one before it is
    inside = continues[:, 1:] & ~(batch.ids[:, :-1] < 5)
    assert torch.equal(chosen[:, 1:][inside], chosen[:, :-1][inside])
    assert chosen[:, 1:][inside].any() and not chosen[:, 1:][inside].all()


def test_a_row_has_another_mask_each_time_that_it_is_read():
    """RoBERTa, section 4.1; and again the same one in the same step."""
    job = ready(tiny("roberta"))
    split, masks = job.data.split("train"), {}
    steps = -(-len(split) // 8)
    for step in [*range(steps), *range(steps, 2 * steps)]:
        batch = batch_of(job, step)
        chosen = job.objective.corrupt(batch.ids, batch.lengths, batch.row_seeds)[1]
        again = batch_of(job, step)
        assert torch.equal(chosen, job.objective.corrupt(again.ids, again.lengths, again.row_seeds)[1])
        for row, index in enumerate(batch.index.tolist()):
            masks.setdefault(index, set()).add(tuple(chosen[row].nonzero().flatten().tolist()))
    twice = [found for found in masks.values() if len(found) > 1]
    assert len(twice) > 0.6 * len(masks)


def test_guessers_of_both_tasks_are_known():
    """A run at the loss of one who guesses pieces and pairs is told so: both are in what it is compared with."""
    job = ready(tiny("bert_nsp"))
    logs = job.objective(job.encoder, batch_of(job, 0), 0).logs()
    assert logs["uniform_loss"] == pytest.approx(math.log(60) + math.log(2))


def test_the_label_is_that_of_the_row():
    job = build(tiny("bert_nsp"))
    batch = batch_of(job, 0)
    other = batch_of(job, 0)
    other.targets[PAIR] = 1 - batch.targets[PAIR]
    with torch.no_grad():
        job.objective.pair_head.out.bias[1] += 3.0
        losses = [float(job.objective(job.encoder, b, 0).value) for b in (batch, other)]
    ones = float(batch.targets[PAIR].float().mean())
    assert 0 < ones < 1
    assert losses[1] - losses[0] == pytest.approx(3.0 * (2 * ones - 1), abs=0.05)


def test_a_mask_of_another_kind_is_refused():
    with pytest.raises(
        ConfigError, match=r"TokenMask is for another kind of objective, which gives it other than \(seeds,"
    ):
        build(tiny("albert", "objective/mask=bert"))
    with pytest.raises(ConfigError, match="NgramMask is for another kind of objective"):
        build(tiny("bert", "objective/mask=ngram"))
