"""`sslzoo adapt … submit=…`: the files that GLUE's and CLUE's servers take, to the letter."""

import json
import multiprocessing
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import compose
from official import CLUE, GLUE, clue, glue
from tiny_tasks import tiny_run

from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import load_adapted
from sslzoo.adapt.submit import CLUE as CLUE_SHEETS
from sslzoo.adapt.submit import GLUE as GLUE_SHEETS
from sslzoo.adapt.submit import Sheet, _put, _tsv
from sslzoo.data.tokenizer_training import train
from sslzoo.errors import ConfigError, UserError
from sslzoo.run import Run

KINDS = {"stsb": "regression", "cmrc2018": "answers"}
WORDS = {
    "cola": {"0", "1"},
    "qnli": {"entailment", "not_entailment"},
    "rte": {"entailment", "not_entailment"},
    "mnli": {"entailment", "neutral", "contradiction"},
}


@pytest.fixture
def run(tmp_path) -> Run:
    """A tiny run whose tokenizer knows a few letters and Chinese characters."""
    copy = Run(tmp_path / "run")
    shutil.copytree(tiny_run("tiny_text", "text").folder, copy.folder, ignore=shutil.ignore_patterns("adapted"))
    train("wordpiece", ["it is so the second 0 1 2 3", "今天天气很好 小明说他来了"], 60).save(
        copy.folder / "tokenizer.json"
    )
    return copy


def adapt(run: Run, task: str, folder: Path, out: Path | None, *overrides: str) -> Path:
    words = [f"task={task}", f"task.data.path={folder}", f"head={KINDS.get(task, 'classification')}", "method=head"]
    words += ["trainer.max_steps=1", "trainer.val_every=null", "trainer.progress=false", *overrides]
    words.append("batch={_target_: sslzoo.data.sampler.ByCount, size: 8}")
    config = compose(f"run={run.folder}", *words, f"submit={out or 'null'}", command="adapt")
    return run_adapt(config, {"method": "head", "task": task}, given=["task.data.path"])


@pytest.mark.parametrize("task", [name for name in GLUE if name != "mnli_mm"])
def test_files_of_glue(task, run, tmp_path, capsys):
    folder, out = glue(tmp_path, task), tmp_path / "out"
    adapt(run, task, folder, out)
    found = sorted(path.name for path in out.iterdir())
    expected = {"stsb": "STS-B", "mrpc": "MRPC", "cola": "CoLA", "sst2": "SST-2"}.get(task, task.upper())
    assert found == (["MNLI-m.tsv", "MNLI-mm.tsv"] if task == "mnli" else [f"{expected}.tsv"])
    for path in out.iterdir():
        lines = path.read_text().split("\n")
        assert lines[0] == "index\tprediction" and lines[-1] == "" and len(lines) == 7
        indices, said = zip(*(line.split("\t") for line in lines[1:-1]), strict=True)
        assert indices == ("0", "1", "2", "3", "4")
        if task == "stsb":
            assert all(0 <= float(value) <= 5 for value in said)
        else:
            assert set(said) <= WORDS.get(task, {"0", "1"})
    told = capsys.readouterr().out
    assert f"wrote {found[0]}, 5 rows, to {out}: GLUE's has" in told and "GLUE takes the archive when it has " in told
    assert "AX.tsv" in told.splitlines()[-1]


def test_what_is_said_is_what_the_model_says_in_the_order_of_the_index(run, tmp_path, capsys):
    """Rows out of order, an empty text, and a batch order that is by length."""
    folder, out = glue(tmp_path, "sst2"), tmp_path / "out"
    texts = ["a film that is long and dull", "good", "", "so bad a film was never made", "nice one"]
    (folder / "test.tsv").write_text("index\tsentence\n" + "".join(f"{4 - i}\t{x}\n" for i, x in enumerate(texts)))
    with open(folder / "test.tsv", "a") as file:
        file.write("5\t" + "so " * 40 + "\n")
    texts.insert(0, "so " * 40)
    path = adapt(run, "sst2", folder, out)
    assert "; 1 are longer than the encoder's 24 tokens and lost their end" in capsys.readouterr().out
    encoder, objective, data = load_adapted(run, path.parent.name)
    said = []
    for text in texts:
        ids = torch.from_numpy(data.encode(text, None, data.max_tokens))[None]
        with torch.inference_mode():
            said.append(int(objective.head(encoder(ids, torch.tensor([ids.shape[1]])).pooled).argmax()))
    rows = (out / "SST-2.tsv").read_text().splitlines()[1:]
    assert rows == [f"{i}\t{data.classes[label]}" for i, label in enumerate([*reversed(said[1:]), said[0]])]


def test_mnli_scores_both_genres_and_diagnoses(run, tmp_path, capsys):
    folder, out = glue(tmp_path, "mnli"), tmp_path / "glue.zip"
    (tmp_path / "diagnostic").mkdir()
    (tmp_path / "diagnostic" / "diagnostic.tsv").write_text("index\tsentence1\tsentence2\n0\ta\tb\n1\tc\td\n")
    path = adapt(run, "mnli", folder, out)
    found = json.loads(path.read_text())
    assert 0 <= found["also"]["mismatched"]["accuracy"] <= 1 and "mismatched: accuracy" in capsys.readouterr().out
    adapt(run, "rte", glue(tmp_path, "rte"), out)
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["AX.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "RTE.tsv"]
        assert archive.read("AX.tsv").decode().splitlines()[0] == "index\tprediction"
        before = archive.read("RTE.tsv")
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == (
        "GLUE takes the archive when it has CoLA.tsv, SST-2.tsv, MRPC.tsv, STS-B.tsv, QNLI.tsv, QQP.tsv, WNLI.tsv too"
    )
    out.unlink()
    adapt(run, "rte", tmp_path / "RTE", out)  # of what is done already
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["RTE.tsv"] and archive.read("RTE.tsv") == before


@pytest.mark.parametrize("task", CLUE)
def test_files_of_clue(task, run, tmp_path):
    out = tmp_path / "out"
    adapt(run, task, clue(tmp_path / task, task), out)
    names = {"clue_tnews": "tnews11", "clue_wsc": "cluewsc11", "clue_ocnli": "ocnli_50k"}
    name = names.get(task, task.removeprefix("clue_"))
    [path] = out.iterdir()
    assert path.name == f"{name}_predict.json"
    if task == "cmrc2018":
        said = json.loads(path.read_text())
        assert list(said) == [f"TEST_{i}_QUERY_0" for i in range(5)]
        assert all(isinstance(answer, str) for answer in said.values())
        return
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["id"] for row in rows] == [10, 11, 12, 13, 14] and all(list(row) == ["id", "label"] for row in rows)
    labels = {"clue_wsc": {"true", "false"}, "clue_tnews": {"100", "116"}, "clue_iflytek": {"0", "118"}}
    nli = {"entailment", "neutral", "contradiction"}
    assert {row["label"] for row in rows} <= labels.get(task, nli if task.endswith("nli") else {"0", "1"})


def test_what_cannot_be_submitted_is_refused_before_anything_is_trained(run, tmp_path):
    folder = glue(tmp_path, "rte")
    (folder / "test.tsv").unlink()
    with pytest.raises(
        UserError, match="submit needs .*RTE/test.tsv, the test split without labels, which is not there"
    ):
        adapt(run, "rte", folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="submit is for the test splits of GLUE and CLUE: .*; got swapped"):
        config = compose(f"run={run.folder}", "task=swapped", "submit=out", command="adapt")
        run_adapt(config, {"method": "full", "task": "swapped"})
    (tmp_path / "out.tsv").touch()
    with pytest.raises(ConfigError, match=r"out.tsv is a file: name a folder, or an archive that ends with .zip"):
        adapt(run, "cola", glue(tmp_path, "cola"), tmp_path / "out.tsv")
    assert not (run.folder / "adapted").exists()


def test_an_archive_that_is_none_is_left_alone(run, tmp_path):
    out = tmp_path / "glue.zip"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"glue.zip is no zip archive"):
        adapt(run, "wnli", glue(tmp_path, "wnli"), out)
    assert out.read_text() == "mine"


def test_an_index_is_a_number_and_there_once():
    sheet = Sheet("RTE.tsv", ("test.tsv",))
    with pytest.raises(UserError, match="two rows have the index 3"):
        _tsv(sheet, ["3", "03"], ["a", "b"])
    with pytest.raises(UserError, match="RTE.tsv: its rows' index are no numbers"):
        _tsv(sheet, ["x"], ["a"])


def test_every_set_has_its_files():
    """What the two servers ask for, as their rules name it."""
    glue = "CoLA SST-2 MRPC STS-B MNLI-m MNLI-mm AX QNLI QQP RTE WNLI"
    found = dict.fromkeys(sheet.file for sheets in GLUE_SHEETS.values() for sheet in sheets)
    assert list(found) == [f"{name}.tsv" for name in glue.split()] and set(GLUE_SHEETS) == set(GLUE)
    assert set(CLUE_SHEETS) == set(CLUE)


def _add(out: Path, first: int) -> None:
    for number in range(first, first + 15):
        _put(out, f"{number}.tsv", f"{number}\n")


def test_two_processes_add_to_one_archive(tmp_path):
    out, fork = tmp_path / "glue.zip", multiprocessing.get_context("fork")
    writers = [fork.Process(target=_add, args=(out, first)) for first in (0, 15)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    with zipfile.ZipFile(out) as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            f"{n}.tsv": f"{n}\n" for n in range(30)
        }
    assert [path.name for path in tmp_path.iterdir()] == ["glue.zip"]
