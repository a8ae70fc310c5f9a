import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY, compose
from safetensors.torch import load_file, save_file
from tiny_sets import TinySpeech

from sslzoo import build
from sslzoo.data.targets import Targets
from sslzoo.errors import ConfigError, UserError
from sslzoo.label import command
from sslzoo.label.command import planned_targets, run_label
from sslzoo.run import Run, write_json, write_signed

MFCC = ["source=mfcc", "data=tiny_speech", "clusters=8"]


def finished(folder: Path, kind: str = "speech", encoder: str = "tiny_speech", seed: int = 0) -> Run:
    """A run's folder as `sslzoo pretrain` leaves it."""
    config = compose(f"data=tiny_{kind}", f"encoder={encoder}")
    run = Run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run.config.write_text(yaml.safe_dump(config))
    write_json(run.encoder, {"seed": seed, "encoder": config["encoder"], "data": config["data"]})
    weights = {k: w.contiguous() for k, w in build.load_encoder(run, untrained=True)[0].state_dict().items()}
    write_signed(run.weights, lambda path: save_file(weights, path))
    return run


def label(sslzoo, *words: str):
    return sslzoo("label", "--config-dir", str(TINY), *words)


def codes(folder: Path, split: str = "train") -> np.ndarray:
    return np.load(folder / f"{split}.codes.npy")


def test_from_cepstra_to_done(sslzoo):
    code, out, err = label(sslzoo, *MFCC, "against=half")
    assert code == 0 and err == []
    [folder] = Path("runs").iterdir()
    assert folder.name.startswith("labels-mfcc-tiny_speech-") and Targets(folder).clusters == 8
    assert "8 clusters of mfcc, 50 labels a second" in out and out.count("PNMI") == 3
    assert (
        f"wrote {folder}\nnext:  sslzoo pretrain objective=hubert data=tiny_speech encoder=logmel_small targets={folder}"
        in out
    )
    said = json.loads((folder / "label.json").read_text())
    assert said["source"] == {"source": "mfcc", "hop": 320} and said["data"]["_target_"] == "tiny_sets.TinySpeech"
    assert said["seed"] == 0 and said["seconds"] > 0 and {"commit", "machine", "sample"} <= set(said)
    before = (folder / "label.json").read_bytes()
    code, out, err = label(sslzoo, *MFCC, "against=half", "workers=1")
    assert code == 0 and f"{folder} is done already" in out and (folder / "label.json").read_bytes() == before
    label(sslzoo, *MFCC, "seed=1")
    label(sslzoo, *MFCC, "hop_ms=40")
    folders = list(Path("runs").iterdir())
    assert len(folders) == 3 and sorted(Targets(f).hop for f in folders) == [320, 320, 640]
    assert [p.name for p in Path().iterdir()] == ["runs"], "and nothing is left where one stands"


def test_from_a_layer_of_a_run(sslzoo):
    run = finished(Path("runs/one"))
    code, out, err = label(sslzoo, "run=one", "layer=-1", "clusters=6", "name=made")
    assert code == 0 and err == [] and "6 clusters of one layer 2, 50 labels a second" in out
    assert "next:" not in out  # how the run was begun is not known
    said, (encoder, data) = json.loads(Path("runs/made/label.json").read_text()), build.load_encoder(run)
    signature = Path(f"{run.weights}.sha256").read_text().split()[0]
    made_from = {"source": "layer 2", "run": "one", "layer": 2, "sha256": signature}
    assert said["source"] == {**made_from, "hop": encoder.stride} and said["data"]["sample_rate"] == 16000
    code, out, _ = label(sslzoo, f"run={run.folder}", "layer=2", "clusters=6", "name=made")
    assert code == 0 and "runs/made is done already" in out  # the same run and layer, named otherwise
    label(sslzoo, "run=one", "layer=0", "clusters=6")
    label(sslzoo, "run=one", "layer=2", "clusters=6", "data=tiny_speech")
    names = sorted(p.name for p in Path("runs").iterdir())
    assert names[0].startswith("labels-one-l0-") and names[1].startswith("labels-one-l2-tiny_speech-")
    assert (codes(Path("runs/made")) == codes(Path("runs") / names[1])).all()
    assert (codes(Path("runs/made")) != codes(Path("runs") / names[0])).any()
    # labels are those of the trained encoder, and of the layer that was asked for
    split = data.split("train")
    wave = split.read(3)
    frames = encoder(wave[None], torch.tensor([len(wave)])).hidden[2][0]
    centroids = load_file("runs/made/codebook.safetensors")["centroids"]
    mine = Targets("runs/made").join("train", split).targets(3)["codes"]
    assert (torch.cdist(frames, centroids).argmin(1) == mine).float().mean() > 0.95


def test_weights_that_changed_are_not_done_already(sslzoo):
    finished(Path("runs/one"))
    words = "run=one", "layer=1", "clusters=6", "name=made"
    assert label(sslzoo, *words)[0] == 0
    finished(Path("runs/one"), seed=1)
    code, _, err = label(sslzoo, *words)
    assert code == 2 and len(err) == 1 and "runs/made holds other labels (source: " in err[0]
    assert label(sslzoo, *words[:3])[0] == 0


def test_a_killed_command_begins_again(sslzoo, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    label(sslzoo, *MFCC, "name=whole")
    with monkeypatch.context() as m:
        m.setattr("sslzoo.label.make.write_json", killed)
        assert label(sslzoo, *MFCC, "name=cut")[0] == 130
    assert not Path("runs/cut/label.json").exists()
    with pytest.raises(ConfigError, match=r"holds no label\.json"):
        Targets("runs/cut")
    code, out, _ = label(sslzoo, *MFCC, "name=cut")
    assert code == 0 and "done already" not in out
    for path in Path("runs/whole").glob("*.[ns]*"):
        if path.name != "label.json":
            assert path.read_bytes() == Path("runs/cut", path.name).read_bytes()


WRONG = {
    "nothing": ([], "labels are of cepstra or of a run: set source=mfcc or run=… layer=…"),
    "both": (["run=one", "layer=1", "source=mfcc"], "set only one of source=mfcc or run=… layer=…"),
    "another source": (["source=plp"], "there is no source=plp: set source=mfcc, or run=plp layer=…"),
    "no data": (["source=mfcc"], "source=mfcc needs data: set data=…"),
    "images": (["source=mfcc", "data=tiny_image"], "labels are of frames of speech, and the data is image"),
    "a run of images": (["run=two", "layer=1"], "labels are of frames of speech, and the data is image"),
    "no such run": (["run=three", "layer=1"], "no run 'three'"),
    "no layer": (["run=one"], "layer must be a number from 0, the trunk's input, to its depth; got None"),
    "no such layer": (["run=one", "layer=3"], "layer must be from 0 to 2, or negative from the last, got 3"),
    "a layer of cepstra": ([*MFCC, "layer=1"], "layer is one of a run's"),
    "a hop of a run": (["run=one", "layer=1", "hop_ms=10"], "hop_ms is of source=mfcc"),
    "half a hop": ([*MFCC, "hop_ms=25"], "hop_ms must be a multiple of 10"),
    "another rate": (
        ["run=one", "layer=1", "data=tiny_speech", "data.sample_rate=8000"],
        "data.sample_rate=8000, but the run's encoder reads 16000 — leave out data.sample_rate",
    ),
    "one cluster": ([*MFCC, "clusters=1"], "clusters must be a whole number from 2, got 1"),
    "some clusters": ([*MFCC, "clusters=some"], "clusters must be a whole number from 2, got 'some'"),
    "a small sample": ([*MFCC, "sample=5"], "sample=5 frames make no 8 clusters"),
    "a key of data": ([*MFCC, "+data.speed=2"], "data.speed: TinySpeech takes no 'speed'"),
    "a run's name": ([*MFCC, "name=one"], "runs/one is a run"),
    "too many clusters": ([*MFCC, "clusters=5000"], "frames of train make no 5000 clusters"),
    "a device": ([*MFCC, "device=abacus"], "device=abacus cannot be used here"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_one_line(mistake, sslzoo):
    words, message = WRONG[mistake]
    finished(Path("runs/one"))
    finished(Path("runs/two"), "image", "tiny_image")
    code, out, err = label(sslzoo, *words)
    assert code == (1 if mistake in ("no such run", "too many clusters") else 2) and out == ""
    assert len(err) == 1 and message in err[0]
    assert sorted(p.name for p in Path("runs").iterdir()) == ["one", "two"]


def test_another_config_under_the_same_name(sslzoo):
    label(sslzoo, *MFCC, "name=mine")
    code, _, err = label(sslzoo, *MFCC, "name=mine", "clusters=9")
    assert code == 2 and "runs/mine holds other labels (clusters: 8 -> 9) — choose another name" in err[0]


def test_a_file_in_the_way(sslzoo):
    Path("runs").mkdir()
    Path("runs/x").write_text("mine")
    code, _, err = label(sslzoo, *MFCC, "name=x")
    assert code == 1 and len(err) == 1 and "runs/x is not a folder" in err[0]


def test_a_root_that_is_a_file_is_known_before_anything_is_read(sslzoo, monkeypatch):
    Path("taken").write_text("mine")
    monkeypatch.setattr("sslzoo.label.command.label", lambda *_, **__: pytest.fail("it began to read"))
    code, _, err = label(sslzoo, *MFCC, "name=x", "root=taken")
    assert code == 1 and len(err) == 1 and "cannot write in taken" in err[0] and "root=" in err[0]


def test_what_is_promised_is_made(tmp_path, monkeypatch):
    run = finished(tmp_path / "one")
    for words in (MFCC, [*MFCC, "hop_ms=40", "data.sample_rate=8000"], ["run=one", "layer=1", "clusters=6"]):
        config = compose(*words, f"root={tmp_path}", command="label")
        with monkeypatch.context() as m:
            m.setattr(TinySpeech, "split", None)
            said = planned_targets(config)
            if config["run"]:  # as it is of one that is not made yet
                assert planned_targets({**config, "run": "nowhere"}, *build.load_encoder(run)) == said
        folder, _, _ = run_label(config, {"data": "tiny_speech"})
        made = Targets(folder)
        assert said == {"clusters": made.clusters, "hop": made.hop, "sample_rate": made.sample_rate}


def test_nothing_is_promised_that_cannot_be(tmp_path):
    run = finished(tmp_path / "one")
    words = ["run=one", f"root={tmp_path}", "clusters=6"]
    with pytest.raises(ConfigError, match="layer must be from 0 to 2"):
        planned_targets(compose(*words, "layer=7", command="label"))
    run.encoder.unlink()
    with pytest.raises(UserError, match="no finished encoder yet"):
        planned_targets(compose(*words, "layer=1", command="label"))
    assert command.HOP_MS == compose("source=mfcc", command="label")["hop_ms"]
