"""Validation chooses: the step, the learning rate; and what was stopped chooses as what was not."""

import json
import os
import signal

import pytest
import torch
from conftest import compose
from test_adapt import adapt, own  # noqa: F401 (a fixture)
from test_contracts import STOPS, stopped_is_never_stopped
from tiny_tasks import tiny_run, tiny_task

from sslzoo import weights
from sslzoo.adapt import choose
from sslzoo.adapt.job import build_adapt
from sslzoo.errors import ConfigError, UserError
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.tasks.classification import Classification
from sslzoo.train import checkpoint

SCORES = {2: 0.4, 4: 0.9, 6: 0.7, 8: 0.9, 10: 0.2, 11: 0.1}
WORDS = ["trainer.val_every=2", "trainer.max_steps=11", "trainer.save_every=1", "trainer.keep=20"]


@pytest.fixture
def scored(monkeypatch):
    """Validation is told what it scores, by the step; test scores as it does."""
    evaluate, measure, now = Classification.evaluate, choose.KeepBest.measure, []

    def fixed(self, encoder, batches, split):
        found = dict(evaluate(self, encoder, batches, split))
        yield "accuracy", SCORES[now[-1]] if now else found["accuracy"]
        yield from ((name, value) for name, value in found.items() if name != "accuracy")

    def measured(self, module):
        now.append(module.global_step)
        try:
            return measure(self, module)
        finally:
            now.clear()

    monkeypatch.setattr(Classification, "evaluate", fixed)
    monkeypatch.setattr(choose.KeepBest, "measure", measured)


def test_the_best_step_is_kept_and_the_first_of_equals(own, scored):  # noqa: F811
    folder = adapt("text-full", own("tiny_text", "text"), *WORDS)
    said, found = json.loads(folder.adapted.read_text()), json.loads(folder.result.read_text())
    assert said["chosen"] == found["chosen"] == {"step": 4, "score": pytest.approx(0.9)}
    assert [step for step, _ in said["validation"]] == [2, 4, 6, 8, 10, 11] and found["steps"] == 11
    saved = weights.load(folder.adapted_weights, "")
    then, last = (checkpoint.load(folder.checkpoints / f"step={step:08d}.ckpt")["state_dict"] for step in (4, 11))
    assert all(torch.equal(x, then[name]) for name, x in saved.items())
    assert not all(torch.equal(x, last[name]) for name, x in saved.items())
    rows = folder.metrics.read_text().splitlines()
    assert "val_accuracy" in rows[0] and "val_loss" in rows[0]


def test_a_stopped_one_chooses_alike(tmp_path, scored, monkeypatch):
    import test_contracts as contracts

    class Adapted(Run):
        weights = property(lambda self: self.adapted_weights)

    monkeypatch.setattr(contracts, "build", lambda config: build_adapt(config, tiny_run("tiny_text", "text")))
    monkeypatch.setattr(contracts, "Run", Adapted)
    config = tiny_task("text-full", *WORDS[:2], "trainer.save_every=3", "trainer.log_every=2")
    stopped_is_never_stopped(config, STOPS, tmp_path)
    said = [json.loads(Run(tmp_path / name).adapted.read_text()) for name in ("whole", "parts")]
    assert said[0] == said[1] and said[0]["chosen"]["step"] == 4


def test_without_validation_the_last_step_is_kept(own):  # noqa: F811
    folder = adapt("text-head", own("tiny_text", "text"), "trainer.val_every=null")
    last = checkpoint.load(checkpoint.latest_checkpoint(folder))["state_dict"]
    assert all(torch.equal(x, last[name]) for name, x in weights.load(folder.adapted_weights, "").items())
    assert json.loads(folder.result.read_text())["chosen"] is None
    with pytest.raises(ConfigError, match=r"is a run of another config .trainer.val_every: None -> 3"):
        adapt("text-head", own_again(folder), "trainer.val_every=3")


def own_again(folder: Run) -> Run:
    return Run(folder.folder.parents[1])


def test_a_learning_rate_is_chosen_and_a_stopped_choice_goes_on(own, capsys, monkeypatch):  # noqa: F811
    run, words, step = own("tiny_text", "text"), ["search.lr=[1.0e-6,0.01,0.003]"], Pretrain.optimizer_step

    def killed(self, *args, **kwargs):
        if self.optim.lr == 0.01 and self.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Pretrain, "optimizer_step", killed)
        with pytest.raises(UserError, match="stopped by signal 15 at step 4"):
            adapt("text-full", run, *words)
    first = run.folder / "adapted" / "tiny-full" / "lr=1e-06"
    done = (first / "DONE").stat().st_mtime_ns
    folder = adapt("text-full", run, *words)
    assert (first / "DONE").stat().st_mtime_ns == done, "it was finished already"
    found, said = json.loads(folder.result.read_text()), json.loads(folder.adapted.read_text())
    scores = found["chosen"]["scores"]
    assert scores.keys() == {"1e-06", "0.01", "0.003"} and found["chosen"]["score"] == max(scores.values())
    best = folder.folder / f"lr={found['chosen']['lr']:g}"
    assert scores[f"{found['chosen']['lr']:g}"] == max(scores.values()) > scores["1e-06"]
    assert folder.adapted_weights.read_bytes() == (best / "adapted.safetensors").read_bytes()
    assert said["chosen"] == found["chosen"] and found["valid"]["accuracy"] == pytest.approx(max(scores.values()))
    assert not list(folder.folder.glob("lr=*/result.json")), "test is read once"
    assert f"validation chose lr={found['chosen']['lr']:g}, step" in capsys.readouterr().out
    adapt("text-full", run, *words)
    assert "is done already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["search.lr=[0.1]"], "search.lr must be two learning rates or more"),
        (["search.lr=[0.1,0.1]"], "each another one"),
        (["search.lr=[0.1,0]"], "above 0"),
        (["search.lr=[0.1,0.2]", "trainer.val_every=null"], "trainer.val_every=null leaves it out"),
        (["+search.dropout=[0.1,0.2]"], "search has lr, learning rates to choose among, and nothing else"),
    ],
)
def test_what_is_no_choice(own, words, match):  # noqa: F811
    with pytest.raises(ConfigError, match=match):
        adapt("text-full", own("tiny_text", "text"), *words)


def test_it_composes():
    assert compose("run=x", "task=digit", command="adapt")["search"] == {"lr": None}
