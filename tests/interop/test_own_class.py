"""An Encoder of the user's own in place of a run."""

import pytest
import torch

import sslzoo as package
from sslzoo.errors import UserError
from sslzoo.interop.importing import import_run

MINE = """
import torch
from sslzoo import Encoded, Encoder

class Loudness(Encoder):
    modality, dim, feature_dim, depth, stride = "speech", 3, 3, 0, 100
    offers = frozenset({"tokens"})
    reads = {"sample_rate": 8000}

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, inputs, lengths):
        frames = inputs.unfold(1, 100, 100).square().mean(2, keepdim=True) * self.scale
        steps = lengths // 100
        inside = (torch.arange(frames.shape[1]) < steps[:, None])[..., None]
        return Encoded([frames], steps, (frames * inside).sum(1) / steps[:, None])

class Unread(Loudness):
    reads = {}

class Other:
    pass
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "loudness_of_mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_it_is_a_run(mine, tmp_path):
    run, made = import_run("class:loudness_of_mine.Loudness", tmp_path / "runs")
    assert made and run.name.startswith("Loudness-")
    assert import_run("class:loudness_of_mine.Loudness", tmp_path / "runs") == (run, False)
    encoder = package.load("class:loudness_of_mine.Loudness", root=tmp_path / "runs", device="cpu")
    wave = torch.full((1000,), 0.5)
    assert torch.equal(encoder(wave).pooled, torch.tensor([[0.25, 0.5, 0.75]]))
    assert encoder.sample_rate == 8000
    module = package.load_encoder("class:loudness_of_mine.Loudness", root=tmp_path / "runs")
    assert type(module).__name__ == "Loudness" and not module.training


def test_what_is_none_is_refused(mine, tmp_path):
    for name, said in (
        ("Other", "is no sslzoo.Encoder"),
        ("Unread", "reads = {'sample_rate': …}"),
        ("Lost", "there is no Lost"),
    ):
        with pytest.raises(UserError, match=said):
            import_run(f"class:loudness_of_mine.{name}", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
