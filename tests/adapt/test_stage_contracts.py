"""What every objective promises, each training that a method is made of promises too: DeeBERT's two stages,
distillation's two steps, and prompts of several tasks."""

# ruff: noqa: F401, F811 (tests and fixtures of other files are collected here again, with another `objective`)

import json
from functools import cache
from pathlib import Path

import pytest
import test_contracts as contracts
import test_precision as precision
import test_waits as waits
import torch
from test_contracts import (
    batch_of,
    gradients,
    never_stopped,
    ready,
    still,
    test_a_batch_may_be_as_small_as_it_says_and_no_smaller,
    test_batches_do_not_depend_on_workers,
    test_golden_losses,
    test_padding_changes_nothing,
    test_state_is_all_in_the_state_dict,
    test_stopped_and_continued_is_never_stopped,
    test_two_ranks_give_one_ranks_gradients,
)
from test_distill import pairs
from test_distill import settings as of_a_teacher
from test_multitask import settings as of_tasks
from test_multitask import world
from test_precision import (
    casts,
    plugin,
    test_networks_compute_in_half_and_nothing_else_does,
    test_the_loss_of_the_same_outputs_is_float32s,
)
from test_precision import test_views_masks_and_targets_are_float32s as views_masks_and_targets_are_float32s
from test_waits import (
    test_a_step_reads_nothing_from_the_device,
    test_a_whole_step_runs_where_nothing_can_be_read,
    test_logs_are_made_at_logged_steps_alone,
)
from tiny_tasks import TASKS, tiny_task

from sslzoo import weights
from sslzoo.adapt.job import build_adapt
from sslzoo.adapt.teacher import Teacher, pinned
from sslzoo.config import options
from sslzoo.data.loader import read_rows
from sslzoo.data.sampler import StepSampler
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import checkpoint, launch

STAGES = {  # what learns: first words of the parameters' names
    "deebert-encoder": ["encoder", "objective.exits.1"],
    "deebert-exits": ["objective.exits.0"],
    "distill-hidden": ["encoder", "objective.embedding_projection", "objective.projection"],
    "distill-logits": ["encoder", "objective.head"],
    "multitask": ["encoder", "objective.language_model"],
}
METHODS = {stage.partition("-")[0] for stage in STAGES} | {"pet"}  # test_pet_contracts.py
WITHOUT = {
    "zero_shot": "nothing learns",
    "distill_logits": "its training is the second of distill",
    "ipet": "its trainings are those of pet",
}
STEPS = 12  # as `test_contracts.tiny_run`


class StageRun(Run):
    """Where the contracts look for what was learned, and the first step of a distillation writes it."""

    @property
    def weights(self):
        return self.adapted_weights


@cache
def builder(stage: str):
    """The function that makes a stage's job of its config: one for all tests, as `ready` keeps what it built by it."""

    def build(config: dict):
        run = Run(Path(config["run"]))
        job = build_adapt(config, run)
        method = job.method
        if stage.startswith("deebert"):
            method.begin(list(STAGES).index(stage), job.encoder, job.objective)
            return job
        if stage == "distill-hidden":
            return method.on_hidden_states(job, run)
        if stage == "distill-logits":
            return method.on_logits(job, Teacher.of(config, run, job.data).logits(job.data, "cpu"))
        kept = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launch, "pretrain", lambda job, folder: kept.append(job))
            method.train(job, run, run, run)
        return kept[0]

    return build


def rows(_: str, count: int) -> list[str]:
    """Overrides for batches of so many rows, which `tiny` reads: Hydra would compose anew for each."""
    return [f"rows={count}"]


@pytest.fixture(params=STAGES)
def objective(request, monkeypatch) -> str:
    stage = request.param

    def tiny(_: str, *overrides: str) -> dict:
        overrides, sizes = ([o for o in overrides if o.startswith("rows=") == own] for own in (False, True))
        if stage.startswith("deebert"):
            config = tiny_task("text-pabee", "method=deebert", "head=deebert", *overrides)
        elif stage.startswith("distill"):
            student, teacher = request.getfixturevalue("pairs")("text")
            more = [f"teacher={teacher}", f"method.hidden_steps={STEPS}", "objective.dropout=0.1", *overrides]
            config = of_a_teacher(student, "distill", "classification", *more)
            config = pinned({**config, "weights": weights.signature(student.weights)}, Path())
        else:
            room = [f"method.tasks.{name}.data.max_tokens=20" for name in ("sst2", "cola")]  # a test pads rows further
            config = {**of_tasks(*request.getfixturevalue("world"), *room, *overrides), "weights": ""}
            config.pop("data", None)
        for size in sizes:
            config["batch"] = {"_target_": "sslzoo.data.sampler.ByCount", "size": int(size.removeprefix("rows="))}
        return {**config, "name": stage}  # no two stages' runs have one config

    for module in (contracts, precision, waits):
        monkeypatch.setattr(module, "tiny", tiny)
    monkeypatch.setattr(contracts, "build", builder(stage))
    monkeypatch.setattr(contracts, "Run", StageRun)
    monkeypatch.setattr(contracts, "modality_of", lambda _: "text")
    monkeypatch.setattr(contracts, "of_rows", rows)
    return stage


def test_every_method_is_among_the_contracts():
    assert set(options("method")) == {method for _, method, *_ in TASKS.values()} | METHODS | WITHOUT.keys()


def test_a_stage_learns_what_it_should_and_lists_it(objective):
    """Gradients reach it and nothing else; at the end of a run it is what was changed, saved and listed."""
    config = contracts.tiny_run(objective)
    job = ready(config)
    _, grads = gradients(job, batch_of(job, 0))
    assert all(grad is not None for grad in grads.values()) and any(bool(grad.any()) for grad in grads.values())
    for first in STAGES[objective]:
        assert any(name.startswith(f"{first}.") for name in grads), first
    assert all(any(name.startswith(f"{first}.") for first in STAGES[objective]) for name in grads)
    run, modules = (
        never_stopped(json.dumps(config)),
        torch.nn.ModuleDict({"encoder": job.encoder, "objective": job.objective}),
    )
    end, saved = checkpoint.load(checkpoint.latest_checkpoint(run))["state_dict"], weights.load(run.weights, "")
    changed = {name for name, p in modules.named_parameters() if name in end and not torch.equal(p, end[name])}
    assert changed and changed <= grads.keys()
    if objective == "distill-hidden":  # the projections serve this step alone
        assert saved.keys() == job.encoder.state_dict().keys()
        return
    said = json.loads(run.adapted.read_text())
    assert said["trained"] == {name: grad.numel() for name, grad in grads.items()}
    assert said["saved"] == {name: x.numel() for name, x in saved.items()}
    assert grads.keys() <= saved.keys(), "and the rest of the head, but nothing of a frozen encoder"
    assert all(name.startswith("objective.") for name in saved.keys() - grads.keys())


def test_a_step_in_parts_is_the_step_of_the_whole_batch(objective, monkeypatch):
    config = contracts.tiny(objective, *rows(objective, 7))  # of 3, 2 and 2 rows
    monkeypatch.setattr(Pretrain, "global_step", property(lambda self: 3))
    found = []
    for parts in (1, 3):
        job = still(ready(config))
        split, module = job.data.split("train"), Pretrain(job.encoder, job.objective, job.optim, 0, 10, 1, parts)
        sampler = StepSampler(job.data.batch, split.cut_lengths, 0, 0, 1, 0, 1, job.objective.min_batch, parts)
        batches = [read_rows(split, some) for some in sampler]
        assert len(batches) == parts
        for batch in batches:
            (module.train().training_step(batch, 0) / parts).backward()
        module.on_before_optimizer_step(None)
        found.append((module.look()["loss"], {n: p.grad for n, p in module.named_parameters() if p.requires_grad}))
    (loss, whole), (sum_of_parts, in_parts) = found
    assert sum_of_parts == pytest.approx(loss, rel=1e-5)
    scale = max(float(grad.abs().max()) for grad in whole.values())
    assert scale > 0 and all(torch.allclose(in_parts[n], grad, atol=2e-5 * scale) for n, grad in whole.items())


def test_views_masks_and_targets_are_float32s(objective, plugin, casts, monkeypatch):
    if objective == "distill-hidden":
        pytest.skip(
            "its targets are hidden states of the teacher, an encoder, which computes in half as every one does"
        )
    views_masks_and_targets_are_float32s(objective, plugin, casts, monkeypatch)
