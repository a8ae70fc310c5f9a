"""metrics.csv: a row every few steps and at the last, cut where a run goes on from."""

import csv
from types import SimpleNamespace

import pytest
from conftest import tiny

from sslzoo.build import build, write_config
from sslzoo.run import Run
from sslzoo.train import launch
from sslzoo.train.metrics import MetricsFile


def trainer_at(step: int, **more):
    return SimpleNamespace(global_step=step, is_global_zero=True, loggers=[], **more)


def log(file: MetricsFile, step: int, logged: dict, total: int = 100) -> None:
    module = SimpleNamespace(logged=logged, total_steps=total, part=0)
    file.on_train_batch_end(trainer_at(step + 1), module, None, None, step)


def rows(run: Run) -> list[dict]:
    with open(run.metrics, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path)


def test_a_row_a_logged_step(run):
    file = MetricsFile(run)
    file.on_train_start(trainer_at(0), None)
    for step in range(14):
        log(file, step, {"loss": step / 3, "lr": 0.1} if step % 5 == 0 or step == 13 else {}, total=14)
    assert [(r["step"], r["loss"]) for r in rows(run)] == [
        ("0", "0"),
        ("5", "1.66667"),
        ("10", "3.33333"),
        ("13", "4.33333"),
    ]


def test_columns_that_come_later(run):
    file = MetricsFile(run)
    log(file, 0, {"loss": 1.0, "rank": 3.0})
    log(file, 1, {"loss": 0.9})
    log(file, 2, {"loss": 0.8, "accuracy": 0.5})
    assert rows(run) == [
        {"step": "0", "loss": "1", "rank": "3", "accuracy": ""},
        {"step": "1", "loss": "0.9", "rank": "", "accuracy": ""},
        {"step": "2", "loss": "0.8", "rank": "", "accuracy": "0.5"},
    ]


def test_a_continued_run_drops_what_was_lost(run):
    """Steps 4 and 5 were written, but the checkpoint is of step 4: they are taken again."""
    file = MetricsFile(run)
    for step in range(6):
        log(file, step, {"loss": float(step)})
    again = MetricsFile(run)
    again.on_train_start(trainer_at(4), None)
    assert [r["step"] for r in rows(run)] == ["0", "1", "2", "3"]
    log(again, 4, {"loss": 40.0, "late": 1.0})
    assert [(r["step"], r["loss"], r["late"]) for r in rows(run)][-2:] == [("3", "3", ""), ("4", "40", "1")]


def test_a_run_that_starts_anew_drops_all(run):
    log(MetricsFile(run), 0, {"loss": 1.0})
    again = MetricsFile(run)
    again.on_train_start(trainer_at(0), None)
    log(again, 0, {"other": 2.0})
    assert rows(run) == [{"step": "0", "other": "2"}]


def test_a_part_of_a_step_writes_nothing(run):
    file = MetricsFile(run)
    module = SimpleNamespace(logged={"loss": 1.0}, total_steps=9, part=1)
    file.on_train_batch_end(trainer_at(0), module, None, None, 0)
    assert not run.metrics.exists()


def test_other_ranks_write_nothing(run):
    file = MetricsFile(run)
    trainer = trainer_at(1)
    trainer.is_global_zero = False
    file.on_train_batch_end(trainer, SimpleNamespace(logged={"loss": 1.0}, total_steps=9, part=0), None, None, 0)
    assert not run.metrics.exists()


def test_validation_in_a_run(objective, tmp_path):
    """The validation loss is there at its steps, of a split and draws that stay the same."""
    config = tiny(objective, "trainer.max_steps=6", "trainer.val_every=3", "trainer.log_every=3", "optim.lr=1.0e-12")
    config = {k: v for k, v in config.items() if k not in ("name", "root")}
    run, job = Run(tmp_path / "run"), build(config)
    write_config(run, config)
    launch.pretrain(job, run)
    found = [(r["step"], float(r["val_loss"])) for r in rows(run) if r["val_loss"]]
    assert [step for step, _ in found] == ["2", "5"]
    buffers = [name for part in (job.encoder, job.objective) for name, _ in part.named_buffers()]
    if not any("running" in name or name.endswith("center.center") for name in buffers):  # these move at any rate
        assert found[0][1] == pytest.approx(found[1][1], abs=1e-4)
