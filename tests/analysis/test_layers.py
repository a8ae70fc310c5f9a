"""A task layer by layer: where it is known, and what is drawn of it."""

import json

import numpy as np
import pytest
import torch
from analysed import finished
from conftest import compose
from worlds import Framed, spoken

from sslzoo.analysis import layers as module
from sslzoo.analysis.base import Subject
from sslzoo.analysis.command import run_analyze
from sslzoo.analysis.layers import Layers
from sslzoo.errors import ConfigError
from sslzoo.probe.evaluate import Probe
from sslzoo.probe.tasks import Task
from sslzoo.progress import quiet
from sslzoo.report.page import write


def test_the_layer_that_knows_is_the_best(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "load_encoder", lambda run, untrained: (Framed((0.0, 0.0, 0.0)), None))
    subject = Subject(tmp_path / "run", Framed((0.0, 1.0, 0.2)), spoken((120, 30, 90)), "test")
    analysis = Layers(Task("word", "word", ["speech"]), Probe([1.0, 0.01]), clusters=5, drawn=1, cache_gb=0)
    found = analysis(subject, None, quiet)
    assert found.name == "layers-word" and "layer 1 is best on valid" in found.summary
    by_layer = found.numbers["linear"]["pretrained"]["by_layer"]["test"]
    assert by_layer[1] > 0.9 > by_layer[0]
    pnmi = found.numbers["pnmi"]["pretrained"]
    assert pnmi[1] > 0.6 and pnmi[1] > max(pnmi[0], *found.numbers["pnmi"]["untrained"]) + 0.2
    assert all(1 <= rank <= 2.001 for rank in found.numbers["rankme"]["pretrained"])
    titles = [plane.title for plane in found.figures[1].planes]
    assert titles == ["layer 0, PCA", "layer 0, t-SNE", "layer 1, PCA", "layer 1, t-SNE"]
    plane = found.figures[1].planes[2]
    assert np.shape(plane.points) == (90, 2) and set(plane.label) == {"w0", "w1", "w2"}


@pytest.mark.parametrize(
    "words", [["analysis.task.label=label"], ["task@analysis.task=regression", "analysis.task.label=value"]]
)
def test_a_run_is_analysed_and_drawn(words, tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))
    run = finished(tmp_path / "runs" / "one", "data=tiny_image", "encoder=tiny_image")
    few = ["analysis.probe.penalties=[0.1]", "analysis.drawn=2"]
    config = compose(
        f"run={run.name}", f"root={run.folder.parent}", "device=cpu", "analysis=layers", *words, *few, command="analyze"
    )
    path, _ = run_analyze(config, [])
    found = json.loads(path.read_text())
    assert len(found["figures"][1]["planes"]) in (4, 6)
    assert bool(found["pnmi"]) == (found["metric"] == "accuracy")
    write([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for text in (
        "Layer by layer",
        "weight by layer",
        "effective rank (RankMe)",
        "Layers as pictures",
        "layer 0, t-SNE",
    ):
        assert text in page
    assert "cannot be drawn" not in page


def test_an_encoder_without_layers_is_refused():
    encoder = Framed()
    encoder.offers = frozenset()
    analysis = Layers(Task("word", "word", ["speech"]), Probe())
    with pytest.raises(ConfigError, match="gives one vector an item, and has no layers to compare"):
        analysis.check(Subject(None, encoder, spoken(), "test"), None)
    with pytest.raises(ConfigError, match="needs clusters of 2 or more"):
        Layers(Task("word", "word", ["speech"]), Probe(), clusters=1)
    assert torch.is_grad_enabled()


def test_the_task_is_named_as_for_a_probe(sslzoo, tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))
    run = finished(tmp_path / "runs" / "one", "data=tiny_image", "encoder=tiny_image")
    few = ["analysis.probe.penalties=[0.1]", "analysis.drawn=1", "device=cpu", "analysis.cache_gb=0"]
    words = ["task=classification", "task.label=label", "task/split=by_item", "task.name=mine"]
    code, out, err = sslzoo("analyze", f"run={run.folder}", "analysis=layers", *words, *few)
    assert (code, err) == (0, []) and "mine by layer, accuracy on" in out
    settings = json.loads((run.analyses / "layers-mine.json").read_text())["settings"]["analysis"]
    assert settings["task"]["split"]["_target_"].endswith("ByItem")
