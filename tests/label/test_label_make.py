import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import mutual_info_score
from tiny_sets import TinySpeech

from sslzoo.data.loader import collate
from sslzoo.data.sampler import BySeconds
from sslzoo.data.targets import CODES, Labelled, Targets
from sslzoo.encoders.speech import Waveform
from sslzoo.errors import ConfigError, UserError
from sslzoo.label import make
from sslzoo.label.make import label
from sslzoo.label.sources import Cepstra, Layer
from sslzoo.nn.mel import MFCC


class Speech(TinySpeech):
    """The tiny set, opened once, with what is to be said of its items."""

    def __init__(self):
        super().__init__(BySeconds(4.0), cut=None)
        # of names of different lengths the tiny set makes different splits
        self.held = {name: TinySpeech.split(self, "x" * i) for i, name in enumerate(("train", "valid", "test"))}

    def split(self, name):
        return self.held[name]


@pytest.fixture(scope="module")
def data():
    return Speech()


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels") / "one"
    return folder, label(Cepstra(16000), data, folder, 12, against="half")


def batch_of(*waves):
    return collate([(wave, i, -1, {}) for i, wave in enumerate(waves)])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "label.json"}


def test_every_frame_has_the_label_of_its_nearest_centroid(data, made):
    folder, said = made
    assert json.loads((folder / "label.json").read_text()) == said
    centroids = load_file(folder / "codebook.safetensors")["centroids"].double()
    targets = Targets(folder)
    assert centroids.shape == (12, 39) and (targets.clusters, targets.hop, targets.sample_rate) == (12, 320, 16000)
    for name in ("train", "valid", "test"):
        split, total, count, used = Labelled(data, targets).split(name), 0.0, 0, np.zeros(12)
        for i in range(len(split)):
            wave = data.split(name).read(i)
            frames, _ = MFCC()(wave[None], torch.tensor([len(wave)]))
            distances = torch.cdist(frames[0, ::2].double(), centroids).square()
            codes = split.targets(i)[CODES]
            assert len(codes) == 1 + (len(wave) - 400) // 320
            chosen = distances.gather(1, codes[:, None])[:, 0]
            torch.testing.assert_close(chosen, distances.amin(1), rtol=1e-4, atol=1e-2)
            total, count = total + float(chosen.sum()), count + len(codes)
            used += np.bincount(codes, minlength=12)
        of = said["splits"][name]
        assert of["labels"] == count and of["items"] == 40 and of["inertia"] == pytest.approx(total / count, rel=1e-5)
        share = used[used > 0] / count
        assert of["used"] == len(share) and of["perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert said["used"] == 12 and said["inertia"] == said["splits"]["train"]["inertia"] and said["rate"] == 50


def test_the_codebook_is_of_train(data, made, tmp_path, monkeypatch):
    valid, test = data.held["valid"], data.held["test"]
    monkeypatch.setitem(data.held, "valid", test)
    monkeypatch.setitem(data.held, "test", valid)
    label(Cepstra(16000), data, tmp_path, 12)
    assert files(tmp_path)["codebook.safetensors"] == files(made[0])["codebook.safetensors"]
    assert files(tmp_path)["test.codes.npy"] == files(made[0])["valid.codes.npy"] != files(made[0])["test.codes.npy"]


def test_agreement_is_of_the_middles_of_frames(data, made):
    folder, said = made
    split = Labelled(data, Targets(folder)).split("test")
    pairs = []
    for i in range(len(split)):
        middle = data.split("test").lengths[i] / 2
        for t, code in enumerate(split.targets(i)[CODES].tolist()):
            pairs.append(("a" if 320 * t + 200 < middle else "b", code))
    y, z = zip(*pairs, strict=True)
    shares = np.array([y.count("a"), y.count("b")]) / len(y)
    of = said["splits"]["test"]
    assert of["against"] == "half" and of["frames"] == len(y) and of["classes"] == 2
    assert of["pnmi"] == pytest.approx(mutual_info_score(y, z) / -(shares * np.log(shares)).sum())


def test_without_such_classes_nothing_is_said_of_them(data, tmp_path):
    assert "pnmi" not in label(Cepstra(16000), data, tmp_path, 4)["splits"]["train"]


def test_twice_is_the_same_bytes(data, made, tmp_path):
    label(Cepstra(16000), data, tmp_path, 12)
    assert files(tmp_path) == files(made[0]) and len(files(tmp_path)) == 7 + 6, "and six signatures"
    label(Cepstra(16000), data, tmp_path / "other", 12, seed=1)
    assert files(tmp_path / "other")["codebook.safetensors"] != files(made[0])["codebook.safetensors"]


@pytest.mark.parametrize("seconds", [0.1, 3.0])
def test_the_size_of_a_batch_changes_no_label(data, made, tmp_path, seconds):
    label(Cepstra(16000), data, tmp_path, 12, seconds=seconds)
    mine, theirs = (np.load(folder / "train.codes.npy") for folder in (tmp_path, made[0]))
    assert (mine == theirs).mean() > 0.999


def test_a_killed_one_made_again_is_an_uninterrupted_one(data, made, tmp_path, monkeypatch):
    write, written = make.write_signed, []

    def killed(path, how):
        written.append(path.name)
        if len(written) == 4:
            raise KeyboardInterrupt
        write(path, how)

    with monkeypatch.context() as m:
        m.setattr(make, "write_signed", killed)
        with pytest.raises(KeyboardInterrupt):
            label(Cepstra(16000), data, tmp_path, 12)
    assert len(list(tmp_path.glob("*.npy"))) == 3 and not (tmp_path / "label.json").exists()
    (tmp_path / "train.codes.npy").write_bytes(b"half of it")
    label(Cepstra(16000), data, tmp_path, 12)
    assert files(tmp_path) == files(made[0])


def test_a_sample_is_enough(data, tmp_path):
    few = label(Cepstra(16000), data, tmp_path, 12, sample=300)
    assert few["splits"]["train"]["labels"] > 700  # all are labelled, whatever was sampled
    assert few["inertia"] < 1.3 * label(Cepstra(16000), data, tmp_path / "all", 12)["inertia"]


def test_many_clusters_take_wider_numbers(data, tmp_path, monkeypatch):
    monkeypatch.setattr(make, "NARROW", 4)
    label(Cepstra(16000), data, tmp_path, 5)
    assert np.load(tmp_path / "test.codes.npy").dtype == np.int32
    label(Cepstra(16000), data, tmp_path / "few", 4)
    assert np.load(tmp_path / "few" / "test.codes.npy").dtype == np.uint16


def test_fewer_frames_than_clusters(data, tmp_path):
    with pytest.raises(UserError, match=r"50 frames of train make no 60 clusters"):
        label(Cepstra(16000), data, tmp_path / "x", 60, sample=50)
    assert not (tmp_path / "x").exists()


def test_what_is_not_finite_is_named(data, tmp_path, monkeypatch):
    split = data.split("valid")
    items = list(split.items)
    items[7] = items[7].clone().index_fill_(0, torch.tensor([3000]), float("nan"))
    monkeypatch.setattr(split, "items", items)
    with pytest.raises(UserError, match="mfcc features of item 7 are not finite"):
        label(Cepstra(16000), data, tmp_path, 4)


@pytest.mark.parametrize("samples", [1, 399, 400, 719, 720, 721, 5000, 16000])
def test_cepstra_are_as_many_as_wav2vecs_frames(samples):
    frames, lengths = Cepstra(16000)(batch_of(torch.randn(samples)))
    said = Waveform(4, layers=[[2, 10, 5], *([[2, 3, 2]] * 4), *([[2, 2, 2]] * 2)]).features(
        torch.randn(1, samples), torch.tensor([samples])
    )
    assert lengths.tolist() == said[1].tolist() == [1 + max(samples - 400, 0) // 320] and frames.shape[1] == lengths[0]


def test_cepstra_are_analysed_every_ten_milliseconds_and_some_kept():
    waves = [torch.randn(5000), torch.randn(3333)]
    every, _ = Cepstra(16000, 10)(batch_of(*waves))
    for hop in (20, 30, 50):
        source = Cepstra(16000, hop)
        some, lengths = source(batch_of(*waves))
        assert source.hop == 16 * hop and source.first == 200
        assert lengths.tolist() == [1 + (len(w) - 400) // (16 * hop) for w in waves]
        torch.testing.assert_close(some, every[:, :: hop // 10])


@pytest.mark.parametrize("hop", [0, 5, 25, -10])
def test_other_hops_are_refused(hop):
    with pytest.raises(ConfigError, match="hop_ms must be a multiple of 10"):
        Cepstra(16000, hop)


class Counting(torch.nn.Module):
    """A frame every 5 samples, behind a prefix; layer l of frame t is 100 l + t."""

    reads: ClassVar[dict] = {}
    modality, offers, depth, stride, prefix = "speech", frozenset({"tokens"}), 2, 5, 1

    def forward(self, inputs, lengths):
        from sslzoo.encoders.base import Encoded

        t = torch.arange(inputs.shape[1] // 5 + 1.0).expand(len(inputs), -1)[..., None] - 1
        return Encoded([t + 100 * layer for layer in range(3)], lengths // 5 + 1, t[:, 0])


@pytest.mark.parametrize("layer, is_", [(0, 0), (2, 2), (-1, 2), (-3, 0)])
def test_a_layer_without_what_is_before_the_first_frame(layer, is_):
    source = Layer(Counting(), layer)
    frames, lengths = source(batch_of(torch.zeros(20), torch.zeros(11)))
    assert source.layer == is_ and source.hop == 5 and source.first == 2.5 and lengths.tolist() == [4, 2]
    assert frames[0, :, 0].tolist() == [100 * is_ + t for t in range(4)]


def test_layers_and_encoders_that_are_not_there():
    for layer in (3, -4):
        with pytest.raises(ConfigError, match="layer must be from 0 to 2"):
            Layer(Counting(), layer)
    with pytest.raises(ConfigError, match="has none"):
        Layer(type("Silent", (Counting,), {"offers": frozenset()})(), 0)
