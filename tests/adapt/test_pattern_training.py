"""The objective of a pattern's model: its two terms, against what each is alone."""

import pytest
import torch
import torch.nn.functional as F
import yaml
from test_contracts import batch_of, still
from test_pet import config
from tiny_tasks import tiny_run

from sslzoo import build, rng
from sslzoo.adapt.job import build_adapt
from sslzoo.adapt.members import Ensemble, Member
from sslzoo.data.base import MASK
from sslzoo.data.loader import IGNORE
from sslzoo.errors import ConfigError
from sslzoo.prompts.pattern_training import PatternTraining
from sslzoo.prompts.prompt import Prompt
from sslzoo.run import Run


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder, given = (
        tmp_path_factory.mktemp("pattern"),
        config("pet", "method.unlabelled_per_row=2", "method.alpha=0.25"),
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(given))
    own = build_adapt(given, tiny_run("tiny_reviews", "text"))
    return still(
        Ensemble(own.method, own, tiny_run("tiny_reviews", "text"), Run(folder)).member_job(Member(0, 0, 0, 0))
    )


def test_the_loss_is_the_weighted_sum_of_its_terms(job):
    batch = batch_of(job, 0)
    assert [name for name in batch.targets] == ["label", "unlabelled.0", "unlabelled.1"]
    run = build.load_objective(tiny_run("tiny_reviews", "text"))[0]  # BERT, as it was pretrained
    with torch.no_grad():
        found = job.objective(job.encoder, batch, 0)
        supervised = F.cross_entropy(job.objective.logits(job.encoder, batch), batch.targets["label"])
        total = count = 0.0
        for place in range(2):
            ids = batch.targets[f"unlabelled.{place}"]
            lengths, seeds = (ids != IGNORE).sum(1), rng.fold_in(batch.row_seeds, torch.full((len(batch),), place))
            for row in range(len(batch)):
                own = ids[row : row + 1, : lengths[row]]
                corrupted, chosen = run.corrupt(own, lengths[row : row + 1], seeds[row : row + 1])
                assert not chosen[own == MASK].any() and (corrupted[own == MASK] == MASK).all(), (
                    "the label is not asked"
                )
                logits = run.predict(job.encoder, job.encoder(corrupted, lengths[row : row + 1]).last)
                total += float(F.cross_entropy(logits[chosen], own[chosen], reduction="sum"))
                count += int(chosen.sum())
    assert float(found.value) == pytest.approx(0.75 * float(supervised) + 0.25 * total / count, rel=1e-4)
    assert float(found.logs()["mlm_loss"]) == pytest.approx(total / count, rel=1e-4)


def test_unlabelled_items_are_drawn_anew_at_every_step(job):
    first, again, later = (batch_of(job, step).targets["unlabelled.0"] for step in (0, 0, 1))
    assert torch.equal(first, again) and not (first.shape == later.shape and torch.equal(first, later))
    batch = batch_of(job, 0)
    assert not torch.equal(*(batch.targets[f"unlabelled.{i}"][:, :1000].sum(1) for i in range(2)))
    assert (torch.where(first == IGNORE, 0, first) == MASK).sum(1).eq(1).all(), "each in the pattern, with its mask"
    split = job.data.split("train")
    assert split.targets(0).keys() == {"label"}, "scoring reads none"


def test_a_weight_out_of_range_is_refused(job):
    with pytest.raises(ConfigError, match="alpha is a weight of at least 0 and below 1, got 1"):
        prompt = Prompt("{text} {mask}", ["bad", "good"])
        PatternTraining(job.encoder, job.data, job.objective.language_model, prompt, alpha=1.0)
