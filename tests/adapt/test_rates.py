"""Heads at several learning rates in one pass end as each would alone."""

import json
import os
import signal

import pytest
import tiny_tasks
import torch
from test_adapt import adapt, own  # noqa: F401 (a fixture)
from test_contracts import assert_equal
from tiny_tasks import TASKS, tiny_task

from sslzoo import weights
from sslzoo.adapt.choose import KeepBest
from sslzoo.adapt.job import build_adapt
from sslzoo.adapt.rates import HeadsAtRates, Remembering
from sslzoo.errors import UserError
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import checkpoint
from sslzoo.train.cadence import Cadence
from sslzoo.train.launch import pretrain

RATES = [0.1, 0.003, 1e-6]
WORDS = ["trainer.val_every=2", "trainer.max_steps=7", "trainer.save_every=1", "trainer.keep=20", "trainer.log_every=1"]
LETTERS = "speech-letters-head"  # dropout, SpecAugment, LSTM
MORE = ["trainer.gradient_clip=0.05", "trainer.accumulate=2"]  # low enough to be felt


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    monkeypatch.setitem(TASKS, LETTERS, ("tiny_speech", "head", *TASKS["speech-letters"][2:]))
    for table in (tiny_tasks.SMALL, tiny_tasks.SYMBOLS):
        monkeypatch.setitem(table, LETTERS, table["speech-letters"])


def last(folder: Run) -> dict:
    return checkpoint.load(checkpoint.latest_checkpoint(folder))


@pytest.mark.parametrize(("task", "more"), [(LETTERS, MORE), ("text-head", ["optim.layer_decay=null"])])
def test_each_head_is_as_if_it_were_alone(task, more, own, tmp_path):  # noqa: F811
    encoder = TASKS[task][0]
    run = own(encoder, task.split("-")[0])
    folder = adapt(task, run, *WORDS, *more, f"search.lr={RATES}", name="together")
    both, said = last(folder), json.loads(folder.adapted.read_text())
    scores = {}
    for place, rate in enumerate(RATES):
        alone = Run(tmp_path / f"alone{place}")
        assert pretrain(build_adapt(tiny_task(task, *WORDS, *more, f"optim.lr={rate}"), run), alone)
        theirs, mine = last(alone), f"objective.heads.{place}."
        for name, tensor in theirs["state_dict"].items():
            if name.startswith("objective."):
                held = both["state_dict"][name.replace("objective.", mine, 1)]
                torch.testing.assert_close(held, tensor, rtol=1e-6, atol=1e-6, msg=name)
        assert_equal(theirs["optimizer_states"][0], both["optimizer_states"][0]["parts"][place])
        kept = json.loads(alone.adapted.read_text())
        scores[f"{rate:g}"] = kept["chosen"]["score"]
        if rate == said["chosen"]["lr"]:
            assert folder.adapted_weights.read_bytes() == alone.adapted_weights.read_bytes()
            assert said["chosen"]["step"] == kept["chosen"]["step"] and said["validation"] == kept["validation"]
            assert said["trained"] == kept["trained"]
    assert said["chosen"]["scores"] == pytest.approx(scores)
    assert not list(folder.folder.glob("lr=*")), "there is one run"


def test_a_stopped_search_ends_as_one_that_was_not(own):  # noqa: F811
    words, step = [*WORDS, f"search.lr={RATES}"], Pretrain.optimizer_step
    run = own("tiny_text", "text")
    whole = adapt("text-head", run, *words, name="whole")

    def killed(self, *args, **kwargs):
        if self.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretrain, "optimizer_step", killed)
        with pytest.raises(UserError, match="stopped by signal 15 at step 5"):
            adapt("text-head", run, *words, name="parts")
    parts = adapt("text-head", run, *words, name="parts")
    assert whole.adapted_weights.read_bytes() == parts.adapted_weights.read_bytes()
    assert_equal(last(whole)["optimizer_states"], last(parts)["optimizer_states"])
    assert json.loads(whole.adapted.read_text()) == json.loads(parts.adapted.read_text())
    assert whole.metrics.read_text() == parts.metrics.read_text()


def test_a_batch_is_encoded_once_for_all_rates(own, monkeypatch):  # noqa: F811
    calls, run = [], own("tiny_text", "text")
    kind = type(build_adapt(tiny_task("text-head"), run).encoder)
    forward = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, *args, **kw: calls.append(1) or forward(self, *args, **kw))
    adapt("text-head", run, *WORDS[1:2], "trainer.val_every=7", "search.lr=[0.1,0.01]", name="two")
    two, calls[:] = len(calls), []
    adapt("text-head", run, *WORDS[1:2], "trainer.val_every=7", "search.lr=[0.1,0.01,0.001,0.0001]", name="four")
    assert len(calls) == two > 7, "more rates ask the encoder no more"


def test_a_head_that_diverges_is_left_out(own, monkeypatch):  # noqa: F811
    run, forward = own("tiny_text", "text"), HeadsAtRates.forward

    def broken(self, encoder, batch, step):
        if step == 2:
            with torch.no_grad():
                self.heads[1].head.weight.fill_(float("nan"))
        return forward(self, encoder, batch, step)

    monkeypatch.setattr(HeadsAtRates, "forward", broken)
    folder = adapt("text-head", run, *WORDS, f"search.lr={RATES}", name="one_lost")
    chosen = json.loads(folder.result.read_text())["chosen"]
    assert chosen["scores"]["0.003"] is None and chosen["lr"] in (0.1, 1e-6)
    assert all(x.isfinite().all() for x in weights.load(folder.adapted_weights, "").values())

    def all_broken(self, encoder, batch, step):
        with torch.no_grad():
            for head in self.heads:
                head.head.weight.fill_(float("nan"))
        return forward(self, encoder, batch, step)

    monkeypatch.setattr(HeadsAtRates, "forward", all_broken)
    with pytest.raises(UserError, match="the loss of every rate in search.lr was not finite"):
        adapt("text-head", run, *WORDS, f"search.lr={RATES}", name="all_lost")


def test_what_is_remembered_is_bounded(own):  # noqa: F811
    run = own("tiny_text", "text")
    job = build_adapt(tiny_task("text-head"), run)
    keep = KeepBest(job.data, job.data.split("valid"), 0, Cadence(1))
    encoder, objective = job.encoder.eval(), job.objective.eval()
    reads = []

    def read():
        reads.append(1)
        return keep.batches(torch.device("cpu"))

    found = []
    for most in (0, 10**9):
        once = Remembering(encoder, most)
        for _ in range(3):
            with torch.no_grad():
                found.append(dict(objective.evaluate(once, once.batches("valid", read), keep.split)))
        assert (len(once.held) > 0) == (most > 0)
    assert len(reads) == 3 + 1 and all(one == found[0] for one in found)
