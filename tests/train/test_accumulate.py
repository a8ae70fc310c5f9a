"""Gradient accumulation: a step in parts is the step of the whole batch, and a run in parts can be stopped anywhere."""

import csv
import os
import signal
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from conftest import modality_of, tiny
from safetensors.torch import load_file
from test_contracts import assert_equal, of_rows, ready, still, train
from test_ddp import TWO, start
from two_ranks import on_two_ranks

from sslzoo.build import build
from sslzoo.data.loader import IGNORE, read_rows
from sslzoo.data.sampler import StepSampler
from sslzoo.errors import UserError
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import checkpoint, launch

# what makes the loss of an objective a sum over rows, where it can be
BY_ROWS = {
    "deepcluster": ["encoder=tiny_image"],
    "hubert": ["objective.feature_penalty=0"],
    "wav2vec2": ["objective.diversity=0", "objective.feature_penalty=0"],
}


def by_rows(objective: str, rows: int) -> dict:
    """A tiny config, with batches of so many rows, whose loss is a sum over rows; or skip, saying why it is none."""
    job = build(tiny(objective, *BY_ROWS.get(objective, [])))
    if objective not in BY_ROWS and (terms := launch.alone_in_parts(job.encoder, job.objective)):
        pytest.skip(f"{terms}: computed over each part by itself")
    return tiny(objective, *of_rows(objective, rows), *BY_ROWS.get(objective, []))


def rows_of(job, parts: int, rank: int = 0, world: int = 1):
    """This rank's batch of a step, in parts."""
    split = job.data.split("train")
    sampler = StepSampler(job.data.batch, split.cut_lengths, 0, 0, 1, rank, world, job.objective.min_batch, parts)
    return [read_rows(split, rows) for rows in sampler]


def short(batch, first: int, last: int):
    """Rows that are too short to be asked anything."""
    lengths, targets = batch.lengths.clone(), {name: y.clone() for name, y in batch.targets.items()}
    lengths[first:last] = 400 if batch.inputs.is_floating_point() else 1  # a token
    for labels in targets.values():
        labels[first:last, 1:] = IGNORE
    return replace(batch, lengths=lengths, targets=targets)


def accumulated(job, batches, monkeypatch, world: int = 1):
    """Logs and gradients of one step in these parts, as the trainer has them when it updates."""
    monkeypatch.setattr(Pretrain, "global_step", property(lambda self: 3))
    module = Pretrain(job.encoder, job.objective, job.optim, 0, 10, 1, len(batches))
    module.train()
    for batch in batches:
        (module.training_step(batch, 0) / len(batches)).backward()
    for parameter in module.parameters():
        if world > 1 and parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world
    module.on_before_optimizer_step(None)
    return module.look(), {n: p.grad for n, p in module.named_parameters() if p.requires_grad}


def assert_one_step(found, whole, norms: bool = True) -> None:
    (parts, grads), (one, one_grads) = found, whole
    assert parts["loss"] == pytest.approx(one["loss"], rel=1e-5, abs=1e-5)
    if norms:
        assert parts["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)
    scale = max(float(g.abs().max()) for g in one_grads.values())
    assert scale > 0
    for name, grad in one_grads.items():
        assert torch.allclose(grads[name], grad, atol=2e-5 * scale), name  # float32 itself is 1e-5 from float64


def test_a_step_in_parts_is_the_step_of_the_whole_batch(objective, monkeypatch):
    config = by_rows(objective, 7)  # of 3, 2 and 2 rows
    whole, parts = (rows_of(still(ready(config)), n) for n in (1, 3))
    assert [len(part) for part in parts] == [3, 2, 2]
    assert_one_step(
        accumulated(still(ready(config)), parts, monkeypatch), accumulated(still(ready(config)), whole, monkeypatch)
    )


@pytest.mark.parametrize("empty", [0, 1])
def test_a_part_with_nothing_to_lose_changes_nothing(objective, empty, monkeypatch):
    """Counts as uneven as can be: the first part, or the second, is about nothing."""
    if modality_of(objective) == "image":
        pytest.skip("every image is asked something")
    config = by_rows(objective, 7)
    [whole], parts = (rows_of(still(ready(config)), n) for n in (1, 3))
    parts[empty] = short(parts[empty], 0, 3)
    whole = short(whole, *[(0, 3), (3, 5)][empty])
    job = still(ready(config))
    if torch.as_tensor(job.objective(job.encoder, parts[empty], 3).count):
        pytest.skip("every row is asked something")
    found = accumulated(still(ready(config)), parts, monkeypatch)
    assert_one_step(found, accumulated(still(ready(config)), [whole], monkeypatch))


def test_two_ranks_in_two_parts_are_one_rank(objective, tmp_path, monkeypatch):
    config = by_rows(objective, 7)  # of 4 and 3 rows, which ranks share as 2 and 2, 2 and 1

    def work(rank):
        job = still(ready(config))
        parts = rows_of(job, 2, rank, 2)
        logs, grads = accumulated(job, parts, monkeypatch, world=2)
        return {"rows": [len(part) for part in parts], "logs": logs, "grads": grads}

    first, second = on_two_ranks(work, tmp_path)
    assert (first["rows"], second["rows"]) == ([2, 2], [2, 1])
    assert first["logs"]["loss"] == second["logs"]["loss"]
    one = accumulated(still(ready(config)), rows_of(still(ready(config)), 1), monkeypatch)
    assert_one_step((first["logs"], first["grads"]), one)


def test_a_run_of_two_ranks_in_two_parts_is_that_of_one(tmp_path):
    """Where gradients are reduced only with a step's last part."""
    parts = ["trainer.accumulate=2", "data.batch.size=7"]
    runs = [start(Run(tmp_path / "one"), "bert", "data.batch.size=7"), start(Run(tmp_path / "parts"), "bert", *parts)]
    runs.append(start(Run(tmp_path / "two"), "bert", *parts, *TWO))
    one, *others = ([(r["step"], float(r["loss"])) for r in csv.DictReader(x.metrics.open(newline=""))] for x in runs)
    whole, *found = (load_file(run.weights) for run in runs)
    for rows, weights in zip(others, found, strict=True):
        assert [step for step, _ in rows] == [step for step, _ in one] == ["0", "1", "2", "3"]
        assert [loss for _, loss in rows] == pytest.approx([loss for _, loss in one], rel=1e-4)
        assert all(torch.allclose(weights[n], w, atol=1e-4, rtol=1e-3) for n, w in whole.items())


RUN = ["trainer.accumulate=2", "trainer.max_steps=7", "trainer.save_every=2", "trainer.log_every=3"]


def killed(config: dict, folder, step: int, how) -> None:
    """A run in a process of its own, with `how()` called in the second part of a step."""
    training = Pretrain.training_step

    def interrupted(self, batch, batch_idx):
        if self.global_step == step and self.part == 1:
            how()
        return training(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretrain, "training_step", interrupted)
        train(config, folder)


def assert_same_end(whole: Run, parts: Run) -> None:
    a, b = (checkpoint.load(checkpoint.latest_checkpoint(run)) for run in (whole, parts))
    assert a["global_step"] == b["global_step"] == 7
    assert_equal(a["state_dict"], b["state_dict"])
    assert_equal(a["optimizer_states"], b["optimizer_states"])
    assert whole.metrics.read_text() == parts.metrics.read_text()
    assert whole.weights.read_bytes() == parts.weights.read_bytes()


@pytest.mark.parametrize("objective", ["bert", "byol", "moco", "deepcluster", "wav2vec2"])
def test_stopped_in_the_middle_of_a_step_and_continued_is_never_stopped(objective, tmp_path):
    """By a signal it ends with the step; by a kill it goes on from the checkpoint before."""
    config = tiny(objective, *RUN, "trainer.val_every=2", *of_rows(objective, 16 if objective == "moco" else 6))
    whole = train(config, tmp_path / "whole")
    with open(whole.metrics, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["step"], bool(r["val_loss"])) for r in rows] == [
        *[("0", False), ("1", True), ("3", True), ("5", True), ("6", True)]
    ]
    assert [p.name for p in sorted(whole.checkpoints.glob("*.ckpt"))] == ["step=00000006.ckpt", "step=00000007.ckpt"]

    signalled = tmp_path / "signalled"
    with pytest.raises(UserError, match=f"signal {signal.SIGTERM.value} at step 4:"):
        killed(config, signalled, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert checkpoint.load(checkpoint.latest_checkpoint(Run(signalled)))["global_step"] == 4
    assert_same_end(whole, train(config, signalled))

    gone = tmp_path / "gone"
    child = os.fork()
    if child == 0:
        try:
            killed(config, gone, 5, lambda: os._exit(9))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert checkpoint.latest_checkpoint(Run(gone)).name == "step=00000004.ckpt"
    assert_same_end(whole, train(config, gone))


def test_a_scaled_loss_has_one_scale_a_step(tmp_path):
    """In fp16 the scaler steps, skips and changes its scale once a step, not once a part; so the losses follow those
    of float32."""
    how = ["trainer.accumulate=3", "trainer.max_steps=6", "trainer.log_every=1", "trainer.accelerator=cpu"]
    runs = [train(tiny("bert", *how, f"trainer.precision={p}"), tmp_path / p) for p in ("fp16", "32")]
    state = checkpoint.load(checkpoint.latest_checkpoint(runs[0]))
    half, whole = ([float(r["loss"]) for r in csv.DictReader(run.metrics.open(newline=""))] for run in runs)
    skipped = round(16 - torch.tensor(state["HalfPrecision"]["scale"]).log2().item())
    assert 0 <= skipped < 6 and state["HalfPrecision"]["_growth_tracker"] == 6 - skipped
    assert len(half) == 6 and half[0] == pytest.approx(whole[0], rel=5e-3)
    if not skipped:
        assert half == pytest.approx(whole, rel=2e-2)


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("simclr", "accumulate=2: each part has its own negatives and batch norm, as a batch of 1/2 of the size would"),
        ("rotation", None),
    ],
)
def test_what_is_computed_over_a_part_is_said_once(objective, said, tmp_path, capsys):
    train(tiny(objective, "trainer.accumulate=2", "trainer.max_steps=2"), tmp_path / "run")
    lines = [line for line in capsys.readouterr().err.splitlines() if "accumulate" in line]
    assert [said in line for line in lines] == [True] if said else not lines
