"""PET and iPET end to end on a tiny run with a language model: several trainings in one folder, stopped anywhere."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import compose
from tiny_tasks import tiny_run

import sslzoo as package
from sslzoo import weights
from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import build_adapt
from sslzoo.adapt.members import Ensemble, Member
from sslzoo.errors import ConfigError, Stopped, UserError
from sslzoo.nodes import make
from sslzoo.prompts.ensemble import combined, softmax
from sslzoo.run import Run
from sslzoo.train import launch
from sslzoo.train.callback import StepCallback

PATTERNS = ["{template:'{text} it is {mask} .'}", "{template:'{mask} : {text}',words:[low,high]}"]
MORE = {
    "pet": [f"prompt.patterns=[{PATTERNS[0]}]", "method.repetitions=2"],
    "ipet": ["method.generations=2", "method.growth=2.0"],
}
TASK = {"_target_": "sslzoo.probe.tasks.Task", "name": "tiny", "label": "label", "shots": 4, "split_seed": 13}


def config(method: str, *overrides: str) -> dict:
    run = tiny_run("tiny_reviews", "text")
    words = [f"run={run.folder}", "task=classification", f"method={method}", "trainer.progress=false"]
    words += [f"prompt.patterns=[{','.join(PATTERNS)}]", "prompt.words=[bad,good]", "method.unlabelled_per_row=1"]
    words += ["method.repetitions=1", "method.steps=3", "trainer.max_steps=3", "trainer.save_every=2"]
    words += ["trainer.accelerator=cpu", "objective.dropout=0", *MORE[method]]
    return {**compose(*words, *overrides, command="adapt"), "task": TASK}


@pytest.fixture
def run(tmp_path) -> Run:
    copy = Run(tmp_path / "runs" / "reviews")
    shutil.copytree(tiny_run("tiny_reviews", "text").folder, copy.folder)
    return copy


def adapt(run: Run, method: str, *overrides: str, name: str | None = None, task: dict = TASK) -> Run:
    given = {**config(method, *overrides), "run": str(run.folder), "name": name, "task": task}
    return Run(run_adapt(given, {"method": method}, given=["prompt.patterns"]).parent)


def results(folder: Run) -> dict[str, dict]:
    """result.json of each member."""
    found = sorted(folder.folder.glob("generation-*/*/result.json"))
    return {f"{path.parts[-3]}/{path.parts[-2]}": json.loads(path.read_text()) | {"seconds": 0} for path in found}


def final(folder: Run) -> dict[str, torch.Tensor]:
    return weights.load(folder.adapted_weights, "")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(x, b[name]) for name, x in a.items())


class Counted:
    """Stops a launch: after `steps` steps in all, or instead of training number `trainings`."""

    def __init__(self, monkeypatch):
        self.trained, self.stop_at, self.step_of = [], None, None
        pretrain = launch.pretrain

        def watched(job, folder):
            if self.stop_at == len(self.trained) and self.step_of is None:
                raise Stopped("stopped between two trainings")
            if self.stop_at == len(self.trained):
                job.config = {
                    **job.config,
                    "callbacks": {"stop": {"_target_": "test_pet.StopAt", "step": self.step_of}},
                }
            self.trained.append(folder.folder.name)
            return pretrain(job, folder)

        monkeypatch.setattr(launch, "pretrain", watched)


class StopAt(StepCallback):
    def __init__(self, step: int):
        self.step = step

    def after_step(self, trainer, module):
        if trainer.global_step == self.step:
            trainer.should_stop = True


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One whole ipet run, and one of pet, that tests look at."""
    found = {}
    for method in ("pet", "ipet"):
        copy = Run(tmp_path_factory.mktemp(method) / "reviews")
        shutil.copytree(tiny_run("tiny_reviews", "text").folder, copy.folder)
        found[method] = copy, adapt(copy, method)
    return found


def test_members_are_kept_in_folders_with_their_accuracies(done):
    names = {"pet": ["0/pattern-0-0", "0/pattern-0-1"], "ipet": [f"{g}/pattern-{p}-0" for g in (0, 1) for p in (0, 1)]}
    for method, expected in names.items():
        run, folder = done[method]
        found = results(folder)
        assert list(found) == [f"generation-{name}" for name in expected]
        assert all(0 <= x["accuracy_before"] <= 1 and 0 <= x["accuracy_after"] <= 1 for x in found.values())
        assert not list(folder.folder.glob("generation-*/*/checkpoints")), "no member is continued any more"
        enc = package.load(str(run.folder), adapted=folder.name)
        assert set(enc.predict(["film w1 good high", "film w2 bad low"])) <= {"0", "1"}
        said = json.loads(folder.result.read_text())
        assert list(said["models"]) == list(found) and said["seconds"] >= sum(
            x["seconds"] for x in said["models"].values()
        )
        assert said["n_train"] == 8 and said["classes"] == ["0", "1"] and said["test"]["accuracy"] >= 0
    other = found["generation-0/pattern-1-0"]
    assert [other[x] for x in ("pattern", "words", "labelled", "annotated")] == [
        "{mask} : {text}",
        ["low", "high"],
        8,
        0,
    ]
    assert found["generation-1/pattern-0-0"]["annotated"] == 8, "twice as many"
    assert found["generation-1/pattern-0-0"]["annotators"] == ["generation-0/pattern-1-0"], "another, not itself"


def test_every_member_differs_from_every_other(done):
    """PET's own code trains the same models in every generation, as its iterations ignore the seed."""
    for method, (_, folder) in done.items():
        found = results(folder)
        assert len({x["seed"] for x in found.values()}) == len(found), method
        tensors = [weights.load(folder.folder / name / "adapted.safetensors", "") for name in found]
        first = [x["encoder.frontend.token_embedding.weight"] for x in tensors]
        assert not any(torch.equal(a, b) for i, a in enumerate(first) for b in first[:i]), method


def ensemble(done, method: str) -> Ensemble:
    """The ensemble of a finished run, to be looked into."""
    run, folder = done[method]
    job = build_adapt({**config(method), "weights": weights.signature(run.weights)}, run)
    return Ensemble(job.method, job, run, folder)


def test_weights_are_accuracies_before_training(done):
    """Not after it, when few-shot models know their own items by heart."""
    own = ensemble(done, "pet")
    for member in own.members(0):
        job = own.member_job(member)  # with the run's weights
        split = job.data.data.split("train")
        with torch.no_grad():
            score = dict(job.objective.eval().evaluate(job.encoder.eval(), own.batches(split), split))["accuracy"]
        assert own.scores(member)[1] == score == results(own.shared)[member.name]["accuracy_before"]
    scores = [own.scores(member) for member in own.members(0)]
    assert own.combined() == pytest.approx(combined([x for x, _ in scores], [w for _, w in scores]))
    own.method.weights = "uniform"
    assert own.combined() == pytest.approx(np.mean([x for x, _ in scores], 0), abs=1e-6)


def test_the_classifier_learns_the_ensembles_softened_scores(done, monkeypatch):
    """At T = 2, and from the unlabelled items alone."""
    own, seen = ensemble(done, "pet"), []
    monkeypatch.setattr(launch, "pretrain", lambda job, folder: seen.append(job))
    own.method.train(own.job, own.run, own.shared, own.shared)
    [job] = seen
    split = job.data.split("train")
    assert split.probabilities.numpy() == pytest.approx(softmax(own.combined(), 2.0), abs=1e-6)
    assert job.objective.temperature == 2.0 and len(split) == len(own.texts.texts)
    labelled = {job.data.split("valid").names[i] for i in range(4)} | set(job.data.data.split("train").names)
    assert not labelled & set(split.names)


def test_stopped_and_continued_is_never_stopped(done, run, monkeypatch):
    """Between two members, within one, within one of the second generation, within the classifier; and at last not."""
    watched = Counted(monkeypatch)
    for stop_at, step_of in ((1, None), (1, 2), (4, 1), (6, 2)):
        watched.stop_at, watched.step_of = stop_at, step_of
        with pytest.raises(Stopped):
            adapt(run, "ipet")
        assert len(watched.trained) == stop_at + (step_of is not None)
    watched.stop_at = None
    folder = adapt(run, "ipet")
    assert len(watched.trained) == 5 + 3, "what was done is not done again"
    assert same(final(folder), final(done["ipet"][1]))
    assert results(folder) == results(done["ipet"][1])


def test_labels_of_unlabelled_items_are_not_read(done, run, monkeypatch):
    """False ones change nothing."""
    from sslzoo.adapt import members

    texts = members.unlabelled_texts

    def poisoned(data, file, most):
        rest = texts(data, file, most)
        for name, split in data.pool.splits.items():
            shots = set(data.pooled.parts[name] - data.pool.starts[name]) if name == "train" else set()
            column = [
                value if i in shots or name != "train" else "poison" for i, value in enumerate(split.columns["label"])
            ]
            split.columns = {"label": np.array(column, object)}
        return rest

    monkeypatch.setattr(members, "unlabelled_texts", poisoned)
    assert same(final(adapt(run, "pet")), final(done["pet"][1]))


def test_without_labels_the_first_generation_is_not_trained(run, monkeypatch):
    """And its members are trained once for all rates of the classifier that are searched."""
    watched = Counted(monkeypatch)
    folder = adapt(run, "ipet", "method.labels=false", "method.weights=uniform", "search.lr=[0.001,0.002]")
    found = results(folder)
    assert watched.trained == ["pattern-0-0", "pattern-1-0", "lr=0.001", "lr=0.002"] and len(found) == 4
    assert found["generation-1/pattern-0-0"]["annotated"] == 10
    assert all(x["labelled"] == 0 and "accuracy_after" not in x for x in found.values())
    with pytest.raises(ConfigError, match="which method.labels=false leaves out: set method.weights=uniform"):
        make(config("ipet", "method.labels=false")["method"])


def test_two_ranks_learn_what_one_does(done, run):
    two, one = adapt(run, "pet", "trainer=ddp", "trainer.strategy=ddp_fork"), done["pet"][1]
    a, b = final(one), final(two)
    assert a.keys() == b.keys() and two.done
    for name, x in a.items():
        assert torch.allclose(b[name], x, atol=1e-3), name
    same = ("seed", "accuracy_before", "labelled", "unlabelled")
    for name, found in results(one).items():
        assert [results(two)[name][key] for key in same] == [found[key] for key in same]


def test_bad_input_is_said_before_any_training(run, monkeypatch):
    monkeypatch.setattr(launch, "pretrain", lambda *_: pytest.fail("it trained"))
    with pytest.raises(
        ConfigError, match="IPET trains .* of which it needs 2 or more, and there are 1: set prompt.patterns"
    ):
        adapt(run, "ipet", f"prompt.patterns=[{PATTERNS[0]}]")
    with pytest.raises(ConfigError, match="PET trains .* of which it needs 1 or more, and there are 0"):
        adapt(run, "pet", "prompt.patterns=null")
    with pytest.raises(ConfigError, match="has {title}, a field that this data lacks"):
        adapt(run, "pet", f"prompt.patterns=[{PATTERNS[0]},{{template:'{{title}} {{mask}}'}}]")
    with pytest.raises(ConfigError, match="'splendid' is unknown to the vocabulary of this run"):
        adapt(run, "pet", f"prompt.patterns=[{PATTERNS[0]},{{template:'{{text}} {{mask}}',words:[bad,splendid]}}]")
    with pytest.raises(UserError, match="all of train's items are labelled: set task.shots"):
        adapt(run, "pet", task={**TASK, "shots": None})
    with pytest.raises(ConfigError, match="PET is for tasks of one class an item, .*not for Regression"):
        adapt(run, "pet", "head=regression", task={**TASK, "kind": "regression", "metric": "pearson", "label": "value"})
    path = Path(json.loads(run.encoder.read_text())["data"]["path"])
    (path / "other.tsv").write_text("words\nfilm")
    with pytest.raises(UserError, match="has no column 'text', but words"):
        adapt(run, "pet", "method.unlabelled=other.tsv")
    plain = tiny_run("tiny_text", "text")
    with pytest.raises(ConfigError, match=r"unlabelled texts are read from data of texts"):
        adapt(plain, "pet")
    run.objective.unlink()
    with pytest.raises(ConfigError, match=r"has no language model.*pretrain init="):
        adapt(run, "pet")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("repetitions=0", "method.repetitions must be at least 1, got 0"),
        ("alpha=1.5", "0 <= alpha < 1 and temperature > 0"),
        ("growth=1.0", "growth > 1"),
        ("generations=1", "generations >= 2"),
    ],
)
def test_settings_out_of_range_are_refused(setting, said):
    with pytest.raises(ConfigError, match=said):
        make(config("ipet", f"method.{setting}")["method"])


def test_members_have_names_of_their_own():
    assert Member(1, 2, 0, 6).name == "generation-1/pattern-2-0"
