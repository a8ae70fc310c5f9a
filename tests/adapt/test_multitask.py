"""Training on prompted tasks: what is drawn, what is learned,
and that the task that is scored gives none of its labels."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import compose
from test_contracts import batch_of, still
from tiny_tasks import write_run

from sslzoo import weights
from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import build_adapt, load_adapted
from sslzoo.adapt.multitask import MultitaskPrompts
from sslzoo.data.base import MASK
from sslzoo.data.mixture import Mixture
from sslzoo.data.sampler import ByCount, StepSampler
from sslzoo.errors import ConfigError, Stopped
from sslzoo.pretrain import Pretrain
from sslzoo.probe.tasks import Task
from sslzoo.prompts.mixed import MixedPrompts
from sslzoo.run import Run
from sslzoo.train import launch

WORDS = [
    "terrible",
    "great",
    "incorrect",
    "correct",
    "wrong",
    "right",
    "yes",
    "no",
    "it",
    "was",
    "this",
    "is",
    ".",
    "?",
    ",",
]


def lines(task: str, count: int, seed: int) -> list[str]:
    g, found = np.random.default_rng(seed), []
    for i in range(count):
        words = " ".join(g.choice([["awful", "dull"], ["fine", "lovely"]][i % 2], 3))
        found.append(
            {
                "sst2": f"{words} film\t{i % 2}",
                "cola": f"x\t{i % 2}\t\ta {words} sentence",
                "rte": f"{i}\t{words} people\tthey are {words}\t{('entailment', 'not_entailment')[i % 2]}",
            }[task]
        )
    return found


HEADERS = {"sst2": ["sentence\tlabel"], "cola": [], "rte": ["index\tsentence1\tsentence2\tlabel"]}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Run, Path]:
    """(a run with a language model that knows the prompts' words, the folder of three tables)."""
    folder = tmp_path_factory.mktemp("world")
    for place, (task, count) in enumerate({"sst2": 40, "cola": 24, "rte": 16}.items()):
        (folder / task).mkdir()
        for name, some in (("train", count), ("dev", 12)):
            text = "\n".join([*HEADERS[task], *lines(task, some, place)]) + "\n"
            (folder / task / f"{name}.tsv").write_text(text)
    (folder / "texts").mkdir()
    some = [f"{line.split(chr(9))[0]} {' '.join(WORDS)} people they are sentence a" for line in lines("sst2", 30, 9)]
    (folder / "texts" / "train.tsv").write_text("\n".join(["text", *some]) + "\n")
    config = compose(
        "data=text_table", f"data.path={folder / 'texts'}", "data.files={train: train.tsv}", "data.text=text",
        "data.vocab_size=160", "data.max_tokens=24", "encoder=tiny_text", "objective=bert", "data.batch.size=8",
    )  # fmt: skip
    return write_run(folder / "run", config), folder


@pytest.fixture
def here(world, tmp_path) -> Run:
    run = Run(tmp_path / "run")
    shutil.copytree(world[0].folder, run.folder)
    return run


def settings(run: Run, folder: Path, *words: str, tasks: tuple[str, ...] = ("sst2", "cola")) -> dict:
    named = [f"+task@method.tasks.{name}={name}" for name in tasks]
    named += [f"+task/prompt@method.prompts.{name}={name}" for name in tasks]
    few = ["trainer.max_steps=6", "trainer.progress=false", "trainer.save_every=3", "task.data.batch.size=8"]
    return compose(
        f"run={run.folder}", "task=rte", "head=prompt_classification", f"paths.data={folder}", "method=multitask", *named,
        *few, *words, command="adapt",
    )  # fmt: skip


def trained(run: Run, folder: Path, *words: str, **more) -> Run:
    return Run(run_adapt(settings(run, folder, *words, **more), {"method": "multitask"}).parent)


def mixed(run: Run, folder: Path, monkeypatch, *words: str, **more):
    """The job that training on the mixture gets."""
    jobs = []
    config = {**settings(run, folder, *words, **more), "weights": ""}
    config.pop("data", None)
    job = build_adapt(config, run)
    with monkeypatch.context() as patch:
        patch.setattr(launch, "pretrain", lambda job, folder: jobs.append(job))
        job.method.train(job, run, run, run)
    return jobs[0]


def test_it_learns_prompts_and_scores_a_task_that_it_never_saw(here, world, sslzoo, monkeypatch):
    """By the command, with each task and its prompt from their own files."""
    monkeypatch.setenv("SSLZOO_DATA", str(world[1]))
    words = ["task=rte", "method=multitask", "tasks=[sst2,cola]", "trainer.max_steps=30", "optim.lr=0.003"]
    more = ["trainer.progress=false", "task.data.batch.size=16"]
    code, out, err = sslzoo("adapt", f"run={here.folder}", *words, *more)
    assert code == 0 and "rte-multitask: accuracy" in out, err
    folder = Run(here.folder / "adapted" / "rte-multitask")
    found = json.loads(folder.result.read_text())
    shares = found["trained_on"]["shares"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3) and found["chosen"] is None
    assert {name.split()[0] for name in shares} == {"sst2", "cola"} and found["n_test"] == 12
    with open(folder.metrics, encoding="utf-8") as file:
        header, *rows = [line.strip().split(",") for line in file]
    losses = [float(row[header.index("loss")]) for row in rows]
    assert losses[-1] < 0.8 * losses[0] and "val_loss" not in header
    encoder, objective, _ = load_adapted(here, "rte-multitask")
    saved = weights.load(folder.adapted_weights, "")
    assert type(objective).__name__ == "PromptClassification"
    assert {name for name in saved if name.startswith("objective.")} == {
        f"objective.{k}" for k in objective.state_dict()
    }
    assert all(torch.equal(saved[f"encoder.{k}"], x) for k, x in encoder.state_dict().items())


def test_none_of_the_scored_tasks_labels_is_read_in_training(here, world, tmp_path):
    """Whatever its training labels are, the same is learned."""
    other, copied = Run(tmp_path / "other"), tmp_path / "world"
    shutil.copytree(here.folder, other.folder)
    shutil.copytree(world[1], copied)
    path = copied / "rte" / "train.tsv"
    header, *rows = path.read_text().splitlines()
    swapped = [row.replace("not_", "") if "not_" in row else row.replace("entail", "not_entail") for row in rows]
    path.write_text("\n".join([header, *swapped]) + "\n")
    a, b = trained(here, world[1]), trained(other, copied)
    first, second = (weights.load(one.adapted_weights, "") for one in (a, b))
    assert all(torch.equal(first[k], second[k]) for k in first)
    with pytest.raises(
        ConfigError, match="reads no label of the task that it is scored on, and trainer.val_every would"
    ):
        trained(here, world[1], "trainer.val_every=3", "name=watched")


def test_the_loss_against_a_slow_loop(here, world, monkeypatch):
    """Of the words at the masks, over the whole vocabulary, in a batch of several tasks."""
    job = still(mixed(here, world[1], monkeypatch))
    batch = batch_of(job, 0)
    loss = job.objective(job.encoder, batch, 0)
    assert isinstance(job.objective, MixedPrompts) and loss.count == len(batch) == 8
    table, head, total = job.encoder.frontend.token_embedding.weight, job.objective.language_model, 0.0
    tokenizer, split = job.data.tokenizer, job.data.split("train")
    asked = set()
    for b, length in enumerate(batch.lengths.tolist()):
        ids = batch.inputs[b : b + 1, :length]
        at = int((ids[0] == MASK).nonzero())
        hidden = job.encoder(ids, torch.tensor([length])).last[0, at]
        logits = table @ head.norm(head.activation(head.dense(hidden))) + head.bias
        word = int(batch.targets["word"][b])
        total -= float(logits.double().log_softmax(0)[word])
        name = split.names[int(batch.index[b])]
        asked.add(name.split(":")[0].split()[0])
        expected = {"sst2": "terrible great", "cola": "incorrect correct wrong right"}[name.split(":")[0].split()[0]]
        assert tokenizer.backend.id_to_token(word) in expected.split()
    assert float(loss.value) == pytest.approx(total / len(batch), rel=1e-5) and asked == {"sst2", "cola"}


def test_tasks_are_drawn_in_proportion_to_their_items_up_to_the_cap(here, world, monkeypatch):
    """Up to 10 as many of each, though one has 36 and the other 21; a task's templates share what it has."""
    for cap in (2000, 30, 10):
        split = mixed(here, world[1], monkeypatch, f"method.cap={cap}").data.split("train")
        found, sizes = {"sst2": 0.0, "cola": 0.0}, {}
        for name, items, share in zip(split.names.parts, split.parts, split.mixture.shares, strict=True):
            found[name.split()[0]] += share
            sizes[name.split()[0]] = min(len(items), cap)
        assert (sizes["sst2"] == sizes["cola"]) == (cap == 10)
        shares = np.array([sizes["sst2"], sizes["cola"]]) / sum(sizes.values())
        assert list(found.values()) == pytest.approx(shares, abs=1 / len(split))
    pattern = "++method.prompts.sst2.patterns=[{template: 'it was {mask} . {sentence}'}]"
    split = mixed(here, world[1], monkeypatch, pattern).data.split("train")
    parts = dict(zip(split.names.parts, split.mixture.counts.tolist(), strict=True))
    assert abs(parts["sst2 1"] - parts["sst2 2"]) <= 1 and "sst2 3" not in parts
    drawn = Mixture.weighted([6, 2], [1, 1]).items(0, 0)
    assert len(drawn) == 8 and (drawn < 6).sum() == 4 and sorted(drawn[drawn >= 6]) == [6, 6, 7, 7]
    one, two = (
        StepSampler(ByCount(4), np.ones(8), 0, 0, 9, mixture=Mixture.weighted([6, 2], [1, 1])) for _ in range(2)
    )
    assert all(np.array_equal(one.global_batch(s).index, two.global_batch(s).index) for s in (5, 1, 3))


def test_stopped_and_continued_is_never_stopped(here, world, tmp_path, monkeypatch):
    other = Run(tmp_path / "other")
    shutil.copytree(here.folder, other.folder)
    straight, update = trained(here, world[1]), Pretrain.optimizer_step

    def stop(self, *args):
        update(self, *args)
        if self.global_step == 2:
            self.trainer.should_stop = True

    monkeypatch.setattr(Pretrain, "optimizer_step", stop)
    with pytest.raises(Stopped):
        trained(other, world[1])
    monkeypatch.undo()
    again = trained(other, world[1])
    a, b = (weights.load(one.adapted_weights, "") for one in (straight, again))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_two_ranks_are_one(here, world, tmp_path):
    other = Run(tmp_path / "other")
    shutil.copytree(here.folder, other.folder)
    words = ["trainer.accelerator=cpu"]
    one = trained(here, world[1], *words)
    two = trained(other, world[1], *words, "trainer=ddp", "trainer.strategy=ddp_fork", "trainer.val_every=null")
    a, b = (weights.load(folder.adapted_weights, "") for folder in (one, two))
    assert all(torch.allclose(a[k], b[k], atol=2e-3) for k in a)


@pytest.mark.parametrize(
    ("words", "tasks", "match"),
    [
        ([], (), "trains on tasks: set tasks="),
        ([], ("sst2", "rte"), "tasks: rte is what is scored, and would not be unseen"),
        (["method.cap=0"], ("sst2",), "method.cap must be at least 1, got 0"),
        (
            ["method.prompts.sst2.words=[awful film,great]"],
            ("sst2",),
            "'awful film' is 2 tokens of this run's vocabulary",
        ),
        (["method.prompts.sst2.template='{text} {mask}'"], ("sst2",), "{text}, a field that this data lacks"),
        (["method.prompts.sst2.template='{sentence}'"], ("sst2",), "prompt.template needs {mask} once"),
        (["method.tasks.sst2.data=null"], ("sst2",), "tasks: sst2 is no classification with data of its own"),
        (["batch={_target_: sslzoo.data.sampler.ByTokens, tokens: 64}"], ("sst2",), "batches by length cannot"),
        (["head=classification"], ("sst2",), "asks for classes by prompts, and Classification does not"),
    ],
)
def test_mistakes_are_one_line(here, world, words, tasks, match):
    with pytest.raises(ConfigError, match=match.replace("{", r"\{").replace("}", r"\}")):
        trained(here, world[1], *words, tasks=tasks)
    assert not (here.folder / "adapted" / "rte-multitask" / "DONE").exists()


def test_a_task_without_a_prompt():
    task = Task("package", "label", data=object())
    with pytest.raises(ConfigError, match="tasks: package has no prompt: leave it out"):
        MultitaskPrompts({"package": task}, {})
