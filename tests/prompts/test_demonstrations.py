"""Demonstrations: whose they are, how they are drawn, and what an evaluation makes of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_contracts import batch_of, ready
from tiny_tasks import TASKS, tiny_run, tiny_task

from sslzoo import rng
from sslzoo.adapt import lm_bff
from sslzoo.adapt.job import build_adapt
from sslzoo.data.base import CLS, MASK, SEP
from sslzoo.data.loader import read_rows
from sslzoo.data.sampler import Rows
from sslzoo.errors import ConfigError, UserError
from sslzoo.prompts.objectives import PromptTask
from sslzoo.prompts.verbalizer import word_numbers

ROWS = [3, 0, 7, 12, 5, 30]


def made(task: str):
    with pytest.MonkeyPatch.context() as patch:
        run = tiny_run(TASKS[task][0], "text")
        patch.setattr("test_contracts.build", lambda config: build_adapt(config, run))
        return ready(tiny_task(task))


@pytest.fixture(scope="module")
def job():
    return made("text-demonstrated")


@pytest.fixture(scope="module")
def of_values():
    return made("text-poles-demonstrated")


def batch_of_rows(job):
    rows = torch.tensor(ROWS).numpy()
    return read_rows(job.data.split("train"), Rows(rows, rng.derive_row_seeds(0, 1, rows=rows)))


@pytest.fixture
def batch(job):
    return batch_of_rows(job)


def demonstrated(job, batch, seeds):
    """For each row: (its own tokens, the places in the bank of its demonstrations)."""
    bank, found = job.objective.bank, []
    pools = job.objective.train().pools(batch)
    made = job.objective.with_demonstrations(batch, pools, seeds)
    rows = [bank.ids[i, : bank.lengths[i]].tolist() for i in range(len(bank.ids))]
    for ids, length, own in zip(made.ids, made.lengths.tolist(), batch.lengths.tolist(), strict=True):
        ids = ids[:length].tolist()
        assert ids.count(MASK) == 1 and ids.index(MASK) < own, "the question alone has a mask"
        rest, places = ids[own:], []
        for _ in range(2):
            end = rest.index(SEP) + 1
            places.append({i for i, row in enumerate(rows) if row == rest[:end]})
            rest = rest[end:]
        assert not rest
        found.append((ids[:own], places))
    return found


def test_one_template_for_all_rows_through_a_leaked_loop_variable(job, batch):
    """LM-BFF's: each row has its own text, and demonstrations of its own, one of each class in order."""
    found = demonstrated(job, batch, batch.row_seeds)
    for (own, places), ids, length in zip(found, batch.ids, batch.lengths.tolist(), strict=True):
        assert own == ids[:length].tolist() and own[0] == CLS
        for label, some in enumerate(places):
            assert some and {int(job.objective.bank.labels[i]) for i in some} == {label}
    assert len({tuple(own) for own, _ in found}) == len(ROWS)
    assert len({str(places) for _, places in found}) > 1


def test_a_demonstration_drawn_from_the_item_itself(job, batch):
    pools = job.objective.train().pools(batch)
    for place, row in zip(ROWS, pools, strict=True):
        assert all(place not in pool.tolist() for pool in row)
    # of a text that is asked about, nothing is left out
    pools = job.objective.eval().pools(batch)
    assert sum(place in pool.tolist() for place, row in zip(ROWS, pools, strict=True) for pool in row) == len(ROWS)


def test_demonstrations_are_of_the_nearer_half(job, batch):
    bank, split = job.objective.bank, job.data.split("train")
    encoder = job.objective.sentence_encoder[0]
    with torch.no_grad():
        vectors = torch.stack(
            [encoder(split.read(i)[None], torch.tensor([len(split.read(i))])).pooled[0] for i in range(len(split))]
        )
    assert torch.allclose(bank.vectors, torch.nn.functional.normalize(vectors, dim=1), atol=1e-5)
    for place, row in zip(ROWS, job.objective.train().pools(batch), strict=True):
        likeness = torch.nn.functional.cosine_similarity(vectors[place], vectors)
        for label, pool in enumerate(row):
            others = [i for i in range(len(split)) if split.labels[i] == label and i != place]
            assert len(pool) == -(-len(others) // 2)
            worst = min(float(likeness[i]) for i in pool.tolist())
            assert all(float(likeness[i]) <= worst + 1e-5 for i in set(others) - set(pool.tolist()))


def test_each_of_the_nearer_half_is_as_often_drawn(job, batch):
    one = replace(batch, **{name: getattr(batch, name)[:1] for name in ("inputs", "lengths", "row_seeds", "index")})
    pools, draws = job.objective.train().pools(one), 3000
    seeds = torch.from_numpy(rng.derive_row_seeds(7, rows=torch.arange(draws).numpy()))
    for label, pool in enumerate(pools[0]):
        sizes = torch.tensor([[len(p) for p in pools[0]]]).expand(draws, -1)
        counts = rng.integers(seeds, "demonstration", sizes, 2)[:, label].bincount(minlength=len(pool))
        assert len(counts) == len(pool) and (counts - draws / len(pool)).abs().max() < 5 * (draws / len(pool)) ** 0.5


def test_they_are_drawn_anew_for_each_row_and_step(job, batch):
    rows = batch.index.numpy()
    steps = [torch.from_numpy(rng.derive_row_seeds(0, step, rows=rows)) for step in (1, 2, 1)]
    first, second, again = (str(demonstrated(job, batch, seeds)) for seeds in steps)
    assert first == again != second


def test_an_evaluation_is_the_mean_over_sets(job, batch):
    objective = job.objective.eval()
    encoder = job.encoder.eval()
    batch = replace(batch, row_seeds=torch.full((len(ROWS),), -1))
    with torch.no_grad():
        whole = objective.logits(encoder, batch)
        objective.sets, parts = 1, []
        for number in range(16):
            with pytest.MonkeyPatch.context() as patch:
                fold = rng.fold_in
                patch.setattr("sslzoo.rng.fold_in", lambda s, p, n=number, fold=fold: fold(s, torch.full_like(p, n)))
                parts.append(objective.logits(encoder, batch))
        objective.sets = 16
        assert torch.allclose(whole, torch.stack(parts).mean(0), atol=1e-6)
        assert not torch.equal(parts[0], parts[1])
        # whatever texts are asked about beside it
        alone = replace(
            batch, **{name: getattr(batch, name)[2:3] for name in ("inputs", "lengths", "row_seeds", "index")}
        )
        assert torch.allclose(objective.logits(encoder, alone)[0], whole[2], atol=1e-5)


def test_the_prompt_and_its_demonstrations_share_the_positions(job):
    assert job.data.max_tokens == 24 // 3 and int(job.objective.bank.lengths.max()) <= 8
    batch = batch_of(job, 0)
    made = job.objective.with_demonstrations(batch, job.objective.train().pools(batch), batch.row_seeds)
    assert int(made.lengths.max()) <= 24


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["objective.nearest=0"], "objective.nearest is a share above 0"),
        (["prompt.words=[bad,w4good]", "prompt.template='{text} {mask}'"], "and a demonstration needs words of one"),
        (["method.find=[words,words]"], "method.find is template and words, each once"),
    ],
)
def test_what_demonstrations_cannot_be(overrides, match):
    with pytest.raises(ConfigError, match=match):
        build_adapt(tiny_task("text-demonstrated", *overrides), tiny_run("tiny_reviews", "text"))


def test_too_few_and_too_many_to_draw_from(job, monkeypatch):
    monkeypatch.setattr("sslzoo.prompts.demonstrations.MOST", 10)
    with pytest.raises(UserError, match="from few labelled items, 10 at most, and train has 40: set task.shots=16"):
        job.objective.prepare(40, 5, 0)
    with pytest.raises(ConfigError, match="lm_bff asks by a prompt, and Classification does not"):
        lm_bff.LMBFF().check(type("Classification", (), {}))


def test_values_are_demonstrated_by_their_halves(of_values):
    """One that is not above train's median with the word of the lower pole, then one above it with the upper's."""
    job, batch = of_values, batch_of_rows(of_values)
    bank, split = job.objective.bank, job.data.split("train")
    above = split.labels > np.median(split.labels)
    assert bank.labels.tolist() == above.tolist() and 0 < above.sum() < len(above)
    low, high = (int(ids[0]) for ids in job.data.tokenizer.encode_apart(["low", "high"]))
    for ids, upper in zip(bank.ids.tolist(), above, strict=True):
        assert (high if upper else low) in ids and MASK not in ids
    for _, places in demonstrated(job, batch, batch.row_seeds):
        for upper, some in zip([False, True], places, strict=True):
            assert some and {bool(above[i]) for i in some} == {upper}


def test_the_loss_of_values_is_the_divergence_of_the_observed_mixture(of_values):
    """2012.15723, eq. 4, row by row in float64: of the prompts with demonstrations, not of the prompts alone."""
    job, batch = of_values, batch_of_rows(of_values)
    encoder, objective = job.encoder.eval(), job.objective.eval()
    objective.training = True  # demonstrations are drawn for training, without dropout
    with torch.no_grad():
        loss = objective(encoder, batch, 0)
        whole = objective.with_demonstrations(batch, objective.pools(batch), batch.row_seeds)
        last = encoder(whole.inputs, whole.lengths).last
        scores = objective.language_model(encoder, last[whole.ids == MASK], objective.tokens).double().tolist()
        alone = PromptTask.scores(objective, encoder, batch)
    slow = 0.0
    for (lower, upper), y in zip(scores, batch.targets["label"].double().tolist(), strict=True):
        p, q = 1 / (1 + math.exp(lower - upper)), y / 5
        for observed, predicted in ((q, p), (1 - q, 1 - p)):
            slow += observed * math.log(observed / predicted) if observed else 0.0
    assert float(loss.value) == pytest.approx(slow / len(ROWS), rel=1e-5) and loss.count == len(ROWS)
    assert not torch.allclose(alone.double(), torch.tensor(scores, dtype=torch.float64), atol=1e-4)


def test_an_evaluation_of_values_is_their_mean_over_sets(of_values):
    objective, encoder = of_values.objective.eval(), of_values.encoder.eval()
    torch.manual_seed(0)
    sets = 8 * torch.randn(16, 3, 2)
    values = objective.low + (objective.high - objective.low) * sets.double().softmax(2)[:, :, 1].mean(0)
    found = objective.averaged(sets).softmax(1)[:, 1]
    assert torch.allclose(objective.low + (objective.high - objective.low) * found.double(), values, atol=1e-5)
    batch = batch_of_rows(of_values)
    with torch.no_grad():
        predicted = objective.predict(encoder, batch)
    assert objective.predict(encoder, batch) == predicted and all(0 < y < 5 for y in predicted)


def test_halves_of_values():
    assert word_numbers(np.array([1.0, 4.0, 2.0, 2.5], np.float32)).tolist() == [0, 1, 0, 1]
    assert word_numbers(np.array([2, 0, 1])).tolist() == [2, 0, 1], "classes are what they are"
    with pytest.raises(UserError, match="none of train's 3 values is above their median, 5, and each of the two words"):
        word_numbers(np.array([1.0, 5.0, 5.0]))


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["prompt.words=[low]"], r"prompt.words has 1 for 2 labels \(0, 5\): every label needs a word"),
        (["prompt.words=[low,good,high]"], r"prompt.words has 3 for 2 labels \(0, 5\): every label needs a word"),
        (
            ["prompt.labels=['0','3','5']", "prompt.words=[low,good,high]"],
            "lies between two values that have a word each",
        ),
        (["prompt.labels=['0','inf']"], "lies between two values that have a word each: set prompt.labels="),
        (["prompt.words=[low,low]"], "'low' stands for 0 and for 5: give each label words of its own"),
    ],
)
@pytest.mark.parametrize("task", ["text-poles", "text-poles-demonstrated"])
def test_a_table_of_other_than_two_words_for_values(task, overrides, match):
    with pytest.raises(ConfigError, match=match):
        build_adapt(tiny_task(task, "prompt.template='{text} {mask}'", *overrides), tiny_run("tiny_ratings", "text"))
