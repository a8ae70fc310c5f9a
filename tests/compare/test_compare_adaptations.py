"""`sslzoo compare` of ways of adapting one encoder: what is run, what the tables say,
and that a stopped one goes on."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import compose
from folders import make_run, part
from tiny_tasks import tiny_run, write_run

from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import load_adapted
from sslzoo.cli.compose import with_head
from sslzoo.compare.plan import plan
from sslzoo.compare.process import Command
from sslzoo.compare.run import compare
from sslzoo.config import options
from sslzoo.errors import ConfigError, UserError
from sslzoo.report import adaptation_page, adaptations
from sslzoo.run import Run, write_json

CONFIG = {
    "name": "ways",
    "seeds": [13, 21],
    "shots": [{2: ["trainer.max_steps=2"]}, "all"],
    "shared": {"overrides": ["trainer.progress=false"], "tasks": ["digit"]},
    "entries": {
        "full": {"overrides": ["method=full"]},
        "head": {"overrides": ["method=head"], "tasks": [{"colour": ["task.label=label"]}]},
        "lora": {"overrides": ["method=lora", "method.r=2"], "shots": [2]},  # with the steps that others have
    },
}


class Here(Command):
    """Runs `sslzoo adapt` in this process."""

    def __init__(self, fail: str = ""):
        super().__init__(words=lambda _, words: [*words, "head=classification"])
        self.fail, self.ran = fail, []

    def __call__(self, command, *words):
        said = dict(word.split("=", 1) for word in words)
        assert command == "adapt" and said["name"] != self.fail, "it was stopped"
        self.ran.append(said["name"])
        run_adapt(self.compose("adapt", list(words)), {"method": said["method"], "task": said["task"]})


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """(root, config) of a comparison on a tiny encoder of images, and what it was stopped at."""
    root = tmp_path_factory.mktemp("runs")
    shutil.copytree(tiny_run("tiny_image", "image").folder, root / "tiny")
    tasks = [{"classification": ["task.label=label"]}]
    shared = {"overrides": ["trainer.progress=false", "optim.lr=0.01", "trainer.max_steps=3"], "tasks": tasks}
    config = {**CONFIG, "run": "tiny", "shared": shared, "shots": [2, "all"]}
    config["entries"] = {name: {**CONFIG["entries"][name], "tasks": []} for name in CONFIG["entries"]}
    return root, config


def test_the_plan_goes_from_few_labels_to_all_and_seed_by_seed(tmp_path):
    made = plan(CONFIG, Path("runs"), Run(Path("runs/enc")))
    assert [one.name for one in made] == [
        *(
            "ways-digit-full-2shot-13",
            "ways-digit-head-2shot-13",
            "ways-digit-lora-2shot-13",
            "ways-colour-head-2shot-13",
        ),
        *(
            "ways-digit-full-2shot-21",
            "ways-digit-head-2shot-21",
            "ways-digit-lora-2shot-21",
            "ways-colour-head-2shot-21",
        ),
        *("ways-digit-full-s13", "ways-digit-head-s13", "ways-colour-head-s13"),
        *("ways-digit-full-s21", "ways-digit-head-s21", "ways-colour-head-s21"),
    ]
    assert made[5].overrides == [
        "task=digit", "trainer.progress=false", "method=head", "trainer.max_steps=2", "name=ways-digit-head-2shot-21",
        "root=runs", "seed=21", "task.shots=2", "task.split_seed=21",
    ]  # fmt: skip
    assert made[10].overrides[:3] == ["task=colour", "task.name=colour", "task.label=label"]
    assert not any("shots" in word for word in made[10].overrides)
    assert "trainer.max_steps=2" in made[2].overrides, "of an entry's own shots, too"
    assert made[0].run.folder == Path("runs/enc/adapted/ways-digit-full-2shot-13")


def test_it_adapts_writes_its_tables_and_goes_on(real, capsys):
    root, config = real
    stopped = Here(fail="ways-classification-head-2shot-21")
    with pytest.raises(AssertionError, match="it was stopped"):
        compare(config, root, stopped)
    again = Here()
    results = compare(config, root, again)
    out = capsys.readouterr().out
    assert stopped.ran + again.ran == [one.name for one in plan(config, root, Run(root / "tiny"))]
    assert again.ran[0] == stopped.fail and results == json.loads((root / "ways" / "results.json").read_text())
    third = Here()
    assert compare(config, root, third)["rows"] == results["rows"] and third.ran == []
    assert "10 of 10 are done already" in capsys.readouterr().err
    assert not [*root.rglob("checkpoints")] and load_adapted(Run(root / "tiny"), "ways-classification-lora-2shot-13")

    rows = {(row["entry"], row["shots"]): row for row in results["rows"]}
    assert rows.keys() == {("full", 2), ("head", 2), ("lora", 2), ("full", None), ("head", None)}
    for (entry, shots), row in rows.items():
        assert row["task"] == "classification" and len(row["test"]["values"]) == row["expected"] == 2
        frozen = row["trained_parameters"]["mean"] == row["head_parameters"]["mean"] > 0
        assert frozen == (entry == "head")
        assert row["seconds"]["mean"] > 0 and row["latency_ms_32"]["mean"] > 0 and row["bytes_stored"]["mean"] > 0
        assert (row["n_train"] < rows["full", None]["n_train"]) == (shots == 2)
        assert row["beats"].keys() == {"full", "head"} - {entry}
    assert rows["lora", 2]["trained_parameters"]["mean"] < rows["full", 2]["trained_parameters"]["mean"]
    for told in (out, (root / "ways" / "results.md").read_text()):
        assert "2 labels a class" in told and "All labels" in told and "ms at batch 1" in told
        assert "of test in the pretraining set" in told
    leaked = [run["result"]["leakage"] for run in results["runs"]]
    assert all(one["of"] == 48 and 0 <= one["items"] <= 48 for one in leaked)
    page = (root / "ways" / "report.html").read_text()
    assert "classification, 2 labels a class" in page and "parameters trained" in page


def test_what_is_planned_is_checked_before_anything_runs(real):
    root, config = real
    here = Here()
    wrong = {**config, "name": "other", "entries": {**config["entries"], "z": {"overrides": ["method.r=2"]}}}
    with pytest.raises(ConfigError, match="other-classification-z-2shot-13: .*method.r"):
        compare(wrong, root, here)
    wrong = {**config, "entries": {"full": {"overrides": ["method=full", "optim.lr=0.5"]}}}
    with pytest.raises(ConfigError, match="is a run of another config .*optim.lr: 0.01 -> 0.5"):
        compare(wrong, root, here)
    with pytest.raises(UserError, match="no run 'tinny'"):
        compare({**config, "run": "tinny"}, root, here)
    assert here.ran == [] and not (root / "other").exists()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"shots": [0]}, "must be labels a class"),
        ({"shots": ["some"]}, "must be labels a class"),
        ({"shots": [{2: "x"}]}, "shots.2 must be a list of strings"),
        ({"entries": {"full": {"label": []}}}, "entries.full may have overrides, tasks, shots"),
        ({"entries": {"full": {"overrides": ["task.shots=3"]}}}, "sets task.shots=3, which the comparison"),
        ({"shared": {}, "entries": {"full": {}}}, "entries.full has no tasks"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_in_one_line(change, words):
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        plan({**CONFIG, **change}, Path("runs"), Run(Path("runs/enc")))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="shots are labels to adapt to: name the run"):
        plan(CONFIG, Path("runs"))


@pytest.mark.parametrize("name", [name for name in options("comparison") if name.startswith("adaptation")])
def test_every_comparison_can_be_carried_out(name, tmp_path):
    command = Command(words=lambda command, words: with_head(words) if command == "adapt" else words)
    config = command.compose("compare", [f"comparison={name}"])
    with pytest.raises(ConfigError, match="name the run that entries adapt, run="):
        plan(config, tmp_path)
    parts = {
        "adaptation_digits": ["data=tiny_image", "encoder=vit_small"],
        "adaptation_spoken": ["data=tiny_speech", "encoder=logmel_small"],
    }
    text = ["data=docstrings", "encoder=bert_small", "data.vocab_size=300", "data.max_tokens=256"]
    run = write_run(tmp_path / "run", compose(*parts.get(name, text)))
    first = {one.entry: one for one in plan(config, tmp_path, run)}
    for planned in first.values():
        planned.check(command)
    assert {"full", "head", "lora", "adapter_houlsby", "soft_prompt"} <= first.keys()


def run_of(entry: str, seed: int, score: float | None, **more) -> dict:
    result = {"metric": "accuracy", "test": {"accuracy": score}, "valid": {"accuracy": score}, "chance": 0.5}
    result |= {
        "trained_parameters": 10**seed,
        "head_parameters": 10,
        "latency_ms": {"1": 2.0, "32": 9.0},
        "seconds": 4.0,
    }
    done = {**result, **more} if score is not None else None
    return {"run": f"{entry}-{seed}", "entry": entry, "task": "t", "shots": 16, "seed": seed, "result": done}


def test_a_row_says_whether_it_beats_full_and_head_by_more_than_the_spread():
    scores = {
        "full": (0.70, 0.74),
        "head": (0.60, 0.60),
        "better": (0.80, 0.82),
        "within": (0.73, 0.75),
        "none": (None, None),
    }
    found = adaptations.rows([run_of(entry, i + 3, s) for entry, two in scores.items() for i, s in enumerate(two)])
    said = {row.entry: row.beats for row in found}
    assert said["better"] == {"full": True, "head": True} and said["within"] == {"full": False, "head": True}
    assert said["head"] == {"full": False} and said["none"] == {}
    [table, costs] = adaptations.tables(found)
    lines = {line[0]: line[1:] for line in table.lines}
    assert lines["better"] == ["81.0 ± 1.4", "full on 1 of 1, head on 1 of 1"]
    assert lines["within"] == ["74.0 ± 1.4", "not full, head on 1 of 1"] and lines["none"] == ["not run", "not run"]
    assert lines["head"] == ["60.0 ± 0.0", "not full"] and table.bold == {(2, 1)}
    assert costs.lines[0] == ["full", "5,490", "10", "—", "—", "2.0", "9", "4"]
    assert "beat method=full on 1 of 2 rows and method=head on 2 of 2 rows" in adaptations.summary(found)
    assert "2 of 10 adaptations are not run" in adaptations.summary(found)
    one = adaptations.rows([run_of("full", 13, 0.7), run_of("lora", 13, 0.9)])
    assert [row.beats for row in one] == [{}, {}], "one seed has no spread"
    rates = [
        {**run_of(e, i, 0.0), "result": {"metric": "wer", "test": {"wer": s + i / 100}}}
        for e, s in (("head", 0.3), ("lora", 0.1))
        for i in (0, 1)
    ]
    assert [row.beats for row in adaptations.rows(rates)] == [{}, {"head": True}], "of error rates the lower is better"
    chart = adaptation_page.parameters(found)
    assert chart.count("<circle") == 4 and "better: 81.0 ± 1.4, 5,500 parameters trained" in chart
    assert ">1k<" in chart and ">10k<" in chart and adaptation_page.power(7) == "10M"


def test_what_other_code_made_is_marked_and_what_was_seen_before_counted(monkeypatch):
    monkeypatch.setattr(adaptations, "code_changed", lambda commit: commit == "old")
    seen = {"items": 3, "of": 1200, "such_as": ["a"], "said": "some"}
    runs = [run_of("full", 0, 0.5, commit="new", leakage=seen), run_of("head", 0, 0.4, commit="old", leakage=seen)]
    found = adaptations.rows(runs)
    lines = {line[0]: line[1] for line in adaptations.tables(found)[0].lines}
    assert lines["full"] == "50.0" and lines["head"] == "40.0 †" and lines[adaptations.SEEN] == "3 of 1,200"
    assert "† stale: made by other code" in adaptations.markdown(found) and found[1].json()["stale"] == ["other code"]
    assert "†" not in adaptations.markdown(adaptations.rows(runs[:1]))
    lines = adaptations.tables(adaptations.rows([run_of("full", 0, 0.5, leakage={"unknown": "x", "said": "y"})]))[
        0
    ].lines
    assert lines[-1][1] == "not counted"


def test_early_exits_curve_is_drawn_against_speed_up():
    points = [
        {"patience": p, "score": 0.9 - p / 50, "layers": 6 - p, "speedup_1": 1 + p, "speedup_32": 1.5}
        for p in (0, 1, 2)
    ]
    exits = {"criterion": "patience", "chosen": 1, "depth": 6, "valid": [], "test": points}
    [row] = adaptations.rows([run_of("early_exit", 13, 0.9, exits=exits)])
    drawn = adaptation_page.speed_up(row, 1)
    assert drawn.count("<circle") == 3 and "patience 1: 88.0, 2.00 times as fast" in drawn and "3.0x" in drawn
    assert drawn.count('class="untrained"') == 1
    [none] = adaptations.rows([run_of("full", 13, 0.9)])
    assert none.exits == []


class Both(Here):
    """Makes up what is pretrained and probed, and what is adapted."""

    def check(self, run, overrides, tasks, labels=None):
        self.checked[run.folder] = compose("data=tiny_image", "encoder=tiny_image")

    def __call__(self, command, *words):
        said = dict(word.split("=", 1) for word in words if "=" in word)
        self.ran.append((command, said.get("name") or said["task"], said.get("method")))
        if command == "pretrain":
            make_run(self.root / said["name"], int(said["seed"]), probes={})
        elif command == "probe":
            scores = {"pretrained": 0.8, "untrained": 0.5, "raw": 0.3}
            write_json(Run(Path(said["run"])).probes / f"{said['task']}.json", {k: part(v) for k, v in scores.items()})
        else:
            result = {"metric": "accuracy", "test": {"accuracy": 0.9 + int(said["seed"]) / 50}, "chance": 0.1}
            write_json(Run(Path(said["run"]) / "adapted" / said["name"]).result, result)


def test_a_comparison_of_objectives_shows_fine_tuned_beside_probed(tmp_path, capsys):
    here = Both()
    here.root = tmp_path
    entries = {"a": {"overrides": ["objective=mae"], "adapt": [{"word": ["method=lora"]}]}, "b": {"overrides": []}}
    shared = {"tasks": ["digit"], "adapt": ["digit"]}
    config = {"name": "both", "seeds": [0, 1], "shared": shared, "entries": entries}
    results = compare(config, tmp_path, here)
    assert here.ran[:4] == [
        ("pretrain", "both/a-s0", None),
        ("probe", "digit", None),
        ("adapt", "digit", None),
        ("adapt", "word", "lora"),
    ]
    rows = {(row["entry"], row["task"]): row for row in results["rows"]}
    assert (
        rows["a", "digit"]["fine_tuned"]["values"] == [0.9, 0.92]
        and rows["a", "digit"]["linear"]["pretrained"]["mean"] == 0.8
    )
    assert rows["a", "word"]["fine_tuned"]["mean"] == pytest.approx(0.91) and "linear" not in rows["a", "word"]
    assert "91.0 ± 1.4" in capsys.readouterr().out and "fine-tuned" in (tmp_path / "both" / "report.html").read_text()
    assert "| fine-tuned | chance |" in (tmp_path / "both" / "results.md").read_text()
    (tmp_path / "both" / "b-s1" / "adapted" / "digit" / "result.json").unlink()
    here.ran.clear()
    compare(config, tmp_path, here)
    assert here.ran == [("adapt", "digit", None)]
    with pytest.raises(ConfigError, match="adapt.word sets seed=3, which the comparison"):
        plan({**config, "entries": {"a": {"overrides": [], "adapt": [{"word": ["seed=3"]}]}}}, tmp_path)
    with pytest.raises(ConfigError, match="a-s0: .*there is no method"):
        compare({**config, "entries": {"a": {"overrides": [], "adapt": [{"digit": ["method=lorra"]}]}}}, tmp_path, here)
