"""hf:FOLDER of speech and images on a command line."""

import numpy as np
import pytest
import soundfile
import torch
import yaml

pytest.importorskip("transformers")
import foreign_waves_and_images as theirs

import sslzoo as package
from sslzoo import weights
from sslzoo.run import Run


@pytest.fixture
def sounds(tmp_path):
    """Two classes of noise at 16 kHz; the settings of a data set of them."""
    g = np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / "sounds" / ("loud", "quiet")[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, (0.4, 0.05)[i % 2] * g.standard_normal(4000 + 100 * i).clip(-2, 2), 16000)
    return ["data=audio_folder", "data.path=sounds"]


def test_speech_is_probed_and_goes_on(sounds, tmp_path, sslzoo):
    folder = theirs.folder_of("wav2vec2", tmp_path / "theirs", head=True)
    code, out, err = sslzoo("import", f"hf:{folder}", "name=mine")
    assert code == 0 and "wav2vec2 of 3 x 16, speech at 16,000 Hz, pooled by mean, with its head" in out, err
    assert "probe run=runs/mine data=spoken task=word" in out
    code, out, err = sslzoo("probe", f"encoder=hf:{folder}", *sounds, "task=classification", "task.label=folder")
    assert code == 0 and "linear" in out, err
    words = ["objective=wav2vec2", "trainer.max_steps=2", "trainer.progress=false", "data.batch.seconds=2", "name=more"]
    codes = ["objective.code_dim=8", "objective.output_dim=6", "objective.entries=5", "objective.negatives=5"]
    code, out, err = sslzoo("pretrain", f"encoder=hf:{folder}", *words, *codes, *sounds)
    assert code == 0, err
    config = yaml.safe_load((tmp_path / "runs" / "more" / "config.yaml").read_text())
    source = Run(tmp_path / config["init"]["run"])
    before, after = (weights.load(run.weights, "") for run in (source, Run(tmp_path / "runs" / "more")))
    assert before.keys() == after.keys()
    moved = {name for name, x in before.items() if not torch.equal(x, after[name])}
    assert {"frontend.linear.weight", "trunk.blocks.0.up.weight"} <= moved


def test_another_sample_rate_is_refused(sounds, tmp_path, sslzoo):
    folder = theirs.folder_of("hubert", tmp_path / "theirs")
    code, _, err = sslzoo("pretrain", f"encoder=hf:{folder}", "objective=byol_audio", *sounds, "data.sample_rate=8000")
    assert code == 2 and err[-1] == (
        "sslzoo: data.sample_rate=8000, but the encoder reads sample_rate 16000: set data.sample_rate=16000"
    )


def test_images_in_python(tmp_path):
    folder = theirs.folder_of("dinov2", tmp_path / "theirs")
    encoder = package.load(f"hf:{folder}", root=tmp_path / "runs", device="cpu")
    assert (encoder.size, encoder.channels, encoder.modality) == (16, 3, "image")
    images = theirs.pictures(16)
    expected = theirs.theirs_of_pictures(folder, images)
    torch.testing.assert_close(encoder(images).pooled, expected.pooler_output, atol=1e-5, rtol=0)
