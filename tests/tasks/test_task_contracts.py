"""What every objective promises, a downstream task promises too: the same tests, over tiny tasks."""

# ruff: noqa: F401 (tests and fixtures of other files are collected here again, with another `objective`)

from pathlib import Path

import pytest
import test_contracts as contracts
import test_precision as precision
import test_waits as waits
import torch
from test_contracts import (
    batch_of,
    gradients,
    ready,
    test_a_batch_may_be_as_small_as_it_says_and_no_smaller,
    test_a_rank_with_nothing_to_lose_changes_nothing,
    test_batches_do_not_depend_on_workers,
    test_golden_losses,
    test_padding_changes_nothing,
    test_state_is_all_in_the_state_dict,
    test_stopped_and_continued_is_never_stopped,
    test_two_ranks_give_one_ranks_gradients,
)
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
from tiny_tasks import TASKS, kind_of, rows, tiny_task

from sslzoo.adapt.job import build_adapt
from sslzoo.run import Run


class AdaptedRun(Run):
    """Where the contracts look for what was learned."""

    @property
    def weights(self):
        return self.adapted_weights


def build_task(config: dict):
    """One function for all tests, as `ready` keeps what it built by it."""
    return build_adapt(config, Run(Path(config["run"])))


@pytest.fixture(params=TASKS)
def objective(request, monkeypatch) -> str:
    for module in (contracts, precision, waits):
        monkeypatch.setattr(module, "tiny", tiny_task)
    monkeypatch.setattr(contracts, "build", build_task)
    monkeypatch.setattr(contracts, "Run", AdaptedRun)
    monkeypatch.setattr(contracts, "modality_of", kind_of)
    monkeypatch.setattr(contracts, "of_rows", rows)
    return request.param


def test_it_takes_a_step_and_what_is_frozen_takes_none(objective):
    job = ready(tiny_task(objective))
    logs, grads = gradients(job, batch_of(job, 0))
    assert torch.isfinite(torch.tensor(list(logs.values()))).all()
    few = {"score": [], "poles": [], "answers": ["accuracy"], "letters": ["alignable"], "turns": []}
    more = few.get(objective.split("-")[1], ["accuracy", "chance", "uniform_loss"])
    assert {"loss", *more} <= set(logs)
    missing = [name for name, grad in grads.items() if grad is None]
    assert not missing, f"no gradient reaches {missing}"  # DDP would wait for them for ever
    inside = [name for name in grads if name.startswith("encoder.")]
    frozen = objective.endswith("-head")
    assert bool(inside) != frozen and any(bool(g.abs().sum() > 0) for g in grads.values())
    assert any(module.training for module in job.encoder.modules()) != frozen
    [optimizer] = [job.optim.build(torch.nn.ModuleDict({"encoder": job.encoder, "objective": job.objective}))]
    learning = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert len(learning) == len(grads) and not learning & {id(p) for p in job.encoder.parameters() if frozen}
