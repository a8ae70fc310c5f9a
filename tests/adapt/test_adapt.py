"""`sslzoo adapt`: what is trained is what is saved, and what is loaded again is what was trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import compose
from test_contracts import batch_of
from tiny_tasks import TASKS, kind_of, tiny_run, tiny_task, write_run
from torch import nn

import sslzoo as package
from sslzoo import build, weights
from sslzoo.adapt.choose import trained
from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.data import Supervised
from sslzoo.adapt.job import build_adapt, load_adapted
from sslzoo.adapt.measure import evaluated
from sslzoo.data.loader import IGNORE, ordered_loader
from sslzoo.errors import ConfigError, UserError
from sslzoo.pretrain import Pretrain
from sslzoo.probe.splits import ByItem
from sslzoo.probe.tasks import Task
from sslzoo.run import Run
from sslzoo.tasks.classification import Classification
from sslzoo.train import checkpoint


@pytest.fixture
def own(tmp_path):
    """A copy of a tiny run, to be adapted."""

    def copy(encoder: str = "tiny_image", kind: str = "image") -> Run:
        run = Run(tmp_path / "runs" / encoder)
        shutil.copytree(tiny_run(encoder, kind).folder, run.folder, ignore=shutil.ignore_patterns("adapted"))
        return run

    return copy


def adapt(task: str, run: Run, *overrides: str, name: str | None = None) -> Run:
    """Adapt a run to a tiny task; where it is then."""
    config = tiny_task(task, "trainer.max_steps=6", "trainer.save_every=3", *overrides)
    config |= {"run": str(run.folder), "name": name}
    path = run_adapt(config, {"method": TASKS[task][1]})
    return Run(path.parent)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_loaded_is_what_was_trained(task, own, capsys):
    run = own(TASKS[task][0], kind_of(task))
    before = {name: x.clone() for name, x in build.load_encoder(run)[0].state_dict().items()}
    folder = adapt(task, run)
    method = TASKS[task][1]
    assert folder.folder == run.folder / "adapted" / f"tiny-{method}" and folder.done

    config = tiny_task(task, "trainer.max_steps=6")
    job = build_adapt({**config, "run": None}, run)
    both = nn.ModuleDict({"encoder": job.encoder, "objective": job.objective})
    start = {name: x.clone() for name, x in both.state_dict().items()}
    end = checkpoint.load(checkpoint.latest_checkpoint(folder))["state_dict"]
    both.load_state_dict(end)
    changed = {name for name, x in end.items() if not torch.equal(x, start[name])}

    saved = weights.load(folder.adapted_weights, "")
    learning = {name for name, p in both.named_parameters() if p.requires_grad}
    stored, _ = job.finished(job.encoder, job.objective, {})
    assert saved.keys() == trained(stored, job.objective).keys()
    gone = trained(job.encoder, job.objective).keys() - saved.keys()  # it served training alone
    assert bool(gone) == (method == "prefix") and learning | changed <= saved.keys() | gone
    assert saved.keys() - learning <= {name for name, _ in both.named_buffers()}
    assert any(name.startswith("encoder.") for name in saved) == (method != "head")
    if task == "resnet-full":
        assert any("running_mean" in name for name in changed)
    if method == "head":
        assert all(torch.equal(x, before[name]) for name, x in job.encoder.state_dict().items()), "it was frozen"

    encoder, objective, data = load_adapted(run, f"tiny-{method}")
    assert not encoder.training and not objective.training and data.classes == job.data.classes
    batch = batch_of(job, 0)
    with torch.no_grad():
        expected = job.objective.eval().logits(job.encoder.eval(), batch)
        assert torch.equal(objective.logits(encoder, batch), expected)
        alone = package.load_encoder(str(run.folder), adapted=f"tiny-{method}")(batch.inputs, batch.lengths)
        assert torch.equal(alone.pooled, job.encoder(batch.inputs, batch.lengths).pooled)
        plain = package.load_encoder(str(run.folder))(batch.inputs, batch.lengths)
        assert torch.equal(alone.pooled, plain.pooled) == (method == "head")

    found, said = json.loads(folder.result.read_text()), json.loads(folder.adapted.read_text())
    assert said["trained"] == {name: p.numel() for name, p in both.named_parameters() if p.requires_grad}
    assert said["saved"] == {name: x.numel() for name, x in saved.items()}
    assert found["bytes_stored"] == folder.adapted_weights.stat().st_size and found["peak_memory_gb"] > 0
    assert found["trained_parameters"] == sum(both.state_dict()[name].numel() for name in learning)
    new = {name: p.numel() for name, p in job.objective.named_parameters() if not name.startswith("language_model.")}
    assert found["head_parameters"] == sum(new.values()) and bool(new) == (method not in ("prompt", "lm_bff"))
    assert found["classes"] == job.data.classes and found["seconds"] >= 0 and found["steps"] == 6
    split = job.data.split("test")
    with torch.no_grad():
        scores = dict(job.objective.evaluate(job.encoder, ordered_loader(split, 1e9), split))
    assert found["test"] == pytest.approx(scores, abs=1e-6) and found["n_test"] == len(
        getattr(split, "questions", split)
    )
    assert next(iter(scores)) == found["metric"] == job.objective.metric
    assert found["chance"] == pytest.approx(job.objective.chance(job.data.split("train"), split))
    assert f"tiny-{method}: {found['metric']}" in capsys.readouterr().out


@pytest.mark.parametrize(("task", "kind"), [("image-full", "image"), ("text-full", "text")])
def test_it_learns(task, kind, own):
    """Brightness and words give the tiny labels away."""
    folder = adapt(task, own(TASKS[task][0], kind), "trainer.max_steps=60", "optim.lr=0.003")
    found = json.loads(folder.result.read_text())
    assert found["test"]["accuracy"] > 0.8 and found["chance"] < 0.65
    assert {"accuracy", "loss"} == set(found["valid"])


def test_the_frozen_encoder_is_in_eval_mode_at_every_step(own, monkeypatch):
    seen, step = [], Pretrain.training_step

    def watched(self, batch, batch_idx):
        seen.append(any(m.training for m in self.encoder.modules()) or not self.objective.training)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Pretrain, "training_step", watched)
    adapt("resnet-head", own("tiny_resnet"), "trainer.val_every=2")
    assert seen == [False] * 6
    adapt("image-full", own("tiny_image"))
    assert seen[6:] == [True] * 6


@pytest.mark.parametrize(("task", "trains"), [("resnet-head", False), ("resnet-full", True)])
def test_whoever_sets_the_whole_to_train_leaves_a_frozen_encoder(task, trains):
    job = build_adapt(tiny_task(task), tiny_run("tiny_resnet", "image"))
    module = Pretrain(job.encoder, job.objective, job.optim, 0, 10)
    assert module.eval().train() is module and module.objective.training
    assert any(m.training for m in module.encoder.modules()) == trains


def test_two_ranks_wait_for_no_frozen_parameter(own):
    """DDP would, if it knew of them."""
    run = own("tiny_resnet")
    words = ["trainer.accelerator=cpu", "objective.dropout=0"]
    two = adapt("resnet-head", run, "trainer=ddp", "trainer.strategy=ddp_fork", *words, name="two")
    one = adapt("resnet-head", run, *words, name="one")
    a, b = (weights.load(folder.adapted_weights, "") for folder in (one, two))
    assert a.keys() == b.keys() and two.done
    for name, x in a.items():
        assert torch.allclose(b[name], x, atol=1e-3), name


def test_the_same_command_again_evaluates_what_is_there(own, capsys, monkeypatch):
    run = own()
    folder = adapt("image-full", run)
    first, weights_then = json.loads(folder.result.read_text()), folder.adapted_weights.read_bytes()
    capsys.readouterr()
    adapt("image-full", run)
    assert "is done already" in capsys.readouterr().out
    folder.result.unlink()  # as if it was stopped between the last step and the evaluation
    adapt("image-full", run)
    again = json.loads(folder.result.read_text())
    assert again["latency_ms"].keys() == first["latency_ms"].keys() == {"1", "32"}
    assert again | {"latency_ms": 0} == first | {"latency_ms": 0}
    assert folder.adapted_weights.read_bytes() == weights_then
    with pytest.raises(ConfigError, match=r"is a run of another config .optim.lr: 0.001 -> 0.5.*choose another name="):
        adapt("image-full", run, "optim.lr=0.5")


def test_seeds_and_untrained_encoders_have_folders_of_their_own(own):
    run = own()
    base, other, untrained = (adapt("image-full", run, *words) for words in ([], ["seed=2"], ["untrained=true"]))
    assert [x.folder.name for x in (base, other, untrained)] == ["tiny-full", "tiny-full-s2", "tiny-full-untrained"]
    a, b, c = (weights.load(x.adapted_weights, "")["objective.head.weight"] for x in (base, other, untrained))
    assert not torch.equal(a, b) and not torch.equal(a, c)


def test_weights_other_than_those_adapted_are_refused(own):
    run = own()
    folder = adapt("image-full", run)
    folder.adapted_weights.write_bytes(b"damaged")
    with pytest.raises(UserError, match="adapted.safetensors is damaged.*run its `sslzoo adapt` again"):
        load_adapted(run, "tiny-full")
    weights.save(run.weights, {k: x + 1 for k, x in weights.load(run.weights, "").items()})
    with pytest.raises(UserError, match="was adapted from other weights than those"):
        load_adapted(run, "tiny-full")
    with pytest.raises(UserError, match="was not adapted as 'tiny-ful' — did you mean 'tiny-full'.*finished are: tiny"):
        package.load_encoder(str(run.folder), adapted="tiny-ful")


def test_a_table_of_texts_is_a_task(tmp_path, real_words):
    """Another data set than the run's, read with the run's tokenizer."""
    run = write_run(
        tmp_path / "run",
        compose(
            "data=text_table", f"data.path={real_words}", "data.files={train: train.tsv, test: dev.tsv}",
            "data.text=sentence", "data.vocab_size=60", "data.max_tokens=16", "encoder=tiny_text",
        ),
    )  # fmt: skip
    config = compose(
        f"run={run.folder}", "task=sst2", f"task.data.path={real_words}", "trainer.max_steps=40",
        "trainer.progress=false", "batch={_target_: sslzoo.data.sampler.ByCount, size: 16}", command="adapt",
    )  # fmt: skip
    path = run_adapt(config, {"method": "full"})
    found = json.loads(path.read_text())
    assert path.parent.name == "sst2-full" and found["classes"] == ["0", "1"] and found["n_test"] == 20
    assert found["test"]["accuracy"] > 0.9


@pytest.fixture
def real_words(tmp_path) -> Path:
    """A tiny table in SST-2's form: good words and bad ones."""
    folder, g = tmp_path / "table", np.random.default_rng(0)
    folder.mkdir()
    for name, count in (("train", 120), ("dev", 20)):
        lines = []
        for i in range(count):
            words = g.choice([["awful", "dull", "poor"], ["fine", "lovely", "great"]][i % 2], 3)
            lines.append(f"a {words[0]} film with {words[1]} and {words[2]} people {i}\t{i % 2}")
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    return folder


def test_labels_of_items_from_several_splits(own):
    """A task that splits the data anew reads each item, and its label, from where it lies."""
    data = build.make(build.described(tiny_run("tiny_speech", "speech"))["data"])
    task = Task("t", "label", split=ByItem(0.3, 0.3))
    supervised = Supervised(data, task, 320)
    originals = {name: data.split(name) for name in ("train", "valid", "test")}
    items = {
        tuple(split.read(i)[:5].tolist()): str(split.columns["label"][i])
        for split in originals.values()
        for i in range(40)
    }
    count = 0
    for name in originals:
        split = supervised.split(name)
        for i in range(len(split)):
            x, _, _, targets = split.item(i, None)
            assert items[tuple(x[:5].tolist())] == supervised.classes[int(targets["label"])]
            assert len(x) == split.lengths[i] and len(split.read(i, 5)) == split.cut_lengths[i] <= 9000
            assert split.names[i].startswith("item ")
        count += len(split)
    assert count == 120


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["task=voice"], "is about speech data: its data is image"),
        (["task=image_class", "task.label=nothing"], "this data has no labels 'nothing'; it has: label"),
        (["task=image_class", "task.classes=['0']"], "all of train is labelled '0': there is nothing to tell apart"),
        (["task=image_class", "objective.features=tokens"], "objective.features must be one of pooled, layers"),
        (["task=image_class", "objective.dropout=1.5"], "objective.dropout must be from 0 to less than 1, got 1.5"),
        (["task=image_class", "batch=3"], "batch must be null or a node, such as"),
        (["task=image_class", "batch={_target_: sslzoo.data.sampler.ByCount, sise: 3}"], "ByCount takes no 'sise'"),
        (["task=image_class", "untrained=3"], "untrained must be bool, got 3"),
        (["task=image_class", "method=hed"], "there is no method 'hed' — did you mean 'head'"),
        (["task=image_class", "method=lora", "method.r=0"], "method.r must be at least 1, got 0"),
        (["task=image_class", "method=lora", "method.targets=[q]"], "method.targets must be some of query, key, value"),
        (["task=image_class", "method=adapter_houlsby", "method.bottleneck=0"], "method.bottleneck must be at least 1"),
        (["task=image_class", "optim.groups={nothing: 0.1}"], "no parameter that learns has a name that starts with"),
        (["task=regression", "task.label=label", "head=classification"], "Classification is for classification: choose"),
        (["task=digit,regression", "objective.dropout=0", "-m"], "several (digit classification, regression regression)"),
        (["data=tiny_speech"], "its data is speech and the encoder reads image"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(own, sslzoo, words, match):
    run = own()
    code, _, err = sslzoo("adapt", "--config-dir", str(Path(__file__).parents[1] / "tiny"), f"run={run.folder}", *words)
    assert code and len(err) == 1 and match in err[0], err
    assert not (run.folder / "adapted").exists() or not list((run.folder / "adapted").iterdir())


def test_a_run_that_is_not_there(own, sslzoo):
    code, _, err = sslzoo("adapt", "run=nowhere", "task=digit")
    assert code == 1 and len(err) == 1 and "no run 'nowhere'" in err[0]
    run = own()
    run.encoder.unlink()
    code, _, err = sslzoo("adapt", f"run={run.folder}", "task=digit")
    assert code == 1 and len(err) == 1 and "has no finished encoder yet" in err[0]


def test_a_label_of_test_that_train_has_not(own, monkeypatch):
    from tiny_sets import TinyImages

    split = TinyImages.split

    def strange(self, name):
        found = split(self, name)
        if name == "test":
            found.columns["label"][3] = 9
        return found

    monkeypatch.setattr(TinyImages, "split", strange)
    with pytest.raises(UserError, match="task tiny: test has labels that train has not: 9"):
        adapt("image-full", own())


def test_an_encoder_of_one_vector_has_no_layers(own):
    with pytest.raises(ConfigError, match="ResNet gives one vector an item: set objective.features=pooled"):
        adapt("resnet-full", own("tiny_resnet"), "objective.features=layers")


def test_label_smoothing_is_of_the_loss_alone():
    job = build_adapt(tiny_task("text-full", "objective.label_smoothing=0.2"), tiny_run("tiny_text", "text"))
    batch = batch_of(job, 0)
    plain = build_adapt(tiny_task("text-full"), tiny_run("tiny_text", "text"))
    for one in (job, plain):
        one.encoder.eval(), one.objective.eval()
    with torch.no_grad():
        logits = plain.objective.logits(plain.encoder, batch)
        log_p, labels = logits.log_softmax(1), batch.targets["label"]
        nll = -log_p.gather(1, labels[:, None])[:, 0]
        assert plain.objective(plain.encoder, batch, 0).value == pytest.approx(float(nll.mean()), rel=1e-5)
        expected = float((0.8 * nll - 0.2 * log_p.mean(1)).mean())
        assert float(job.objective(job.encoder, batch, 0).value) == pytest.approx(expected, rel=1e-5)
        a, b = (dict(one.objective.evaluate(one.encoder, [batch], None)) for one in (job, plain))
        assert a == b and isinstance(job.objective, Classification)


def test_prefix_tokens_are_no_part_of_the_mean():
    job = build_adapt(tiny_task("image-full"), tiny_run("tiny_image", "image"))
    job.encoder.eval(), job.objective.eval()
    batch = batch_of(job, 0)
    with torch.no_grad():
        hidden = torch.stack(job.encoder(batch.inputs, batch.lengths).hidden).mean(0)
        expected = job.objective.head(hidden[:, job.encoder.prefix :].mean(1))
        assert job.encoder.prefix == 1
        assert torch.allclose(job.objective.logits(job.encoder, batch), expected, atol=1e-5)


def test_words_are_tagged_at_their_first_piece():
    job = build_adapt(tiny_task("text-tags"), tiny_run("tiny_text", "text"))
    split = job.data.split("train")
    original = build.make(build.described(tiny_run("tiny_text", "text"))["data"]).split("train")
    for i in range(5):
        labels, words = split.targets(i)["label"], original.intervals["tag"][i]
        assert len(labels) == len(split.read(i)) and int((labels != IGNORE).sum()) == len(words.label)
        assert [job.data.classes[labels[int(start)]] for start in words.start] == words.label.tolist()
    assert len(split.label_numbers) == sum(len(x.label) for x in original.intervals["tag"])
    batch = batch_of(job, 0)
    job.encoder.eval(), job.objective.eval()
    with torch.no_grad():
        scores = dict(job.objective.evaluate(job.encoder, [batch], None))
        logits, labels = job.objective.logits(job.encoder, batch), batch.targets["label"]
    first = labels != IGNORE
    assert scores["labelled"] == int(first.sum())
    assert scores["accuracy"] == pytest.approx(float((logits.argmax(2) == labels)[first].float().mean()))


def test_frames_of_a_cut_have_its_labels():
    """In training an utterance is read from somewhere within it, and its labels with it."""
    job = build_adapt(tiny_task("speech-tags"), tiny_run("tiny_speech", "speech"))
    split = job.data.split("train")
    index = int(split.lengths.argmax())
    assert split.lengths[index] > 9000
    for seed in (1, 2, 3):
        start, stop = split.window(index, seed)
        labels = split.targets(index, seed)["label"]
        middles = start + (torch.arange(len(labels)) + 0.5) * job.encoder.stride
        assert len(split.read(index, seed)) == stop - start == 9000
        assert torch.equal(labels, (middles >= split.lengths[index] / 2).long())


def test_a_value_is_predicted():
    job = build_adapt(tiny_task("text-score"), tiny_run("tiny_text", "text"))
    batch = batch_of(job, 0)
    job.encoder.eval(), job.objective.eval()
    with torch.no_grad():
        expected = F.mse_loss(job.objective.logits(job.encoder, batch)[:, 0], batch.targets["label"])
        assert float(job.objective(job.encoder, batch, 0).value) == pytest.approx(float(expected))
    assert job.data.classes is None and batch.targets["label"].dtype == torch.float32


def test_a_sweep_over_tasks_methods_and_seeds_is_one_table(own, sslzoo):
    """Of tasks of two kinds, each with its own head."""
    run = own("tiny_text", "text")
    folder = ["--config-dir", str(Path(__file__).parents[1] / "tiny"), f"run={run.folder}"]
    words = ["task=package,regression", "task.label=label", "method=full,head", "seed=0,1,2", "trainer.max_steps=3"]
    code, out, _ = sslzoo("adapt", "-m", *folder, *words, "trainer.progress=false")
    assert code == 0
    table = out.split("mean ± standard deviation over seeds:\n")[1].splitlines()
    assert table[0].split() == ["task", "method", "metric", "seeds", "valid", "test", "chance", "trained", "seconds"]
    rows = [line.split("  ") for line in table[1:5]]
    assert [[x.strip() for x in row if x.strip()][:3] for row in rows] == [
        ["package", "full", "accuracy"], ["package", "head", "accuracy"],
        ["regression", "full", "pearson_spearman"], ["regression", "head", "pearson_spearman"],
    ]  # fmt: skip
    found = [
        json.loads((run.folder / "adapted" / name / "result.json").read_text())["test"]["accuracy"]
        for name in ("package-full", "package-full-s1", "package-full-s2")
    ]
    assert f"{100 * np.mean(found):.1f} ± {100 * np.std(found, ddof=1):.1f}" in table[1]


def test_texts_that_are_cut_are_counted_and_other_labels_refused(tmp_path, real_words):
    """An encoder of eight tokens reads no text whole. Data that have other labels than the head are no test of it."""
    run = write_run(
        tmp_path / "run",
        compose(
            "data=text_table", f"data.path={real_words}", "data.files={train: train.tsv, test: dev.tsv}",
            "data.text=sentence", "data.vocab_size=60", "data.max_tokens=8", "encoder=tiny_text",
        ),
    )  # fmt: skip
    config = compose(
        f"run={run.folder}", "task=sst2", f"task.data.path={real_words}", "trainer.max_steps=2",
        "trainer.progress=false", "batch={_target_: sslzoo.data.sampler.ByCount, size: 16}", command="adapt",
    )  # fmt: skip
    found = json.loads(run_adapt(config, {"method": "full"}).read_text())
    assert found["cut_texts"] == {part: found[f"n_{part}"] for part in ("train", "valid", "test")}
    _, _, data = load_adapted(run, "sst2-full")
    for name in ("train.tsv", "dev.tsv"):
        lines = (real_words / name).read_text().replace("\t1", "\tgood")
        (real_words / name).write_text(lines)
    data.data.labels = ["0", "good"]
    with pytest.raises(
        UserError, match="task sst2: the labels of this data are 0, good, and those that were learned 0, 1"
    ):
        data.split("test")
    node = {**config["task"], "data": {**config["task"]["data"], "labels": ["0", "good"]}}
    with pytest.raises(
        UserError, match="0, good, and those that were learned 0, 1: name the data that it learned from"
    ):
        evaluated(run, "sst2-full", build_adapt({**config, "task": node}, run).data)
