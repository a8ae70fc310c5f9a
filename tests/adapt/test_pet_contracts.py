"""What every objective promises, PET's two promise too: a pattern's model with unlabelled texts, and soft labels."""

# ruff: noqa: F401 (tests and fixtures of other files are collected here again, with another `objective`)

from dataclasses import replace

import numpy as np
import pytest
import test_contracts as contracts
import test_precision as precision
import test_waits as waits
import yaml
from test_contracts import (
    test_a_batch_may_be_as_small_as_it_says_and_no_smaller,
    test_padding_changes_nothing,
    test_state_is_all_in_the_state_dict,
    test_two_ranks_give_one_ranks_gradients,
)
from test_pet import config as pet_config
from test_precision import (
    casts,
    plugin,
    test_networks_compute_in_half_and_nothing_else_does,
    test_the_loss_of_the_same_outputs_is_float32s,
    test_views_masks_and_targets_are_float32s,
)
from test_waits import (
    test_a_step_reads_nothing_from_the_device,
    test_a_whole_step_runs_where_nothing_can_be_read,
    test_logs_are_made_at_logged_steps_alone,
)
from tiny_tasks import tiny_run

from sslzoo.adapt.job import build_adapt
from sslzoo.adapt.members import Ensemble, Member
from sslzoo.adapt.pet import soft
from sslzoo.adapt.unlabelled import SoftLabelledItems, TrainedOn, text_split
from sslzoo.run import Run


def rows(objective: str, count: int) -> list[str]:
    """Overrides for batches of so many rows."""
    if objective == "pattern":
        return [f"method.labelled_rows={count}"]
    return [f"batch={{_target_:sslzoo.data.sampler.ByCount,size:{count}}}"]


@pytest.fixture(params=["pattern", "soft"])
def objective(request, monkeypatch, tmp_path) -> str:
    def build(config: dict):
        run = tiny_run("tiny_reviews", "text")
        job = build_adapt(config, run)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        own = Ensemble(job.method, job, run, Run(tmp_path))
        if request.param == "pattern":
            return own.member_job(Member(0, 0, 0, 0))
        job = build_adapt({**config, "objective": soft(config["objective"], 2.0)}, run)
        split, _ = text_split(own.texts, job.data.tokenizer, job.data.max_tokens)
        labels = np.random.default_rng(0).dirichlet([1, 1], len(split))
        return replace(job, data=TrainedOn(job.data, SoftLabelledItems(split, labels)))

    def tiny(name: str, *overrides: str) -> dict:
        found = pet_config("pet", "method.alpha=0.3", "method.unlabelled_per_row=2", *overrides)
        return {**found, "task": {**found["task"], "shots": 8}, "weights": ""}

    for module in (contracts, precision, waits):
        monkeypatch.setattr(module, "tiny", tiny)
    monkeypatch.setattr(contracts, "build", build)
    monkeypatch.setattr(contracts, "modality_of", lambda _: "text")
    monkeypatch.setattr(contracts, "of_rows", rows)
    return request.param
