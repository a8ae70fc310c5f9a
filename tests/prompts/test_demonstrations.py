"""Demonstrations: whose they are, how they are drawn, and what an evaluation makes of them."""

from dataclasses import replace

import pytest
import torch
from test_contracts import batch_of, ready
from tiny_tasks import tiny_run, tiny_task

from sslzoo import rng
from sslzoo.adapt import lm_bff
from sslzoo.adapt.job import build_adapt
from sslzoo.data.base import CLS, MASK, SEP
from sslzoo.data.loader import read_rows
from sslzoo.data.sampler import Rows
from sslzoo.errors import ConfigError, UserError

ROWS = [3, 0, 7, 12, 5, 30]


@pytest.fixture(scope="module")
def job():
    with pytest.MonkeyPatch.context() as patch:
        run = tiny_run("tiny_reviews", "text")
        patch.setattr("test_contracts.build", lambda config: build_adapt(config, run))
        return ready(tiny_task("text-demonstrated"))


@pytest.fixture
def batch(job):
    rows = torch.tensor(ROWS).numpy()
    return read_rows(job.data.split("train"), Rows(rows, rng.derive_row_seeds(0, 1, rows=rows)))


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
