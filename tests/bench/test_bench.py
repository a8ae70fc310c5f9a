"""`sslzoo bench`: which tasks a folder has data for, what is made smaller, what the table says, and that it goes on."""

import json
from pathlib import Path

import pytest
from analysis.analysed import finished
from conftest import TINY, compose

from sslzoo.adapt.command import run_adapt
from sslzoo.analysis.command import run_analyze
from sslzoo.bench.command import run_bench
from sslzoo.bench.encoders import encoders
from sslzoo.bench.questions import questions
from sslzoo.bench.scale import Scale
from sslzoo.compare.process import Command
from sslzoo.errors import ConfigError, UserError
from sslzoo.report import benches

HUMS = ["data=tiny_speech", "trainer.max_steps=2", "trainer.val_every=2", "batch.size=10", "trainer.accumulate=1"]
TINIEST = {"steps": 2, "batch": 10, "width": 8, "items": None, "folds": 2, "lr": [0.01]}


def asked(metric: str, *words: str, command: str = "adapt", **more) -> dict:
    """A task of a bench on the tiny set."""
    node = {"what": "hums", "modality": "speech", "command": command, "metrics": {metric: f"test.{metric}"}}
    return {**node, "overrides": [*words], "built_in": {"overrides": HUMS[:1], "note": "hums"}, **more}


BENCHMARK = {
    "er": asked("accuracy", "protocol=superb_er", "task.label=digits", "task.split.column=voice", folds=5),
    "qbe": asked("mtwv", "analysis=qbe", "analysis.label=digits", "analysis.queries=6", command="analyze")
    | {"metrics": {"MTWV": "mtwv"}},
    "none": asked("accuracy", "protocol=superb_ic") | {"built_in": None},
    "picture": asked("accuracy", "task=digit", "probe=knn", command="probe") | {"modality": "image"},
}


class Here(Command):
    """Runs the commands in this process."""

    def __init__(self, fail: str = ""):
        super().__init__([TINY])
        self.fail, self.ran = fail, []

    def __call__(self, command, *words):
        said = dict(word.split("=", 1) for word in words)
        name = said.get("name", said.get("analysis"))
        if self.fail and self.fail in name:
            raise UserError("it was stopped")
        self.ran.append(name)
        config = self.compose(command, [*words, "device=cpu"] if command == "analyze" else list(words))
        run_analyze(config) if command == "analyze" else run_adapt(config, {"method": "head", "data": "tiny_speech"})


def config_of(root: Path, *runs: str, **more) -> dict:
    found = compose(f"root={root}", "run=x", command="bench")
    return {**found, "run": [*runs], "benchmark": BENCHMARK, "scale": TINIEST, **more}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Runs of one encoder of speech that differ in their seed."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        finished(root / f"one-s{seed}", "data=tiny_speech", "encoder=tiny_speech", seed=seed)
    return root


def test_it_asks_goes_on_and_writes_one_table(root, capsys):
    config = config_of(root, "one-s0", "one-s1")
    stopped = Here(fail="-er-fold2")
    with pytest.raises(UserError, match="2 of 6 tasks failed; the first: one-s0, er, fold 2: it was stopped"):
        run_bench(config, stopped)
    assert "none (hums) is left out: there is no built-in set for none" in capsys.readouterr().err
    again = Here()
    results = run_bench(config, again)
    assert len(stopped.ran) == 4 and len(again.ran) == 2 and all("-er-fold2" in name for name in again.ran)
    assert run_bench(config, Here(fail="-"))["rows"] == results["rows"], "nothing is run again"
    assert results == json.loads((root / "bench" / "results.json").read_text())

    assert [row["row"] for row in results["rows"]] == ["one"], "they differ in their seed alone"
    for row in results["rows"]:
        assert row["expected"] == {"er": 2, "qbe": 2} and row["scores"].keys() == row["expected"].keys()
        values = row["scores"]["er"]["accuracy"]["values"]
        steps = [s for s in results["steps"] if s["row"] == row["row"] and s["task"] == "er"]
        each = [s["result"]["test"]["accuracy"] for s in steps]
        assert len(each) == 4 and values[0] == pytest.approx((each[0] + each[1]) / 2), "the mean of the folds"
        assert row["scores"]["qbe"]["MTWV"]["spread"] is not None
    [er] = [task for task in results["tasks"] if task["name"] == "er"]
    assert er["smaller"] == [
        "steps 2 of 30,000", "batches of 10 of 32", "projection_dim 8 of 256", "lr 0.01 for 0.0001",
        "2 of 5 folds",
    ]  # fmt: skip
    assert all(step["commit"] == results["commit"] for step in results["steps"])
    [row] = results["rows"]
    assert row["leakage"]["er"]["of"] > 0 and "said" in row["leakage"]["er"]
    folder = root / "bench"
    for text in (capsys.readouterr().out, (folder / "results.md").read_text(), (folder / "report.html").read_text()):
        assert "er accuracy" in text and "qbe MTWV" in text and "none (hums) is left out" in text
    assert not [*root.rglob("checkpoints")]


def test_a_folder_says_which_tasks_there_are(tmp_path):
    for name in ("speech/an4/etc/an4_train.fileids", "speech/an4/etc/an4_trials.txt", "SNIPS/all.iob.snips.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    config = compose("run=x", f"data_root={tmp_path}", "tasks=[asr,asv,sid,sf,er]", command="bench")
    found = {one.name: one for one in questions(config)}
    assert {name: one.data and one.data.name for name, one in found.items()} == {
        "asr": "an4", "asv": "an4", "sid": "an4", "sf": "SNIPS", "er": None,
    }  # fmt: skip
    assert f"task.trials={tmp_path}/speech/an4/etc/an4_trials.txt" in found["asv"].data.words
    assert f"data.path={tmp_path}/SNIPS" in found["sf"].data.words
    assert "er (emotions) is left out: there is no" in found["er"].missing() and "Session1" in found["er"].missing()
    every = {one.name: one for one in questions(compose("run=x", "benchmark=[superb]", command="bench"))}
    assert len(every) == 10 and all(one.data for one in every.values()), "all ten on the built-in sets"
    further = questions(compose("run=x", "benchmark=[knn,images,texts]", command="bench"))
    assert {one.name for one in further if one.data} >= {"knn_word", "digit_1", "digit_10", "swapped"}
    for one in [*every.values(), *(one for one in further if one.data)]:
        Command().compose(one.command, ["run=x", *one.words, *one.data.words])


def test_what_is_made_smaller():
    config = compose("run=x", "protocol=superb_asr", "data=spoken", command="adapt")
    assert Scale().adapt(config) == ([], [])
    words, told = Scale(steps=400, batch=16, width=128, items=9, lr=[0.1, 0.01]).adapt(config)
    assert words == [
        "trainer.max_steps=400", "trainer.val_every=4", "batch.size=16", "objective.projection_dim=128",
        "objective.hidden=128", "task.max_items=9", "search.lr=[0.1,0.01]",
    ]  # fmt: skip
    assert told[-1] == "lr 0.1 or 0.01 for 0.0001" and told[0] == "steps 400 of 200,000"
    assert "trainer.val_every=1" in Scale(steps=2).adapt(config)[0]
    config = compose("run=x", "protocol=superb_pr", "data=spoken", command="adapt")
    assert not any("hidden" in word for word in Scale(width=8).adapt(config)[0]), "phones have no recurrent layer"
    assert "trainer.accumulate=1" in Scale(batch=4).adapt(config)[0]


def test_what_other_code_asked_is_marked_and_what_was_seen_before_counted(monkeypatch):
    monkeypatch.setattr(benches, "code_changed", lambda commit: commit == "old")
    task = {
        "name": "ks",
        "what": "words",
        "data": "x",
        "note": "",
        "metrics": {"accuracy": "test.accuracy"},
        "smaller": [],
    }
    result = {"test": {"accuracy": 0.5}, "leakage": {"items": 2, "of": 9, "such_as": ["a"], "said": "two"}}
    probed = {"test": {"accuracy": 0.4}, "pretrained": {"leakage": {"unknown": "why", "said": "not counted"}}}
    common = {"task": "ks", "seed": 0, "fold": 0, "error": None}
    steps = [{"row": "a", "run": "a", "result": result, "commit": "new"}]
    steps += [{"row": "b", "run": "b", "result": probed, "commit": "old"}]
    results = {"tasks": [task], "steps": [{**common, **step} for step in steps], "missing": []}
    scores, seen, _ = benches.tables(results)
    assert [line[1] for line in scores.lines] == ["50.0", "40.0 †", "—"]
    assert seen.lines == [["a", "2 of 9"], ["b", "not counted"]]
    assert "† stale: made by other code" in benches.markdown(results)
    steps[1]["commit"] = "new"
    assert "†" not in benches.markdown({**results, "steps": [{**common, **step} for step in steps]})


def test_of_errors_the_least_is_best():
    def step(row, seed, wer):
        return {"row": row, "run": row, "task": "asr", "seed": seed, "fold": 0, "error": None,
                "result": {"test": {"wer": wer}, "chance": 1.0, "n_train": 5, "n_valid": 2, "n_test": 3}}  # fmt: skip

    task = {"name": "asr", "what": "letters", "data": "an4", "note": "", "metrics": {"WER": "test.wer"}, "smaller": []}
    steps = [step(*one) for one in (("a", 0, 0.5), ("a", 1, 0.52), ("b", 0, 0.9), ("b", 1, 0.8), ("c", 0, 0.51))]
    results = {"tasks": [task], "steps": [*steps, {**step("c", 1, 0), "result": None}], "missing": []}
    scores, what = benches.tables(results)
    assert scores.headings == ["encoder", "asr WER ↓"] and scores.bold == {(0, 1), (2, 1)}
    assert [line[1] for line in scores.lines] == ["51.0 ± 1.4", "85.0 ± 7.1", "51.0 (1/2)", "100.0"]
    assert what.lines == [["asr", "letters", "an4", "", "as published", "5 / 2 / 3"]]


@pytest.mark.parametrize(
    "change, told",
    [
        ({"tasks": ["asrr"]}, "there is no task 'asrr'"),
        ({"tasks": ["picture"]}, "task picture is about image, and the encoders read speech"),
        ({"tasks": ["none"]}, "nothing is left to ask: none .hums. is left out"),
        ({"run": ["two"]}, "no run 'two'"),
        ({"run": []}, "run is a finished run, SOURCE:WHAT, or a list"),
        ({"seeds": [0, 0]}, "seeds has one twice"),
        ({"scale": {"steps": 0}}, "scale.steps must be a whole number from 1"),
        ({"scale": {"lr": [0]}}, "scale.lr must be learning rates above 0"),
        ({"scale": {"size": 3}}, "scale has steps, batch"),
        ({"data_root": "nowhere"}, "there is no folder nowhere: data_root is where data sets lie"),
        ({"benchmark": {}}, "there are no tasks: choose some with benchmark="),
        ({"benchmark": {"x": {"command": "adapt"}}}, "benchmark.x has"),
        ({"benchmark": {"x": asked("wer", command="train")}}, "command is one of adapt, probe, analyze"),
        ({"benchmark": {"x": asked("wer") | {"built_in": {"note": "3"}}}}, "benchmark.x.built_in has"),
        ({"jobs": 0}, "jobs, the tasks at a time"),
    ],
)
def test_it_refuses(root, change, told):
    with pytest.raises(UserError, match=told):
        run_bench({**config_of(root, "one-s0"), "name": "refused", **change}, Here())


def test_a_bad_setting_of_a_task_is_refused_before_anything_runs(root):
    here, nodes = Here(), {"er": BENCHMARK["er"], "bad": asked("accuracy", "protocol=superb_ks", "task.metric=wer")}
    with pytest.raises(ConfigError, match="one-s0, bad: task .*: metric=wer does not score classification"):
        run_bench({**config_of(root, "one-s0"), "name": "bad", "benchmark": nodes}, here)
    assert here.ran == []


def test_an_untrained_encoder_is_a_run_of_its_own(root):
    import torch

    from sslzoo import build
    from sslzoo.interop.importing import import_run
    from sslzoo.run import Run

    run, made = import_run(f"untrained:{root}/one-s1", root, "before")
    assert made and import_run(f"untrained:{root}/one-s1", root, "before") == (run, False)
    before, _ = build.load_encoder(Run(root / "one-s1"), untrained=True)
    found, _ = build.load_encoder(run)
    trained, _ = build.load_encoder(Run(root / "one-s1"))
    differ = 0
    for name, x in found.state_dict().items():
        torch.testing.assert_close(x, before.state_dict()[name], rtol=0, atol=0)
        differ += not torch.equal(x, trained.state_dict()[name])
    assert differ
    rows = {one.run.name: one.row for one in encoders([str(root / "one-s0"), "one-s1"], root, untrained=True)}
    assert rows == {
        "one-s0": "one", "one-s1": "one", "one-s0-untrained": "one, untrained", "one-s1-untrained": "one, untrained",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="another run"):
        import_run(f"untrained:{root}/one-s0", root, "before")


@pytest.mark.slow
def test_all_ten_on_the_built_in_sets(root):
    config = compose(f"root={root}", "run=x", "scale=tiny", "scale.steps=2", command="bench")
    results = run_bench({**config, "run": ["one-s0"], "name": "ten"}, Command([TINY]))
    assert len(results["rows"][0]["scores"]) == 10
    assert all(part in (root / "ten" / "results.md").read_text() for part in ("eSpeak", "48 voices", "two voices"))
