import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import CONF, compose
from safetensors.torch import save_file

from sslzoo import build
from sslzoo.config import options, protocol, task_node
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.command import run_extract
from sslzoo.probe.baselines import Baselines
from sslzoo.probe.command import run_probe
from sslzoo.probe.evaluate import Probe
from sslzoo.run import Run, write_json, write_signed

TASKS = sorted(options("task"))
PLAIN = {  # a task over the tiny sets' own labels
    "_target_": "sslzoo.probe.tasks.Task",
    "name": "own",
    "label": "label",
}


def finished(tmp_path: Path, kind: str, encoder: str | None = None) -> Run:
    """A run's folder as `sslzoo pretrain` leaves it, of an encoder that was moved off its first weights."""
    config = compose(f"data=tiny_{kind}", f"encoder={encoder or f'tiny_{kind}'}")
    run = Run(tmp_path / "runs" / "one")
    run.folder.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump(config))
    write_json(run.encoder, {"seed": 0, "encoder": config["encoder"], "data": config["data"]})
    module = build.make(config["encoder"])
    weights = {name: w + 0.01 if w.is_floating_point() else w for name, w in module.state_dict().items()}
    write_signed(run.weights, lambda path: save_file({k: v.contiguous() for k, v in weights.items()}, path))
    return run


def probing(run: Run, task: dict) -> dict:
    config = compose("run=one", f"root={run.folder.parent}", "task=digit", "device=cpu", command="probe")
    return {**config, "task": {**PLAIN, **task}}


@pytest.mark.parametrize(
    "kind, encoder", [("image", "tiny_image"), ("image", "tiny_resnet"), ("speech", None), ("text", None)]
)
def test_a_run_of_each_modality_is_probed(tmp_path, capsys, kind, encoder):
    run = finished(tmp_path, kind, encoder)
    path = run_probe(probing(run, {}), {})
    found = json.loads(path.read_text())
    assert path == run.probes / "own.json" and list(found) == ["pretrained", "untrained", "raw"]
    assert all(0 <= one["linear"]["test"] <= 1 and one["n_test"] >= 40 for one in found.values())
    assert found["raw"]["linear"]["test"] > 0.8  # brightness, pitch or words give the tiny labels away
    said = capsys.readouterr().out
    assert said.startswith("own: accuracy on") and "pretrained  linear" in said and said.count("\n") == 5


def test_every_task_can_be_split_otherwise():
    """As messages advise."""
    split = [
        name
        for name in TASKS
        if "split" in yaml.safe_load((CONF / "task" / f"{name}.yaml").read_text())["defaults"][-2]
    ]
    assert len(split) > 30 and {"image_class", "speaker", "fsdd_digit"} <= set(split)
    for name in split[::4]:
        config = compose("run=one", f"task={name}", "task/split=by_item", "paths.data=/d", command="probe")
        assert config["task"]["split"] == compose("run=one", "task/split=by_item", command="probe")["task"]["split"]


def test_frames_of_a_run_are_probed(tmp_path):
    run = finished(tmp_path, "speech")
    found = json.loads(run_probe(probing(run, {"name": "half", "label": "half", "kind": "frames"}), {}).read_text())
    assert (
        found["pretrained"]["classes"] == ["a", "b"] and found["raw"]["n_test"] == found["pretrained"]["n_test"] > 100
    )


def test_a_runs_features_are_written(tmp_path):
    run = finished(tmp_path, "text")
    config = compose("run=one", f"root={run.folder.parent}", f"out={tmp_path / 'out'}", "device=cpu", command="extract")
    out = run_extract(config)
    rows = np.load(out / "features-00000.npy")
    encoder, data = build.load_encoder(run)
    assert rows.shape == (data.split("test").lengths.sum(), encoder.depth + 1, encoder.dim)
    other = {
        **config,
        "out": str(tmp_path / "other"),
        "data": compose("data=tiny_image", "encoder=tiny_image")["data"],
    }
    with pytest.raises(ConfigError, match="reads data of modality image, but the encoder reads text"):
        run_extract(other)
    for key, wrong in (("split", "nope"), ("what", "things")):
        with pytest.raises(ConfigError, match=f"{key} must be one of .*, got {wrong}"):
            run_extract({**config, "out": str(tmp_path / "other"), key: wrong})
    assert not (tmp_path / "other").exists()


def test_a_sweep_over_tasks_loads_and_reads_the_run_once(tmp_path, monkeypatch):
    run, loaded, load = finished(tmp_path, "image"), [], build.load_encoder
    monkeypatch.setattr(build, "load_encoder", lambda *a, **k: loaded.append(k) or load(*a, **k))
    for name in ("one", "two"):
        run_probe(probing(run, {"name": name}), {})
    assert loaded == [{}, {"untrained": True}]
    first, second = (json.loads((run.probes / f"{name}.json").read_text()) for name in ("one", "two"))
    assert first["pretrained"]["linear"] == second["pretrained"]["linear"]
    write_signed(run.weights, lambda path: path.write_bytes(b"damaged"))
    with pytest.raises(Exception, match="eader"):  # not the encoder that lay there before
        run_probe(probing(run, {"name": "three"}), {})


def test_what_is_wrong_is_said(tmp_path):
    run = finished(tmp_path, "image")
    with pytest.raises(UserError, match="no labels 'digit'; it has: label"):
        run_probe(probing(run, {"label": "digit"}), {})
    with pytest.raises(ConfigError, match="task.metric must be one of accuracy"):
        run_probe(probing(run, {"metric": "bleu"}), {})
    with pytest.raises(ConfigError, match="device=gpu9 cannot be used here"):
        run_probe({**probing(run, {}), "device": "gpu9"}, {})
    with pytest.raises(UserError, match="no run 'two'"):
        run_probe({**probing(run, {}), "run": "two"}, {})
    assert not run.probes.exists()


@pytest.mark.parametrize("name", TASKS)
def test_every_task_of_conf_can_be_made(name):
    config = compose("run=one", f"task={name}", *_paths(name), command="probe")
    settings = protocol(config, {})
    for node in ("task", "probe"):
        build.check(settings[node], node)
    task = build.make(settings["task"])
    if name in ("classification", "frames", "regression"):  # of any label: its result is named after that
        assert task.label is None and task_node(config, {})["name"] == name
        return
    assert task.name == name  # what its result is filed under
    if task.data is not None:
        assert task.modality == [task.data.modality]


def _paths(name: str) -> list[str]:
    text = (CONF / "task" / f"{name}.yaml").read_text()
    own = [line.split(": ")[1] for line in text.splitlines() if "/data@data" in line]
    needed = [f for f in own if "path: ${paths.data}" in (CONF / "data" / f"{f}.yaml").read_text()]
    return ["task.data.path=there"] * len(needed)


@pytest.mark.parametrize(
    "words, choices, given, name",
    [
        (["task=speaker", "data=fsdd", "data.path=there"], {"data": "fsdd"}, [], "fsdd-speaker"),
        (["task=speaker", "data=fsdd", "data.path=there", "task.name=mine"], {"data": "fsdd"}, ["task.name"], "mine"),
        (["data=audio_folder", "data.path=a/b c"], {"data": "audio_folder"}, [], "b_c"),
        (["data=audio_folder", "data.path='a/é'", "task.label=x y/z"], {"data": "audio_folder"}, [], "é-x_y_z"),
        (["task.label=emotion"], {}, [], "emotion"),
        ([], {}, [], "classification"),
        (["task=digit"], {}, [], "digit"),
    ],
)
def test_a_task_is_named_after_the_data_and_the_label(words, choices, given, name):
    config = compose("run=one", *words, command="probe")
    node = task_node(config, choices, given)
    assert node["name"] == name and node.get("data") == config.get("data")


def test_a_label_of_a_table_is_the_column_that_it_reads():
    words = ["data=text_table", "data.path=glue/SST-2", "data.files={train: a.tsv}", "data.text=words"]
    config = compose("run=one", *words, "task.label=mood", command="probe")
    node = task_node(config, {"data": "text_table"})
    assert (node["label"], node["data"]["label"], node["name"]) == ("label", "mood", "SST-2-mood")


def test_a_task_can_be_put_to_another_set():
    config = compose("run=one", "task=speaker", "data=fsdd", "data.path=there", command="probe")
    task = build.make(task_node(config, {"data": "fsdd"}))
    assert type(task.data).__name__ == "FreeSpokenDigits" and task.label == "speaker"
    old = compose("run=one", "task=speaker", "+data@task.data=fsdd", "task.data.path=there", command="probe")
    assert task_node(old, {}) == {**task_node(config, {"data": "fsdd"}), "name": "speaker"}


def test_a_run_of_the_built_in_speech_is_probed_on_other_speech(tmp_path, capsys):
    """`spoken` says of itself a `size` that is no image's; what must agree is what the encoder reads."""
    run = finished(tmp_path, "speech")
    saved = json.loads(run.encoder.read_text())
    write_json(run.encoder, {**saved, "data": compose("data=spoken", "encoder=tiny_speech")["data"]})
    assert build.load_encoder(run)[1].size == (30, 2, 12)
    words = [f"root={run.folder.parent}", "run=one", "data=tiny_speech", "data.sample_rate=8000", "task.label=label"]
    words.append("device=cpu")
    found = json.loads(run_probe(compose(*words, command="probe"), {"data": "tiny_speech"}).read_text())
    assert found["pretrained"]["task"] == "tiny_speech-label" and found["pretrained"]["classes"] == list("0123")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "data is read at sample_rate 16000 instead of 8000, as the run's encoder reads"
    with pytest.raises(
        ConfigError, match="data.sample_rate=8000, but the run's encoder reads 16000 — leave out data.s"
    ):
        run_probe(compose(*words, command="probe"), {}, ["data.sample_rate"])
    with pytest.raises(UserError, match="no labels 'lable'; it has: label, value, .* — did you mean 'label'?"):
        run_probe(compose(*words, "task.label=lable", command="probe"), {})
    with pytest.raises(
        UserError, match="has no time-aligned labels 'label'; it has: half, whole; 'label' is a label column"
    ):
        run_probe(compose(*words, "task=frames", "task.label=label", command="probe"), {})


def test_weights_of_the_untrained_encoder_are_the_first_ones(tmp_path):
    run = finished(tmp_path, "image")
    first, second = (build.load_encoder(run, untrained=True)[0].state_dict() for _ in range(2))
    trained = build.load_encoder(run)[0].state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], trained[k]) for k in first)


def test_what_no_training_made_is_measured_once(tmp_path, monkeypatch):
    """Two runs of one encoder, data and seed: the second measures its own weights alone. Of another seed, its
    untrained encoder too; with other settings, all."""
    measured = []
    whole = Probe._measure
    monkeypatch.setattr(Probe, "_measure", lambda self, *given: measured.append(1) or whole(self, *given))
    run, folder = finished(tmp_path, "image"), str(tmp_path / "baselines")

    def probed(**more) -> dict:
        measured.clear()
        return json.loads(run_probe({**probing(run, {}), "baselines": folder, **more}, {}).read_text())

    first = probed()
    assert len(measured) == 3
    again = probed()
    assert len(measured) == 1 and len(list(Path(folder).iterdir())) == 2
    for kind in ("untrained", "raw"):
        assert again[kind].pop("seconds") == 0 and again[kind].pop("shared").startswith(f"own-{kind}-")
        assert first[kind].pop("seconds") >= 0 and again[kind] == first[kind]
    assert "shared" not in again["pretrained"]

    said = json.loads(run.encoder.read_text())
    write_json(run.encoder, {**said, "seed": 1})
    other = probed()
    assert len(measured) == 2 and other["untrained"]["linear"] != first["untrained"]["linear"]
    alone = json.loads(run_probe(probing(run, {}), {}).read_text())
    assert alone["untrained"]["linear"] == other["untrained"]["linear"]

    config = probing(run, {})
    probed(probe={**config["probe"], "k": 3})
    assert len(measured) == 3
    [path] = [p for p in Path(folder).glob("own-raw-*") if p.name == other["raw"]["shared"]]
    path.write_text("{")
    write_json(run.encoder, said)
    assert probed()["raw"]["linear"] == first["raw"]["linear"] and len(measured) == 2


def test_a_tokenizer_tells_baselines_apart(tmp_path):
    class Learned:
        words = "a b"

        def save(self, folder):
            (folder / "words.txt").write_text(self.words)

    run, data, folder = finished(tmp_path, "image"), Learned(), tmp_path / "kept"
    assert Baselines(folder, run, data, {})("own", "raw", lambda: {"test": 1}) == {"test": 1}
    assert Baselines(folder, run, data, {})("own", "raw", lambda: {"test": 2})["test"] == 1
    data.words = "a c"
    assert Baselines(folder, run, data, {})("own", "raw", lambda: {"test": 3}) == {"test": 3}
