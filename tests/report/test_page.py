import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from folders import make_run

from sslzoo.report import page


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "one")


VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Collects tags and text, and checks that what is opened is closed."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(html)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def written(runs, tmp_path, results=None) -> str:
    page.write(runs, tmp_path / "page.html", results)
    return (tmp_path / "page.html").read_text()


def test_it_needs_nothing_from_outside(run, tmp_path):
    html = written([run], tmp_path)
    reader = Reader(html)
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "action", "srcset"):
            assert attributes.get(name, "#").startswith(("data:image/png;base64,", "#")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"(url\(|@import|https?:)", html.replace("http://www.w3.org/2000/svg", ""))
    policy = next(a["content"] for t, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "fetch" not in script and "innerHTML" not in script


def test_it_says_what_on_what_how_long_and_how_well(run, tmp_path):
    words = Reader(written([run], tmp_path)).words
    for said in (
        "SimCLR on Digits",
        "ResNet of 0.31 M parameters",
        "seed 0",
        "600 steps",
        "1.5 minutes",
        "1.2 GB",
    ):
        assert said in words, said
    assert "93.4" in words and "51.2" in words and "31.0" in words and "10.0" in words
    assert "Masked pieces" in words and "No warning was raised" in words and "_target_" in words


HOSTILE = "<img src=x onerror=alert(1)>\"'&</title><script>alert(2)</script>"


def test_a_hostile_run_changes_nothing_but_the_text(tmp_path):
    run = make_run(tmp_path / "x<script>alert(3)<", probes={"<svg onload=alert(4)>": (0.9, 0.5, 0.3)})
    run.config.write_text(
        json.dumps({"seed": HOSTILE, "objective": {"_target_": HOSTILE}, "data": {"_target_": HOSTILE}})
    )
    run.metrics.write_text(f'step,"{HOSTILE.replace(chr(34), chr(34) * 2)}"\n0,1\n1,2\n')
    run.events.write_text(json.dumps({"step": HOSTILE, "kind": HOSTILE, "message": HOSTILE}) + "\n")
    summary = {"machine": {"system": HOSTILE}, "device": HOSTILE}
    run.summary.write_text(json.dumps(summary))
    [path] = run.probes.glob("*.json")
    probe = json.loads(path.read_text())
    for part in probe.values():
        part |= {"metric": HOSTILE, "classes": [HOSTILE, f"{HOSTILE}2"]}
    path.write_text(json.dumps(probe))
    html = written([run], tmp_path)
    reader = Reader(html)
    assert sum(tag == "script" for tag, _ in reader.tags) == 1
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert html.count("<script") == 1 and "onerror" in reader.words


def test_each_missing_piece_is_said(tmp_path):
    run = make_run(tmp_path / "half")
    for name in ("DONE", "metrics.csv", "summary.json", "visualization.pt", "probe/digit.json"):
        (run.folder / name).unlink()
    words = Reader(written([run], tmp_path)).words
    for said in (
        "not finished",
        "no metrics.csv",
        "no summary.json",
        "no visualization.pt",
        "Nothing was probed yet",
        "No task has been probed",
    ):
        assert said in words, said


def test_a_picture_of_an_unknown_kind_is_said(run, tmp_path):
    import torch

    torch.save({"kind": "sculpture"}, run.visualization)
    assert (
        "visualization.pt cannot be drawn: no picture is known of the kind 'sculpture'"
        in Reader(written([run], tmp_path)).words
    )


def test_a_probe_without_features_or_layers_is_said(run, tmp_path):
    path = run.probes / "digit.json"
    probe = json.loads(path.read_text())
    del probe["untrained"]["projections"]
    probe["raw"]["projections"]["label"] = [0]
    del probe["pretrained"]["linear"]["layer_weights"]
    path.write_text(json.dumps(probe))
    words = Reader(written([run], tmp_path)).words
    assert "no features were kept" in words and "cannot be drawn: 2 points have 1 labels" in words and "93.4" in words


def test_warnings_are_told_once_with_their_count(run, tmp_path):
    events = [{"step": s, "kind": "one code", "message": "all frames get one code"} for s in (10, 20, 30)]
    run.events.write_text("".join(json.dumps(e) + "\n" for e in events))
    words = Reader(written([run], tmp_path)).words
    assert "One code at step 10, 3 times until step 30: all frames get one code" in words


def test_seeds_are_shown_as_one_with_their_spread(tmp_path):
    runs = [make_run(tmp_path / f"cnn-s{s}", s, {"digit": (0.90 + 0.02 * s, 0.5, 0.3)}) for s in range(3)]
    html = written(runs, tmp_path)
    reader = Reader(html)
    assert "92.0 ± 2.0" in reader.words and "seeds 0, 1, 2" in reader.words and "the spread of 3 seeds" in reader.words
    assert html.count('class="line"') >= 3


def test_a_comparison_has_its_entries_its_cost_and_its_failures(tmp_path):
    good, other = make_run(tmp_path / "a-s0"), make_run(tmp_path / "b-s0", probes={})
    results = {
        "name": "two",
        "config_hash": "abc123",
        "commit": "0123456789ab",
        "entries": {"a": {"tasks": ["digit"]}, "b": {"tasks": ["digit"]}, "c": {"tasks": []}},
        "runs": [
            {"run": "a-s0", "entry": "a"},
            {"run": "b-s0", "entry": "b", "error": "b-s0: no <space> left"},
            {"run": "c-s0", "entry": "c"},
        ],
    }
    reader = Reader(written([good, other], tmp_path, results))
    for said in (
        "commit 0123456789ab",
        "config abc123",
        "no <space> left",
        "No run of it was started",
    ):
        assert said in reader.words, said
    anchors = {a["href"][1:] for t, a in reader.tags if t == "a"}
    assert anchors and anchors <= {a.get("id") for _, a in reader.tags}


def test_a_page_that_cannot_be_written_leaves_the_old_one(run, tmp_path, monkeypatch):
    from pathlib import Path

    from sslzoo.errors import UserError

    path = tmp_path / "page.html"
    page.write([run], path)
    before = path.read_text()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="No space left"):
        page.write([run], path)
    assert path.read_text() == before


def test_a_level_that_differs_between_batches_is_drawn_at_its_mean(tmp_path):
    run = make_run(tmp_path / "a", probes={})
    run.metrics.write_text("step,loss,accuracy,chance\n0,5,0.2,0.1\n1,4,0.4,0.3\n2,4,0.4,nan\n")
    html = written([run], tmp_path)
    assert html.count('class="level chance"') == 1 and ">chance<" not in html and "dotted what guessing gives" in html
