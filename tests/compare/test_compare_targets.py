"""Comparisons that make their own targets: HuBERT's iterations in one command."""

import copy
import json
from pathlib import Path

import pytest
from conftest import TINY
from test_compare import Fake, everything

from sslzoo.compare.plan import plan
from sslzoo.compare.process import Command
from sslzoo.compare.run import compare
from sslzoo.errors import ConfigError, UserError

TWO = {
    "name": "trial",
    "seeds": [0, 1],
    "entries": {
        "first": {"label": ["source=mfcc", "clusters=50"], "overrides": ["objective=hubert"], "tasks": ["digit"]},
        "plain": {"overrides": ["objective=simclr"], "tasks": ["digit"]},
        "second": {
            "label": ["run=first", "layer=2", "clusters=100"],
            "overrides": ["objective=hubert"],
            "tasks": ["digit"],
        },
    },
}


def test_the_plan_names_what_is_made_of_what():
    made = {p.run.name: p for p in plan(TWO, Path("runs"))}
    first, second = made["first-s1"], made["second-s1"]
    assert first.labels.folder == Path("runs/trial/first-s1-labels") and first.labels.of is None
    assert first.labels.overrides == [
        "source=mfcc", "clusters=50", "name=trial/first-s1-labels", "root=runs", "seed=1"
    ]  # fmt: skip
    assert first.overrides[-1] == "targets=runs/trial/first-s1-labels"
    assert second.labels.of == first.run, "of the same seed"
    assert second.labels.overrides[:3] == ["run=runs/trial/first-s1", "layer=2", "clusters=100"]
    assert made["plain-s0"].labels is None and not any("targets" in o for o in made["plain-s0"].overrides)


def test_labels_are_made_before_what_learns_them(tmp_path, capsys):
    fake = Fake(tmp_path)
    results = compare(TWO, tmp_path, fake)
    assert fake.asked[:8] == [
        ("label", "first-s0-labels", None),
        ("pretrain", "first-s0", None),
        ("probe", "first-s0", "digit"),
        ("pretrain", "plain-s0", None),
        ("probe", "plain-s0", "digit"),
        ("label", "second-s0-labels", None),
        ("pretrain", "second-s0", None),
        ("probe", "second-s0", "digit"),
    ]
    assert results == everything(tmp_path) and results["config"] == TWO
    rows = {row["entry"]: row for row in results["targets"]}
    assert list(rows) == ["first", "second"], "what learns none has no row"
    assert (rows["first"]["iteration"], rows["first"]["source"], rows["first"]["clusters"]) == (1, "mfcc", 50)
    assert (rows["second"]["iteration"], rows["second"]["source"]) == (2, "first layer 2")
    assert rows["second"]["purity"]["values"] == [0.44, 0.46] and rows["second"]["pnmi"]["spread"] == 0
    assert rows["first"]["accuracy"]["values"] == [0.3, 0.4] and rows["first"]["inertia"]["mean"] == 2.5
    runs = {run["run"]: run for run in results["runs"]}
    assert runs["second-s1"]["targets"] == {"purity": 0.46, "pnmi": 0.38, "inertia": 2.5, "accuracy": 0.4}
    assert runs["plain-s0"]["targets"] is None
    for text in (
        capsys.readouterr().out,
        (tmp_path / "trial" / "results.md").read_text(),
        (tmp_path / "trial" / "report.html").read_text(),
    ):
        assert "first layer 2" in text and "45.0 ± 1.4" in text and "35.0 ± 7.1" in text and "masked" in text


@pytest.mark.parametrize("stopped", ["label", "pretrain", "probe"])
def test_it_goes_on_where_it_was_stopped(stopped, tmp_path):
    at = {
        "label": ("label", "second-s0-labels", None),
        "pretrain": ("pretrain", "second-s0", None),
        "probe": ("probe", "second-s0", "digit"),
    }[stopped]
    whole = Fake(tmp_path / "whole")
    compare(TWO, tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        compare(TWO, tmp_path, Fake(tmp_path, {at: KeyboardInterrupt()}))
    again = Fake(tmp_path)
    compare(TWO, tmp_path, again)
    left = whole.asked[whole.asked.index(at) :]
    # labels that are there are looked at once more, which says whether they are still those of the run
    assert again.asked == ([("label", "second-s0-labels", None)] if stopped == "pretrain" else []) + left
    third = Fake(tmp_path)
    compare(TWO, tmp_path, third)
    assert third.asked == []


def test_labels_that_were_not_made_stop_it(tmp_path):
    class Stops(Fake):
        def __call__(self, command, *arguments):
            super().__call__(command, *arguments)
            if command == "label":
                (self.root / "trial" / "first-s0-labels" / "label.json").unlink()

    with pytest.raises(UserError, match="first-s0: labelling stopped before its end"):
        compare(TWO, tmp_path, Stops(tmp_path))


def test_a_failed_first_iteration_is_told_by_the_second_too(tmp_path):
    failing = {
        ("pretrain", "first-s0", None): UserError("no space"),
        ("label", "second-s0-labels", None): UserError("no run first-s0"),
    }
    fake = Fake(tmp_path, failing)
    with pytest.raises(UserError, match="2 of 6 runs failed; the first: first-s0: no space"):
        compare({**TWO, "on_error": "continue"}, tmp_path, fake)
    assert ("pretrain", "second-s1", None) in fake.asked and ("pretrain", "second-s0", None) not in fake.asked
    assert everything(tmp_path)["targets"][1]["purity"]["values"] == [0.46]
    assert "(1/2)" in (tmp_path / "trial" / "results.md").read_text().split("masked accuracy")[1]


SPEECH = [
    "objective=hubert",
    "data=tiny_speech",
    "encoder=tiny_speech",
    "trainer.max_steps=3",
    "objective.output_dim=16",
]
TINY_TWO = {
    "name": "tiny",
    "seeds": [0],
    "entries": {
        "one": {
            "label": ["source=mfcc", "data=tiny_speech", "clusters=6", "hop_ms=20"],
            "overrides": SPEECH,
            "tasks": [],
        },
        "two": {"label": ["run=one", "layer=1", "clusters=9"], "overrides": SPEECH, "tasks": []},
    },
}


def changed(entry: str, key: str, old: str, new: str) -> dict:
    config = copy.deepcopy(TINY_TWO)
    said = config["entries"][entry][key]
    said[said.index(old)] = new
    return config


def checked(config: dict, root: Path) -> None:
    command = Command([TINY])
    for planned in plan(config, root):
        command.check(planned.run, planned.overrides, planned.tasks, planned.labels)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (changed("one", "label", "hop_ms=20", "hop_ms=40"), "`sslzoo label source=mfcc hop_ms=20`"),
        (changed("two", "label", "layer=1", "layer=7"), "layer must be from 0 to 2"),
        (changed("two", "overrides", "encoder=tiny_speech", "encoder=tiny_gru"), "a label every 20 ms"),
        (changed("one", "label", "clusters=6", "clusters=1"), "clusters"),
        (changed("one", "label", "clusters=6", "clusterz=6"), "clusterz"),
        (changed("one", "label", "data=tiny_speech", "data=tiny_image"), "speech"),
        (changed("one", "overrides", "objective=hubert", "objective=wav2vec2"), "objective.output_dim"),
        (changed("two", "overrides", "objective.output_dim=16", "data.sample_rate=8000"), "8000"),
    ],
)
def test_all_is_checked_before_anything_is_made(config, words, tmp_path):
    """Labels that are not there yet, of a run that is not there yet."""
    if "wav2vec2" in str(config):
        config["entries"]["one"]["overrides"].remove("objective.output_dim=16")
        words = "learns no targets"
    with pytest.raises(ConfigError) as caught:
        checked(config, tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_fits_is_taken_and_nothing_is_written(tmp_path):
    checked(TINY_TWO, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_labels_of_another_config_are_refused(tmp_path):
    folder = tmp_path / "tiny" / "one-s0-labels"
    folder.mkdir(parents=True)
    said = {"clusters": 7, "hop": 320, "sample_rate": 16000, "splits": {}}
    (folder / "label.json").write_text(json.dumps(said))
    with pytest.raises(ConfigError, match=r"one-s0-labels holds other labels \(clusters: 7 -> 6\)"):
        checked(TINY_TWO, tmp_path)


def test_two_iterations_from_end_to_end(sslzoo, tmp_path):
    """In this process, the commands themselves."""

    class Here(Command):
        def __call__(self, *arguments):
            code, _, said = sslzoo(*arguments, "--config-dir", str(TINY))
            if code:
                raise UserError(said[-1])

    command = Here([TINY])
    results = compare(TINY_TWO, tmp_path / "runs", command)
    assert [run["done"] for run in results["runs"]] == [True, True]
    one, two = results["targets"]
    assert (one["iteration"], one["clusters"], two["iteration"], two["clusters"]) == (1, 6, 2, 9)
    assert two["source"] == "one layer 1" and 0 < two["inertia"]["mean"] < float("inf")
    assert 0 <= one["accuracy"]["mean"] <= 1
    again = compare(TINY_TWO, tmp_path / "runs", Fake(tmp_path))
    assert again["targets"] == results["targets"]
