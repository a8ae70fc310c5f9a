"""Distillation: both steps learn what they say, from a teacher that stays as it is,
and go on where they were stopped."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import compose
from test_contracts import batch_of, still
from tiny_tasks import tiny_run, tiny_task, write_run
from torch import nn

from sslzoo import weights
from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.distill import soft_labels
from sslzoo.adapt.job import build_adapt, load_adapted
from sslzoo.adapt.teacher import Teacher, pinned
from sslzoo.data.base import MASK
from sslzoo.data.loader import collate
from sslzoo.errors import ConfigError, Stopped, UserError
from sslzoo.nn.fixed import Fixed
from sslzoo.objectives.hidden_states import HiddenStates, uniform_layers
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.tasks.soft_labels import SoftLabels
from sslzoo.train import checkpoint, launch

SMALL = ["encoder.frontend.dim=8", "encoder.trunk.dim=8", "encoder.trunk.depth=1"]
MORE = {"speech": ["encoder.trunk.position.dim=8"]}
FEW = ["trainer.max_steps=4", "trainer.progress=false", "trainer.save_every=2"]


def task(kind: str = "classification", name: str = "tiny") -> dict:
    metric = {"classification": "accuracy", "regression": "pearson_spearman"}[kind]
    label = {"classification": "label", "regression": "value"}[kind]
    return {"_target_": "sslzoo.probe.tasks.Task", "name": name, "label": label, "kind": kind, "metric": metric}


def settings(run: Run, method: str, kind: str = "classification", *words: str) -> dict:
    config = compose(
        f"run={run.folder}", "task=digit", f"head={kind}", f"method={method}", *FEW, *words, command="adapt"
    )
    config.pop("teacher", None)
    return {**config, "task": task(kind)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """(a student's run, the folder of a larger run that is adapted to the tiny task) of a modality."""
    made = {}

    def pair(modality: str, kind: str = "classification") -> tuple[Run, Path]:
        if modality not in made:
            folder = tmp_path_factory.mktemp(modality)
            words = [f"data=tiny_{modality}", f"encoder=tiny_{modality}"]
            large = write_run(folder / "large", compose(*words))
            made[modality] = write_run(folder / "small", compose(*words, *SMALL, *MORE.get(modality, []))), large
        small, large = made[modality]
        teacher = large.folder / "adapted" / f"tiny-{kind}"
        if not teacher.exists():
            config = settings(large, "full", kind, "trainer.max_steps=20", "optim.lr=0.003")
            run_adapt(config | {"name": teacher.name}, {"method": "full"})
        return small, teacher

    return pair


@pytest.fixture
def student(pairs, tmp_path):
    """A copy of a student's run, and its teacher's folder."""

    def copied(modality: str = "text", kind: str = "classification") -> tuple[Run, Path]:
        small, teacher = pairs(modality, kind)
        run = Run(tmp_path / f"student-{len(list(tmp_path.iterdir()))}")
        shutil.copytree(small.folder, run.folder)
        return run, teacher

    return copied


def distilled(run: Run, teacher: Path, *words: str, method: str = "distill", kind: str = "classification") -> Run:
    more = [f"teacher={teacher}", *(["method.hidden_steps=4"] if method == "distill" else []), *words]
    path = run_adapt(settings(run, method, kind, *more), {"method": method})
    return Run(path.parent)


def both_jobs(run: Run, teacher: Path, kind: str = "classification", *words: str):
    """(the first step's job, the second's) of a student."""
    config = settings(run, "distill", kind, f"teacher={teacher}", "objective.dropout=0", *words)
    config = pinned({**config, "weights": weights.signature(run.weights)}, Path())
    job = build_adapt(config, run)
    first = job.method.on_hidden_states(job, run)
    second = build_adapt(config, run)
    table = Teacher.of(config, run, second.data).logits(second.data, "cpu")
    return first, job.method.on_logits(second, table)


@pytest.mark.parametrize("modality", ["text", "speech", "image"])
def test_a_student_of_every_modality(student, modality, capsys):
    """It is stored, loaded and measured as any other, without its teacher; and the result says what was gained."""
    run, teacher = student(modality)
    folder = distilled(run, teacher)
    assert folder.name == "tiny-distill" and folder.done and Run(folder.folder / "hidden").done
    saved = weights.load(folder.adapted_weights, "")
    encoder, objective, _ = load_adapted(run, "tiny-distill")
    assert saved.keys() == {f"encoder.{k}" for k in encoder.state_dict()} | {
        f"objective.{k}" for k in objective.state_dict()
    }
    found = json.loads(folder.result.read_text())
    assert found["teacher"]["parameters"] > 2 * found["parameters"] and found["hidden"]["steps"] == 4
    assert found["teacher"]["latency_ms"].keys() == found["latency_ms"].keys() == {"1", "32"}
    assert found["teacher"]["weights"]["adapted"] == weights.signature(teacher / "adapted.safetensors")
    assert found["teacher"]["test"] == json.loads((teacher / "result.json").read_text())["test"]
    assert "  teacher " in capsys.readouterr().out
    for step in (folder, Run(folder.folder / "hidden")):
        state = checkpoint.load(checkpoint.latest_checkpoint(step))["state_dict"]
        assert not any("teacher" in name for name in state)
    hidden = weights.load(Run(folder.folder / "hidden").weights, "")
    assert hidden.keys() == encoder.state_dict().keys() and not torch.equal(
        hidden["trunk.blocks.0.up.weight"], saved["encoder.trunk.blocks.0.up.weight"]
    )


def test_a_student_learns_what_its_teacher_knows(student):
    run, teacher = student("text")
    folder = distilled(run, teacher, "method.hidden_steps=40", "trainer.max_steps=40", "optim.lr=0.003")
    found = json.loads(folder.result.read_text())
    assert found["teacher"]["test"]["accuracy"] > 0.9 and found["test"]["accuracy"] > 0.8


def test_hidden_states_against_a_slow_loop(student):
    """In float64, over the tokens of the batch's own texts alone."""
    run, teacher = student("text")
    job, _ = both_jobs(run, teacher)
    batch = batch_of(job, 0)
    still(job)
    job.encoder.double(), job.objective.double()
    loss = job.objective(job.encoder, batch, 0)
    said = job.objective.teacher.module
    total, tokens = 0.0, 0
    for b, length in enumerate(batch.lengths.tolist()):
        one, alone = batch.inputs[b : b + 1, :length], batch.lengths[b : b + 1]
        mine, theirs = job.encoder(one, alone), said(one, alone)
        for t in range(length):
            for m, layer in ((0, 0), (1, 2)):
                weight = (job.objective.projection if m else job.objective.embedding_projection).weight
                differ = weight @ mine.hidden[m][0, t] - theirs.hidden[layer][0, t]
                total += float(sum(x * x for x in differ.tolist()) / len(differ))
            tokens += 1
    assert loss.count == tokens == int(batch.lengths.sum()) < batch.inputs.numel(), "some of it is padding"
    assert float(loss.value) == pytest.approx(total / tokens, rel=1e-10)
    assert set(loss.logs()) == {"layer_0", "layer_1"}
    assert sum(map(float, loss.logs().values())) == pytest.approx(float(loss.value))


def test_loss_averaged_over_padding(student):
    """A known mistake (the mean squared error of TinyBERT's code is over all of a batch):
    padding counts for nothing."""
    run, teacher = student("text")
    job, _ = both_jobs(run, teacher)
    still(job)
    batch = batch_of(job, 0)
    wide = copy.copy(batch)
    wide.inputs, wide.host_inputs = nn.functional.pad(batch.inputs, (0, 24 - batch.inputs.shape[1])), None
    a, b = (job.objective(job.encoder, one, 0) for one in (batch, wide))
    assert wide.inputs.shape != batch.inputs.shape and a.count == b.count
    assert float(a.value) == pytest.approx(float(b.value), rel=1e-5)


@pytest.mark.parametrize(
    ("depth", "teacher_depth", "layers"),
    [(4, 12, [3, 6, 9, 12]), (2, 6, [3, 6]), (4, 6, [2, 3, 5, 6]), (3, 3, [1, 2, 3]), (1, 5, [5]), (2, 5, [3, 5])],
)
def test_layers_are_evenly_spaced(depth, teacher_depth, layers):
    assert uniform_layers(depth, teacher_depth) == layers


def test_layers_may_be_chosen(student):
    run, teacher = student("text")
    job, _ = both_jobs(run, teacher, "classification", "method.layers=[1]")
    assert job.objective.layers == [0, 1]
    other, _ = both_jobs(run, teacher)
    batch = batch_of(job, 0)
    a, b = (float(still(one).objective(one.encoder, batch, 0).value) for one in (job, other))
    assert other.objective.layers == [0, 2] and a != b
    for layers in ([0], [3], [1, 2], []):
        with pytest.raises(ConfigError, match="one of the teacher's layers 1 to 2 for each of the student's 1, got"):
            HiddenStates(job.encoder, job.data, job.objective.teacher.module, layers)
    with pytest.raises(ConfigError, match="the student has 2 layers and its teacher 1: say whose"):
        HiddenStates(job.objective.teacher.module, job.data, job.encoder)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_logits_against_a_slow_loop(student, temperature):
    """KL of the softened distributions, T^2 before it; as batches carry the soft labels."""
    run, teacher = student("text")
    _, job = both_jobs(run, teacher, "classification", f"method.temperature={temperature}")
    still(job)
    batch = batch_of(job, 0)
    table = Teacher.of(job.config, run, job.data.data).logits(job.data.data, "cpu").double()
    with torch.no_grad():
        logits = job.objective.logits(job.encoder, batch).double()
        loss = job.objective(job.encoder, batch, 0)

    def softened(z: list[float]) -> list[float]:
        e = [np.exp(x / temperature) for x in z]
        return [x / sum(e) for x in e]

    total = 0.0
    for b, place in enumerate(batch.index.tolist()):
        q, p = softened(table[place].tolist()), softened(logits[b].tolist())
        total += temperature**2 * sum(x * np.log(x / y) for x, y in zip(q, p, strict=True))
    assert isinstance(job.objective, SoftLabels) and loss.count == len(batch)
    assert float(loss.value) == pytest.approx(total / len(batch), rel=1e-4, abs=1e-7)


def test_temperature_forgotten_at_one_side(student):
    """A known mistake. With both, a student with the teacher's logits has no loss and no gradient; and as T grows, T^2
    keeps the gradient at (z - z_teacher) / C of centred logits (Hinton et al. 2015, equation 4)."""
    z, taught = torch.tensor([[2.0, -1.0, -1.0]]), torch.tensor([[0.5, 0.25, -0.75]])

    class Said(SoftLabels):
        def __init__(self, logits: torch.Tensor, temperature: float):
            nn.Module.__init__(self)
            self.said, self.temperature = logits.requires_grad_(), temperature

        def logits(self, encoder, batch):
            return self.said

    def gradient(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        batch = type("B", (), {"targets": {"probabilities": torch.from_numpy(soft_labels(teacher, temperature))}})
        head = Said(student.clone(), temperature)
        head(nn.Identity(), batch, 0).value.backward()
        return head.said.grad

    assert gradient(taught, taught, 4.0).abs().max() < 1e-6
    assert gradient(z, taught, 200.0) == pytest.approx((z - taught) / 3, abs=0.01)
    assert (gradient(z, taught, 1.0) - gradient(z, taught, 200.0)).abs().max() > 0.05


def test_a_regression_learns_its_teachers_values(student):
    run, teacher = student("text", "regression")
    folder = distilled(run, teacher, kind="regression")
    _, job = both_jobs(run, teacher, "regression")
    table = Teacher.of(job.config, run, job.data.data).logits(job.data.data, "cpu")
    split = job.data.split("train")
    assert torch.equal(torch.from_numpy(split.labels), table[:, 0])
    assert not np.allclose(split.labels, job.data.data.split("train").labels)
    assert np.array_equal(job.data.split("valid").labels, job.data.data.split("valid").labels)
    assert json.loads(folder.result.read_text())["teacher"]["test"]["pearson_spearman"] > 0


def test_dropout_on_in_the_frozen_teacher(student):
    """A known mistake: whoever sets the whole to train leaves it in eval mode, without gradient, and unchanged."""
    run, teacher = student("text")
    job, _ = both_jobs(run, teacher)
    fixed = job.objective.teacher.module
    for module in fixed.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.9
    before = {k: x.clone() for k, x in fixed.state_dict().items()}
    module = Pretrain(job.encoder, job.objective, job.optim, 0, 10).train()
    assert module.objective.training and not any(m.training for m in fixed.modules())
    batch = batch_of(job, 0)
    a, b = (fixed(batch.inputs, batch.lengths).last for _ in range(2))
    assert torch.equal(a, b)
    optimizer = job.optim.build(module)
    job.objective(job.encoder, batch, 0).value.backward()
    optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in fixed.parameters())
    assert all(torch.equal(x, before[k]) for k, x in fixed.state_dict().items())
    missing = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing, f"no gradient reaches {missing}"  # DDP would wait for them for ever


def test_what_is_fixed_is_in_no_state_dict_and_stays_through_loading():
    inner = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    outer = nn.ModuleDict({"own": nn.Linear(3, 1), "fixed": Fixed(inner)})
    before = {k: x.clone() for k, x in inner.state_dict().items()}
    state = outer.state_dict()
    assert state.keys() == {"own.weight", "own.bias"}
    outer.load_state_dict({k: x + 1 for k, x in state.items()})
    assert all(torch.equal(x, before[k]) for k, x in inner.state_dict().items())
    assert outer.double()["fixed"].module[0].weight.dtype == torch.float64, "it moves with the rest"


@pytest.mark.parametrize("step", ["hidden", "logits"])
def test_stopped_in_either_step_and_continued_is_never_stopped(student, monkeypatch, step):
    run, teacher = student("text")
    straight = distilled(run, teacher, "objective.dropout=0.2")
    other, _ = student("text")
    train, update, now = launch.pretrain, Pretrain.optimizer_step, []

    def begin(job, folder):
        now.append("hidden" if folder.name == "hidden" else "logits")
        return train(job, folder)

    def stop(self, *args):
        update(self, *args)
        if now[-1] == step and self.global_step == 2:
            self.trainer.should_stop = True  # as a signal does

    monkeypatch.setattr(launch, "pretrain", begin)
    monkeypatch.setattr(Pretrain, "optimizer_step", stop)
    with pytest.raises(Stopped, match="stopped it at step 3 of 4"):
        distilled(other, teacher, "objective.dropout=0.2")
    monkeypatch.undo()
    folder = Run(other.folder / "adapted" / "tiny-distill")
    assert Run(folder.folder / "hidden").done == (step == "logits") and not folder.done
    again = distilled(other, teacher, "objective.dropout=0.2")
    a, b = (weights.load(one.adapted_weights, "") for one in (straight, again))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_two_ranks_are_one(student):
    words = ["trainer.accelerator=cpu", "objective.dropout=0"]
    folders = []
    for more in ([], ["trainer=ddp", "trainer.strategy=ddp_fork"]):
        run, teacher = student("image")
        folders.append(distilled(run, teacher, *words, *more))
    for files in ([f.adapted_weights for f in folders], [Run(f.folder / "hidden").weights for f in folders]):
        a, b = (weights.load(path, "") for path in files)
        assert a.keys() == b.keys() and all(torch.allclose(a[k], b[k], atol=1e-3) for k in a)


def test_rates_are_searched_after_one_first_step(student):
    run, teacher = student("text")
    folder = distilled(run, teacher, "search.lr=[0.0001,0.003]", "trainer.val_every=2")
    assert Run(folder.folder / "hidden").done and not list(folder.folder.glob("lr=*/hidden"))
    assert json.loads(folder.result.read_text())["chosen"]["lr"] in (0.0001, 0.003)


def test_the_teachers_logits_are_kept_for_these_items_alone(student):
    """A known mistake: a cache keyed by too little."""
    run, teacher = student("text")
    config = settings(run, "distill_logits", "classification", f"teacher={teacher}")
    config = pinned({**config, "weights": ""}, Path())
    job = build_adapt(config, run)
    (run.folder / "here").mkdir()
    shared = Run(run.folder / "here")
    table = job.method.taught(job, run, shared)
    path = shared.folder / "teacher_logits.safetensors"
    kept = path.read_bytes()
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="teacher_logits.safetensors is damaged"):
        job.method.taught(job, run, shared)
    path.write_bytes(kept)
    job.config["task"]["max_items"] = 20
    job = build_adapt(job.config, run)
    fewer = job.method.taught(job, run, shared)
    assert len(fewer) == 20 < len(table)
    job.config["teacher"] = {**job.config["teacher"], "adapted": "another"}
    path.unlink()
    assert torch.equal(job.method.taught(job, run, shared), fewer) and path.exists()


def test_another_kind_of_encoder_learns_logits_alone(student, tmp_path):
    """A residual network has no tokens; a transformer of other patches has other ones."""
    _, teacher = student("image")
    for number, words in enumerate((["encoder=tiny_resnet"], ["encoder=tiny_image", "encoder.frontend.patch=8"])):
        run = write_run(tmp_path / f"other-{number}", compose("data=tiny_image", *words))
        with pytest.raises(ConfigError, match="choose method=distill_logits"):
            distilled(run, teacher)
        folder = distilled(run, teacher, method="distill_logits")
        assert json.loads(folder.result.read_text())["teacher"]["test"]["accuracy"] >= 0


def test_teachers_of_something_else(student, tmp_path, sslzoo):
    run, teacher = student("text")
    flags = ["--config-dir", str(Path(__file__).parents[1] / "tiny"), f"run={run.folder}", "trainer.progress=false"]
    for words, match, code in (
        (["task=package", "method=distill"], "teacher is required: set teacher=…", 2),
        (["task=package", "method=distill", f"teacher={teacher.parents[1]}"], "names no adaptation: give RUN/adapted", 2),
        (["task=package", "method=distill", f"teacher={teacher}s"], "was not adapted as 'tiny-classifications'", 1),
        (["task=package", "method=distill", f"teacher={teacher}"], "learned the task tiny, and this one is package", 2),
        (["task=package", "method=full", f"teacher={teacher}"], "teacher", 2),
        (["task=package", "method=distill", f"teacher={teacher}", "method.hidden_steps=0"], "hidden_steps must be at", 2),
        (["task=package", "method=distill", f"teacher={teacher}", "method.temperature=0"], "temperature must be above", 2),
    ):  # fmt: skip
        found, _, err = sslzoo("adapt", *flags, *words)
        assert found == code and len(err) == 1 and match in err[0], (words, err)
    config = settings(run, "distill", "classification", f"teacher={teacher}")
    config["task"]["classes"] = ["1"]
    with pytest.raises(UserError, match="all of train is labelled"):
        run_adapt(config, {"method": "distill"})
    said = json.loads((teacher / "adapted.json").read_text())
    copied = tmp_path / "teacher" / "adapted" / "tiny-x"
    shutil.copytree(teacher.parents[1], tmp_path / "teacher")
    shutil.copytree(teacher, copied)
    (copied / "adapted.json").write_text(json.dumps({**said, "classes": ["good", "bad"]}))
    with pytest.raises(ConfigError, match="learned the classes good, bad, and the task has 0, 1: adapt the larger run"):
        distilled(run, copied)


def test_a_prompted_teacher_says_the_logits_of_its_prompts(tmp_path):
    """It reads the student's items in its template; its hidden states are of other tokens than the student's."""
    run = Run(tmp_path / "run")
    shutil.copytree(tiny_run("tiny_reviews", "text").folder, run.folder)  # other tests share it
    teacher = Run(
        run_adapt({**tiny_task("text-cloze", *FEW), "run": str(run.folder), "name": "cloze"}, {"method": "x"}).parent
    )
    config = settings(run, "distill_logits", "classification", f"teacher={teacher.folder}")
    job = build_adapt(pinned({**config, "weights": ""}, Path()), run)
    one = Teacher.of(job.config, run, job.data)
    read = one.data.split("train").read(0)
    assert int((read == MASK).sum()) == 1 and len(read) > len(job.data.split("train").read(0))
    table = one.logits(job.data, "cpu")
    encoder, objective, _ = load_adapted(run, "cloze")
    with torch.no_grad():
        expected = objective.logits(encoder, collate([(read, 0, -1, {})]))
    assert torch.allclose(table[:1], expected, atol=1e-5)
    with pytest.raises(ConfigError, match="reads prompts, and the student plain texts: .* method=distill_logits"):
        one.check_tokens(job.encoder, job.data, run)


def test_a_teachers_prompt_is_the_one_that_it_searched_and_leaves_room_for_demonstrations(tmp_path, monkeypatch):
    monkeypatch.setattr("sslzoo.prompts.search.SPANS", ((1, 0),))
    run = Run(tmp_path / "run")
    shutil.copytree(tiny_run("tiny_reviews", "text").folder, run.folder)
    words = ["method.find=[template]", "method.beam=2", "objective.sets=1", "trainer.max_steps=1"]
    config = tiny_task("text-demonstrated", *FEW, *words)
    path = run_adapt({**config, "run": str(run.folder), "name": "searched"}, {"method": "lm_bff"})
    student = settings(run, "distill_logits", "classification", f"teacher={path.parent}")
    job = build_adapt(pinned({**student, "weights": ""}, Path()), run)
    one, (_, _, own) = Teacher.of(job.config, run, job.data), load_adapted(run, "searched")
    assert one.data.tokenizer.template.text == own.tokenizer.template.text != config["prompt"]["template"]
    assert one.data.max_tokens == own.max_tokens == 24 // 3
    assert torch.isfinite(one.logits(job.data, "cpu")).all()
