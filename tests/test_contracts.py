"""What every objective promises, checked over every conf/objective/*.yaml."""

import copy
import hashlib
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from conftest import modality_of, node_of, tiny
from two_ranks import on_two_ranks

from sslzoo.build import build, write_config
from sslzoo.data.loader import IGNORE, read_rows
from sslzoo.data.sampler import StepSampler
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn.drop_path import rows_of
from sslzoo.pretrain import Pretrain
from sslzoo.report import visualizations
from sslzoo.run import Run
from sslzoo.train import checkpoint, launch, plan
from sslzoo.train.refresh import pooled_features
from sslzoo.train.visualization import portable

GOLDEN = Path(__file__).parent / "golden"


def ready(config: dict):
    """A job as the trainer has it before its first step."""
    return copy.deepcopy(_ready(json.dumps(config, sort_keys=True), build))


@cache
def _ready(config_json: str, build: Callable):
    """Most contracts ask for the same job: copying it takes a third of the time that Hydra takes to build it."""
    config = json.loads(config_json)
    job = build(config)
    split = job.data.split("train")
    steps = plan.epoch_steps(split, job.data.batch, job.objective.min_batch)
    job.objective.prepare(len(split), steps, config["seed"])
    refresh(job)
    return job


def refresh(job) -> None:
    if job.objective.refresh_every is not None:
        split = job.data.split("train")
        job.objective.refresh(*pooled_features(job.encoder, split, job.data.batch.units(split.cut_lengths), "cpu"))


def batch_of(job, step: int, rank: int = 0, world: int = 1):
    split = job.data.split("train")
    sampler = StepSampler(job.data.batch, split.cut_lengths, 0, step, step + 1, rank, world, job.objective.min_batch)
    [rows] = list(sampler)
    return read_rows(split, rows)


def train(config: dict, folder: Path) -> Run:
    config = {k: v for k, v in config.items() if k not in ("name", "root")}
    run, job = Run(folder), build(config)
    write_config(run, config)
    launch.pretrain(job, run)
    return run


def still(job):
    """The same job without the dropout within encoders, which ranks and paddings draw differently."""
    for module in [*job.encoder.modules(), *job.objective.modules()]:
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return job


def gradients(job, batch, step: int = 3):
    """The loss and the gradients as the trainer has them before it averages over ranks."""
    module = Pretrain(job.encoder, job.objective, job.optim, 0, 10)
    with rows_of(batch.row_seeds):
        loss = job.objective(job.encoder, batch, step)
    value, weight = module.weigh(loss)
    value.backward()
    names, logs = module.reduce(loss, weight)
    return dict(zip(names, logs.tolist(), strict=True)), {
        n: p.grad for n, p in module.named_parameters() if p.requires_grad
    }


def test_composes_and_takes_a_step(objective):
    job = ready(tiny(objective))
    logs, grads = gradients(job, batch_of(job, 0))
    assert torch.isfinite(torch.tensor(list(logs.values()))).all()
    missing = [name for name, grad in grads.items() if grad is None]
    assert not missing, f"no gradient reaches {missing}"  # DDP would wait for them for ever
    assert any(bool(g.abs().sum() > 0) for n, g in grads.items() if n.startswith("encoder."))


def of_rows(objective: str, rows: int) -> list[str]:
    """Overrides for batches of so many rows."""
    batch = f"data.batch.{'max_items' if modality_of(objective) == 'speech' else 'size'}={rows}"
    return [batch, *([f"objective.queue={3 * rows}"] if "queue" in node_of(objective) else [])]


def test_a_batch_may_be_as_small_as_it_says_and_no_smaller(objective):
    least = build(tiny(objective)).objective.min_batch
    job = ready(tiny(objective, *of_rows(objective, least)))
    batch = batch_of(job, 0)
    logs, grads = gradients(job, batch)
    assert len(batch) == least
    assert all(torch.isfinite(x).all() for x in [torch.tensor(list(logs.values())), *grads.values()])
    if least > 1:
        with pytest.raises(ConfigError, match=rf"too small: this objective on these ranks needs .*{least}"):
            build(tiny(objective, *of_rows(objective, least - 1)))


def test_two_ranks_give_one_ranks_gradients(objective, tmp_path):
    """Of a batch that they do not share evenly."""
    config = tiny(objective, *of_rows(objective, 5 if modality_of(objective) == "speech" else 9))

    def work(rank):
        job = still(ready(config))
        batch = batch_of(job, 0, rank, 2)
        logs, grads = gradients(job, batch)
        for grad in grads.values():
            dist.all_reduce(grad)
            grad /= 2
        return {"rows": len(batch), "logs": logs, "grads": grads}

    first, second = on_two_ranks(work, tmp_path)
    assert first["rows"] == second["rows"] + 1
    grads = first["grads"]
    job = still(ready(config))
    one_logs, one_grads = gradients(job, batch_of(job, 0))
    assert first["logs"]["loss"] == second["logs"]["loss"] == pytest.approx(one_logs["loss"], rel=2e-6, abs=1e-5)
    scale = max(float(g.abs().max()) for g in one_grads.values())
    for name, grad in one_grads.items():
        assert torch.allclose(grads[name], grad, atol=5e-5 * scale), name  # one process is 3e-5 from float64 itself


def test_a_rank_with_nothing_to_lose_changes_nothing(objective, tmp_path):
    """Its rows are too short to be asked anything: then gradients and logs are those of the other's."""
    if modality_of(objective) == "image":
        pytest.skip("every image is asked something")
    config = tiny(objective)

    def short(batch, first: int, every: int):
        lengths, targets = batch.lengths.clone(), {name: y.clone() for name, y in batch.targets.items()}
        lengths[first::every] = 400 if batch.inputs.is_floating_point() else 1  # a token
        for labels in targets.values():
            if labels.ndim > 1:
                labels[first::every, 1:] = IGNORE
        return replace(batch, lengths=lengths, targets=targets)

    def work(rank):
        job = still(ready(config))
        batch = batch_of(job, 0, rank, 2)
        if rank == 1:
            batch = short(batch, 0, 1)
        count = torch.as_tensor(job.objective(job.encoder, batch, 3).count).clone()
        logs, grads = gradients(job, batch)
        for grad in grads.values():
            dist.all_reduce(grad)
            grad /= 2
        return {"count": count, "logs": logs, "grads": grads}

    first, second = on_two_ranks(work, tmp_path)
    if second["count"]:
        pytest.skip("every row is asked something")
    assert first["count"]
    job = still(ready(config))
    one_logs, one_grads = gradients(job, short(batch_of(job, 0), 1, 2))
    assert first["logs"] == second["logs"]
    assert torch.isfinite(torch.tensor([*first["logs"].values(), *one_logs.values()])).all()
    assert first["logs"]["loss"] == pytest.approx(one_logs["loss"], rel=2e-6, abs=1e-5)
    scale = max(float(g.abs().max()) for g in one_grads.values())
    for name, grad in one_grads.items():
        assert torch.allclose(first["grads"][name], grad, atol=5e-5 * scale), name


STOPS = (3, 5, 9)  # where a checkpoint is saved anyway, in the middle of an epoch, in the next epoch


def tiny_run(objective: str) -> dict:
    """The config of the run whose losses are golden, and which is stopped and continued."""
    return tiny(objective, "trainer.max_steps=12", "trainer.save_every=3", "trainer.log_every=2")


_runs = tempfile.TemporaryDirectory()  # until the session ends


@cache
def never_stopped(config_json: str) -> Run:
    """The run of a config, trained to its end without a stop."""
    folder = Path(_runs.name) / hashlib.sha256(config_json.encode()).hexdigest()
    return train(json.loads(config_json), folder)


def test_stopped_and_continued_is_never_stopped(objective, tmp_path):
    config = tiny_run(objective)
    stopped_is_never_stopped(config, STOPS, tmp_path, never_stopped(json.dumps(config)))


def stopped_is_never_stopped(config: dict, stops: Iterable[int], folder: Path, whole: Run | None = None) -> dict:
    """Hold a run that is stopped after each of these steps, and continued, to one that is not (`whole`, if it is there
    already), bit for bit. Returns the state that it was last stopped in."""
    whole, step = whole or train(config, folder / "whole"), Pretrain.optimizer_step
    middle = {}
    for stop in stops:

        def signalled(self, *args, stop=stop, **kwargs):
            if self.global_step == stop - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Pretrain, "optimizer_step", signalled)
            with pytest.raises(UserError, match=f"signal {signal.SIGTERM.value} at step {stop}:"):
                train(config, folder / "parts")
        assert not Run(folder / "parts").done
        middle = checkpoint.load(checkpoint.latest_checkpoint(Run(folder / "parts")))
        assert middle["global_step"] == stop
    parts = train(config, folder / "parts")

    a, b = (checkpoint.load(checkpoint.latest_checkpoint(run)) for run in (whole, parts))
    assert a["global_step"] == b["global_step"] == config["trainer"]["max_steps"]
    assert_equal(a["state_dict"], b["state_dict"])
    assert_equal(a["optimizer_states"], b["optimizer_states"])
    assert whole.metrics.read_text() == parts.metrics.read_text()
    assert whole.weights.read_bytes() == parts.weights.read_bytes()
    return middle["state_dict"]


def assert_equal(a, b, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{number}]")
    else:
        assert a == b, where


def test_golden_losses(objective):
    """Twelve steps of training lose what they lost when this file was written: SSLZOO_GOLDEN=1 rewrites it."""
    run = never_stopped(json.dumps(tiny_run(objective)))
    header, *rows = (line.split(",") for line in run.metrics.read_text().splitlines())
    losses = [float(row[header.index("loss")]) for row in rows]
    path = GOLDEN / f"{objective}.json"
    if os.environ.get("SSLZOO_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(losses) + "\n")
    golden = json.loads(path.read_text())
    assert losses == pytest.approx(golden, rel=2e-3, abs=2e-3 * max(map(abs, golden)))  # SimSiam's pass by zero
    assert len(losses) >= 7  # of every other step, and the first


def test_padding_changes_nothing(objective):
    job = still(ready(tiny(objective)))
    batch = batch_of(job, 0)
    if batch.inputs.ndim != 2:
        pytest.skip("images are not padded: they have one size")
    padded = replace(batch, inputs=F.pad(batch.inputs, (0, 1700 if batch.inputs.is_floating_point() else 3)))
    (logs, grads), (more_logs, more) = gradients(job, batch), gradients(still(ready(tiny(objective))), padded)
    assert more_logs["loss"] == pytest.approx(logs["loss"], abs=1e-5)
    for name, grad in grads.items():
        assert torch.allclose(more[name], grad, atol=1e-5 * max(1, float(grad.abs().max()))), name


def test_batches_do_not_depend_on_workers(objective):
    from sslzoo.data.loader import train_loader

    job = ready(tiny(objective))
    split = job.data.split("train")

    def batches(start: int, workers: int) -> list:
        return list(train_loader(split, job.data.batch, 0, start, 9, smallest=job.objective.min_batch, workers=workers))

    plain, by_workers = batches(0, 0), batches(4, 2)  # of a run that was continued at step 4
    assert len(plain) == 9
    for a, b in zip(plain[4:], by_workers, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.row_seeds, b.row_seeds) and torch.equal(a.index, b.index)


def test_state_is_all_in_the_state_dict(objective, tmp_path):
    """What `after_step` and `refresh` change is a parameter or a persistent buffer, made in __init__."""
    job = ready(tiny(objective))
    before = {k: v for k, v in vars(job.objective).items() if isinstance(v, int | float | torch.Tensor)}
    names = set(job.objective.state_dict())
    gradients(job, batch_of(job, 0))
    job.objective.after_step(job.encoder, 0, 10)
    refresh(job)
    after = {k: v for k, v in vars(job.objective).items() if isinstance(v, int | float | torch.Tensor)}
    assert before == after and names == set(job.objective.state_dict())
    assert not any(m is job.encoder for m in job.objective.modules()), "the encoder is passed, never stored"


def test_shows_its_task(objective, tmp_path):
    """`visualize` gives tensors and numbers, which torch can load without running code, and the report can draw."""
    job = ready(tiny(objective))
    shown = job.objective.eval().visualize(job.encoder.eval(), batch_of(job, 0), 5)
    assert all(isinstance(x, torch.Tensor | int) for name, x in shown.items() if name != "kind")
    torch.save(portable(shown, job.data.describe), tmp_path / "visualization.pt")
    drawn = visualizations.draw(torch.load(tmp_path / "visualization.pt", weights_only=True))
    assert shown["kind"] in visualizations.KINDS and ("data:image/png" in drawn or 'class="token' in drawn)
