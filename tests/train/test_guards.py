"""Guards: collapse is named on numbers made up for it and on runs that do collapse; a gradient that is not
finite changes nothing."""

import json
import math
from functools import wraps
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny
from tiny_sets import TinyImages

from sslzoo.build import build, write_config
from sslzoo.data.sampler import StepSampler
from sslzoo.encoders.resnet import ResNet
from sslzoo.errors import UserError
from sslzoo.objectives.simclr import SimCLR
from sslzoo.objectives.wav2vec2 import Wav2Vec2
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import checkpoint, launch
from sslzoo.train.guards import CollapseGuard, OverfitGuard, symptoms

HEALTHY = {
    "feature_std": 0.6,
    "feature_rank": 20,
    "code_perplexity": 90,
    "accuracy": 0.5,
    "chance": 0.01,
    "loss": 2.0,
    "uniform_loss": 5.0,
    "unigram_loss": 4.0,
}
SICK = {
    "constant features": {"feature_std": 0.01},
    "features on a line": {"feature_rank": 1.3},
    "one code": {"code_perplexity": 2.1},
    "no better than chance": {"accuracy": 0.011},
    "loss of a guesser": {"loss": 4.999},
    "frequencies alone": {"loss": 3.95},
}


def start(config: dict, folder) -> Run:
    config = {k: v for k, v in config.items() if k not in ("name", "root")}
    run, job = Run(folder), build(config)
    write_config(run, config)
    launch.pretrain(job, run)
    return run


def events(run: Run) -> list[dict]:
    return [json.loads(line) for line in run.events.read_text().splitlines()] if run.events.exists() else []


@pytest.mark.parametrize("kind", SICK)
def test_each_symptom_and_no_other(kind):
    assert symptoms(HEALTHY, late=True) == {}
    found = symptoms(HEALTHY | SICK[kind], late=True)
    assert list(found) == [kind]
    assert "likely" in found[kind], "with its usual cause"
    assert "\n" not in found[kind]


def test_a_model_may_guess_at_first():
    guessing = HEALTHY | SICK["no better than chance"] | SICK["loss of a guesser"]
    assert symptoms(guessing, late=False) == {}
    assert symptoms({"loss": 3.0, "lr": 0.1}, late=True) == {}, "what is not measured is not judged"


def guard_over(tmp_path, logs, every=10, total=200, stop=False) -> tuple[Run, list[str]]:
    """A guard shown one dict of logs after another, at steps 0, 1, 2, …"""
    said = []
    guard = CollapseGuard(Run(tmp_path), every, total, stop, said.append)
    for step, logged in enumerate(logs):
        trainer = SimpleNamespace(global_step=step + 1, is_global_zero=True)
        guard.on_train_batch_end(trainer, SimpleNamespace(logged=logged, part=0), None, None, step)
    return Run(tmp_path), said


def test_three_in_a_row_are_an_event_and_said_once(tmp_path):
    run, said = guard_over(tmp_path, [HEALTHY | SICK["one code"]] * 100)
    assert [(e["kind"], e["step"]) for e in events(run)] == [("one code", 20)]
    assert len(said) == 1 and said[0].startswith("collapse at step 20: almost all get one code")


def test_a_passing_symptom_is_none(tmp_path):
    sick, well = HEALTHY | SICK["one code"], HEALTHY
    run, said = guard_over(tmp_path, [sick, sick, well] * 30, every=1)
    assert not said and not events(run)


@pytest.mark.parametrize("every", [1, 4, 10])
def test_what_is_measured_now_and_then_counts_where_it_is(tmp_path, every):
    """feature_std is there at every tenth step; looking more often does not forget it in between."""
    logs = [HEALTHY | SICK["constant features"] if step % 10 == 0 else {"loss": 1.0} for step in range(101)]
    run, _ = guard_over(tmp_path, logs, every=every)
    assert [e["kind"] for e in events(run)] == ["constant features"]


def test_late_is_a_fifth_of_the_run_and_fifty_steps_at_least(tmp_path):
    guessing = [HEALTHY | SICK["no better than chance"]] * 1000
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    assert [e["step"] for e in events(guard_over(tmp_path / "a", guessing, total=1000)[0])] == [220]
    assert [e["step"] for e in events(guard_over(tmp_path / "b", guessing, total=100)[0])] == [70]


def test_its_count_is_continued_with_the_run(tmp_path):
    run = Run(tmp_path)
    guard = CollapseGuard(run, 1, 100, True, print)
    module = SimpleNamespace(logged=HEALTHY | SICK["one code"], part=0)
    for step in (0, 1):
        guard.on_train_batch_end(SimpleNamespace(global_step=step + 1, is_global_zero=True), module, None, None, step)
    again = CollapseGuard(run, 1, 100, True, print)
    again.load_state_dict(guard.state_dict())
    with pytest.raises(UserError, match="stopped at step 2.*trainer.on_collapse=warn goes on"):
        again.on_train_batch_end(SimpleNamespace(global_step=3, is_global_zero=True), module, None, None, 2)


def overfit(guard: OverfitGuard, rows: list[tuple[float, float | None]]) -> None:
    """Show a guard (accuracy, val_accuracy) of one logged step after another; None where there is no validation."""
    for step, (accuracy, valid) in enumerate(rows):
        logged = {"accuracy": accuracy} | ({} if valid is None else {"val_accuracy": valid})
        guard.after_step(SimpleNamespace(global_step=step + 1, is_global_zero=True), SimpleNamespace(logged=logged))


def test_learning_by_heart_is_said_once_after_two_validations(tmp_path):
    run, said = Run(tmp_path), []
    overfit(OverfitGuard(run, said.append), [(0.9, None), (1.0, 0.5)] * 5)
    assert [(e["kind"], e["step"]) for e in events(run)] == [("learned by heart", 3)]
    assert len(said) == 1 and said[0].startswith("step 3: accuracy 0.950 in training, 0.500 on validation")


@pytest.mark.parametrize("rows", [
    [(0.9, 0.8)] * 9,  # no wide gap
    [(0.9, 0.5), (0.9, 0.8)] * 9,  # not two in a row
    [(0.3, None), (0.9, 0.5)] * 9,  # one lucky batch: the mean of the steps between is near
    [(0.9, None)] * 9,  # no validation
])  # fmt: skip
def test_a_run_that_generalises_is_left_alone(tmp_path, rows):
    said = []
    overfit(OverfitGuard(Run(tmp_path), said.append), rows)
    assert not said and not events(Run(tmp_path))


def test_the_overfit_guard_continues_with_the_run(tmp_path):
    run, said = Run(tmp_path), []
    first, again = OverfitGuard(run, said.append), OverfitGuard(run, said.append)
    overfit(first, [(1.0, 0.5), (1.0, None)])
    again.load_state_dict(first.state_dict())
    overfit(again, [(1.0, 0.5)])
    assert len(said) == 1
    last = OverfitGuard(run, said.append)
    last.load_state_dict(again.state_dict())
    overfit(last, [(1.0, 0.5)] * 3)
    assert len(said) == 1


def test_a_small_set_learned_by_heart_is_said(tmp_path, monkeypatch, capsys):
    """Rotation without views on 48 images of noise: it knows every one of them, and nothing of others."""
    split = TinyImages.split
    monkeypatch.setattr(TinyImages, "split", lambda self, name: split(self, name if name == "train" else "another"))
    how = ["trainer.max_steps=150", "trainer.val_every=50", "optim.lr=0.01", "objective.views=null"]
    run = start(tiny("rotation", "encoder=tiny_resnet", *how), tmp_path / "run")
    assert "learned by heart" in [e["kind"] for e in events(run)]
    assert "the training set is learned by heart" in capsys.readouterr().err


def test_a_run_whose_features_are_one_point_is_stopped(tmp_path, monkeypatch):
    forward = ResNet.forward

    def collapsed(self, *args):
        encoded = forward(self, *args)
        encoded.pooled = encoded.pooled * 1e-6 + 1
        return encoded

    monkeypatch.setattr(ResNet, "forward", collapsed)
    config = tiny("simclr", "trainer.max_steps=60", "trainer.log_every=5", "trainer.on_collapse=stop")
    with pytest.raises(UserError, match="stopped at step 10: every item is mapped to the same point"):
        start(config, tmp_path / "run")
    assert "constant features" in [e["kind"] for e in events(Run(tmp_path / "run"))]


def test_a_run_of_one_code_is_warned_of(tmp_path, monkeypatch, capsys):
    made = Wav2Vec2.__init__

    @wraps(made)  # its signature is looked at
    def collapsed(self, *args, **kwargs):
        made(self, *args, **kwargs)
        with torch.no_grad():
            self.quantizer.logits.weight.zero_()
            self.quantizer.logits.bias[[0, 8]] = 50.0

    monkeypatch.setattr(Wav2Vec2, "__init__", collapsed)
    run = start(tiny("wav2vec2", "trainer.max_steps=6", "trainer.log_every=2"), tmp_path / "run")
    assert run.done, "a warning goes on"
    assert [(e["kind"], e["step"]) for e in events(run)] == [("one code", 4)]
    assert "collapse at step 4: almost all get one code" in capsys.readouterr().err


def test_a_run_that_cannot_tell_is_said_to_guess(tmp_path, monkeypatch):
    """Views that are all alike leave SimCLR at the loss of one who guesses, log(2N - 1)."""
    project = SimCLR.project

    def blind(self, encoder, batch):
        views, pooled, (a, b) = project(self, encoder, batch)
        return views, pooled, (a * 0 + 1, b * 0 + 1)

    monkeypatch.setattr(SimCLR, "project", blind)
    run = start(tiny("simclr", "trainer.max_steps=60", "trainer.log_every=2"), tmp_path / "run")
    assert "loss of a guesser" in [e["kind"] for e in events(run)]
    assert f"({math.log(15):.3f})" in next(e["message"] for e in events(run) if e["kind"] == "loss of a guesser")


def test_healthy_runs_are_left_alone(objective, tmp_path):
    run = start(tiny(objective, "trainer.max_steps=12", "trainer.log_every=1"), tmp_path / "run")
    assert events(run) == []


def test_a_gradient_that_is_not_finite_is_named_and_never_saved(objective, tmp_path, monkeypatch):
    """It is seen at the next step that is logged or saved; the step and its items are named."""
    config = tiny(objective, "trainer.max_steps=9", "trainer.save_every=2")
    weigh = Pretrain.weigh

    def broken(self, loss):
        value, share = weigh(self, loss)
        return (value * math.inf if self.global_step == 5 else value), share

    monkeypatch.setattr(Pretrain, "weigh", broken)
    with pytest.raises(UserError, match="not finite at step 5") as stopped:
        start(config, tmp_path / "run")
    message, run = str(stopped.value), Run(tmp_path / "run")
    assert "optim.lr" in message and "\n" not in message
    job = build(config)
    split = job.data.split("train")
    sampler = StepSampler(job.data.batch, split.cut_lengths, 0, 5, 6, 0, 1, job.objective.min_batch)
    assert f"items {', '.join(map(str, sampler.global_batch(5).index[:8]))}" in message
    last = checkpoint.latest_checkpoint(run)
    assert last.name == "step=00000004.ckpt" and not run.done and not run.weights.exists()
    assert all(torch.isfinite(w).all() for w in checkpoint.load(last)["state_dict"].values())

    monkeypatch.setattr(Pretrain, "weigh", weigh)
    assert start(config, tmp_path / "run").done, "and goes on from there once it is mended"


def test_a_learning_rate_far_too_high_is_stopped(tmp_path):
    """Without our doing anything: the loss overflows, and says so."""
    with pytest.raises(UserError, match="not finite at step [1-9]"):
        start(
            tiny("bert", "optim=sgd", "optim.lr=1.0e+30", "optim.schedule.warmup=0", "trainer.max_steps=30"),
            tmp_path / "run",
        )
