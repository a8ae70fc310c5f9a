"""hf:FOLDER on a command line, wherever a run is named."""

import json

import pytest
import torch
import yaml

pytest.importorskip("transformers")
import foreign

import sslzoo as package
from sslzoo import build, initial, weights
from sslzoo.interop.importing import import_run
from sslzoo.run import Run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("theirs")
    return {name: foreign.folder_of(name, root / name) for name in ("bert", "roberta", "gpt2")}


@pytest.fixture
def table(tmp_path):
    """Sentences with a label, a tab and a line each."""
    rows = [
        f"{'the sea is large' if i % 2 else 'pots are caught'} {'by the lobster ' * (i % 5)}\t{i % 2}"
        for i in range(60)
    ]
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return ["data=text_table", "data.path=.", "data.files={train: train.tsv}", "data.text=text", "data.label=label"]


def test_import_and_what_it_says(folders, sslzoo):
    code, out, _ = sslzoo("import", f"hf:{folders['bert']}", "name=mine", "root=there")
    assert code == 0 and "bert of 2 x 16" in out and "with its head for pretraining" in out
    assert "next:  " in out and "probe run=there/mine" in out
    assert package.load("mine", root="there", device="cpu")(["the sea"]).pooled.shape == (1, 16)
    code, out, _ = sslzoo("import", f"hf:{folders['bert']}", "name=mine", "root=there")
    assert code == 0 and "imported" not in out, "it is there already"
    code, _, err = sslzoo("import", f"hf:{folders['gpt2']}", "name=mine", "root=there")
    assert code == 2 and err == ["sslzoo: there/mine is another run: choose another name=…"]
    assert sslzoo("import", str(folders["bert"]))[0] == 2
    assert sslzoo("runs", "there")[0] == 0 and sslzoo("report", "there/mine")[0] == 0


def test_probe_extract_and_adapt_import_as_they_go(folders, table, sslzoo):
    source = f"encoder=hf:{folders['roberta']}"
    code, out, err = sslzoo("probe", source, "task/split=by_item", *table)
    assert code == 0, err
    assert err[0].startswith("imported hf:") and "linear" in out
    code, _, err = sslzoo("extract", source, "out=features", "split=train", *table)
    assert code == 0 and not any("imported" in line for line in err), "it is there already"
    code, out, err = sslzoo("adapt", source, "task/split=by_item", "trainer.max_steps=2", "data.batch.size=8", *table)
    assert code == 0, err
    assert "in Python" in out


def test_a_sweep_over_folders_and_draws_of_few_labels(folders, table, tmp_path, sslzoo):
    sources = ",".join(f"hf:{folders[name]}" for name in ("bert", "roberta"))
    few = ["task.shots=2", "task.split_seed=13,21", "task/split=by_item", "data.max_tokens=32", "data.batch.size=4"]
    code, out, err = sslzoo("adapt", "-m", f"run={sources}", *few, "trainer.max_steps=2", "method=head", *table)
    assert code == 0, err
    names = sorted(path.parent.name[-14:] for path in (tmp_path / "runs").glob("*/adapted/*/result.json"))
    assert names == ["-head-2shot-13"] * 2 + ["-head-2shot-21"] * 2
    lines = out.split("over seeds:")[1].splitlines()
    assert len([line for line in lines if "accuracy" in line and " 2 " in line]) == 2, out
    code, _, err = sslzoo("pretrain", f"encoder={sources}", "objective=bert", *table)
    assert code == 2 and "pretrain takes one at a time" in err[0]


@pytest.mark.slow
def test_a_comparison_takes_folders(folders, table, tmp_path, sslzoo):
    more = [
        *table,
        "task/split=by_item",
        "data.max_tokens=32",
        "data.batch.size=4",
        "trainer.max_steps=2",
        "method=head",
    ]
    entries = f"++entries={{head: {{overrides: {json.dumps(more)}, tasks: [classification]}}}}"
    code, out, err = sslzoo("compare", f"run=hf:{folders['bert']}", "name=ways", "shots=[2]", "seeds=[13]", entries)
    assert code == 0 and "2 labels a class" in out, err
    more = [
        "objective=bert",
        f"encoder=hf:{folders['bert']}",
        "trainer.max_steps=1",
        "data.batch.size=4",
        "data.max_tokens=32",
    ]
    entries = f"++entries={{bert: {{overrides: {json.dumps([*more, *table])}, tasks: []}}}}"
    code, out, err = sslzoo("compare", "name=further", entries)
    assert code == 0 and (tmp_path / "runs" / "further" / "bert-s0" / "DONE").exists(), err


def test_a_run_goes_on_with_encoder_tokenizer_and_head(folders, table, tmp_path, sslzoo):
    words = ["objective=bert", "trainer.max_steps=2", "trainer.progress=false", "optim.lr=0.001", "data.batch.size=8"]
    code, out, err = sslzoo("pretrain", f"encoder=hf:{folders['bert']}", *words, "data.max_tokens=32", *table)
    assert code == 0, err
    name = next(line.removeprefix("wrote runs/") for line in out.splitlines() if line.startswith("wrote runs/"))
    assert name.startswith("bert-text_table-bert-")
    config = yaml.safe_load((tmp_path / "runs" / name / "config.yaml").read_text())
    source = Run(tmp_path / config["init"]["run"])
    job = build.build({**config, "init": initial.pinned(str(source.folder), tmp_path, config["objective"])})
    for part, path in ((job.encoder, source.weights), (job.objective, source.objective_weights)):
        before = weights.load(path, "")
        assert before.keys() >= part.state_dict().keys(), "of both heads, the one that is asked for"
        assert all(torch.equal(x, before[k]) for k, x in part.state_dict().items())
    done = Run(tmp_path / "runs" / name)
    after = weights.load(done.objective_weights, "")
    assert not torch.equal(after["dense.weight"], weights.load(source.objective_weights, "")["dense.weight"])
    assert (done.folder / "tokenizer.json").read_text() == (source.folder / "tokenizer.json").read_text()
    objective, encoder, data = build.load_objective(done)
    assert len(objective.bias) == len(encoder.frontend.token_embedding.weight) == data.vocab_size
    # the same command again finds both runs
    code, out, err = sslzoo("pretrain", f"encoder=hf:{folders['bert']}", *words, "data.max_tokens=32", *table)
    assert code == 0 and "is done already" in out, err


def test_shown_and_refused(folders, table, sslzoo):
    source = f"encoder=hf:{folders['bert']}"
    code, out, _ = sslzoo("pretrain", source, "objective=bert", *table, "--cfg", "job")
    assert code == 0
    shown = yaml.safe_load(out)
    assert shown["encoder"]["trunk"]["dim"] == 16 and shown["init"].startswith("runs/bert-")
    code, _, err = sslzoo("pretrain", source, "objective=bert", "init=runs/other", *table)
    assert code == 2 and "leave out init=" in err[0]
    code, _, err = sslzoo("pretrain", source, "objective=bert", *table)
    assert code == 2 and err == [
        "sslzoo: data.max_tokens=128 is more than the 64 positions of the encoder: set data.max_tokens=64"
    ]
    code, _, err = sslzoo("probe", "run=hf:nowhere", *table)
    assert code == 1 and len(err) == 1 and "there is no folder nowhere" in err[0]
    code, _, err = sslzoo("probe", f"run=hf:{folders['bert']}")
    assert code == 1 and "no data of its own" in err[-1]


def test_gpt2_goes_on_with_a_text(folders, sslzoo, tmp_path):
    code, out, err = sslzoo("generate", f"run=hf:{folders['gpt2']}", "prompt=The sea", "steps=5", "temperature=0")
    assert code == 0, err
    assert "The sea" in out
    run, made = import_run(f"hf:{folders['gpt2']}", tmp_path / "runs")
    assert not made
    encoder = package.load(f"hf:{folders['gpt2']}", root=tmp_path / "runs", device="cpu")
    assert encoder.tokenizer.encode("The sea").tolist() == encoder.tokenizer.encode_stream(["The sea"]).tolist()
    assert json.loads((run.folder / "imported.json").read_text())["specials"][:3] == [None, None, None]


def test_a_text_longer_than_its_positions_is_cut_and_said(folders, tmp_path):
    encoder = package.load(f"hf:{folders['bert']}", root=tmp_path, device="cpu")
    with pytest.warns(UserWarning, match="64"):
        out = encoder(["the sea " * 60])
    assert out.lengths.tolist() == [64]
