"""Labels joined to data: they move exactly with the cut, and what does not belong together is refused."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
import torch
from conftest import compose, tiny
from given import own_cache, write_audio  # noqa: F401
from tiny_sets import TinySpeech
from tiny_targets import HOP, frames, save, tiny_targets, write_targets

from sslzoo import rng
from sslzoo.build import build
from sslzoo.data.audio import AudioFolder
from sslzoo.data.base import Split
from sslzoo.data.concat import AudioMix
from sslzoo.data.loader import train_loader
from sslzoo.data.sampler import BySeconds
from sslzoo.data.targets import Labelled, Targets
from sslzoo.errors import ConfigError, UserError


class Clocks(TinySpeech):
    """Hums whose every sample is its own number, so that a cut shows where it was taken."""

    def split(self, name):
        split = super().split(name)
        split.items = [torch.arange(len(x), dtype=torch.float32) for x in split.items]
        return split


def places(split, index: int) -> np.ndarray:
    """Each label is the number of its frame."""
    return np.arange(frames(int(split.lengths[index])))


@pytest.fixture
def clocks(tmp_path):
    data = Clocks(BySeconds(4.0, 3, 6))
    return Labelled(data, Targets(write_targets(tmp_path / "t", data, places, clusters=100)))


def test_cuts_begin_at_the_grain():
    split = Split()
    split.lengths, split.cut = np.array([5000, 12345]), 9000
    free = [split.window(1, rng.derive_seed(0, i)) for i in range(2000)]
    split.align(HOP)
    found = [split.window(1, rng.derive_seed(0, i)) for i in range(2000)]
    assert all(stop - start == 9000 and stop <= 12345 and start % HOP == 0 for start, stop in found)
    assert {start for start, _ in found} == set(range(0, 12345 - 9000 + 1, HOP)), "every place that there is"
    assert len({start for start, _ in free}) > 1000, "without one, anywhere"
    assert split.window(0, 5) == (0, 5000) and split.window(1, None) == (0, 12345), "what is not cut is whole"


def test_labels_move_with_the_cut(clocks):
    """A row's labels are those of the frames that begin in it, one less or more at its end."""
    split = clocks.split("train")
    starts = set()
    for index in range(len(split)):
        for key in (None, 1, 2, 3):
            wave, _, _, targets = split.item(index, key)
            codes = targets["codes"]
            assert codes.dtype == torch.int64 and float(wave[0]) == float(codes[0]) * HOP
            assert codes.tolist() == list(range(int(codes[0]), int(codes[0]) + len(codes))), "none left out"
            assert abs(len(codes) - frames(len(wave))) <= 1
            if len(wave) == split.lengths[index]:
                assert len(codes) == frames(len(wave))
            starts.add(int(codes[0]))
    assert len(starts) > 3, "some were cut"


@pytest.mark.parametrize(("win", "hop"), [(400, 160), (400, 320), (400, 640), (1200, 320)])
def test_a_cut_has_the_labels_of_its_frames_whatever_their_width(win, hop, tmp_path):
    """Frames that are wider than their hop: an item has fewer than its hops, and a cut lacks as many."""

    def made(samples):
        return 1 + (samples - win) // hop

    data = Clocks(BySeconds())
    folder = write_targets(tmp_path, data, lambda s, i: np.arange(made(int(s.lengths[i]))), 100, hop)
    for cut in (3000, 3100, 3200, 3333):
        data.cut = cut
        split = Labelled(data, Targets(folder)).split("train")
        for index in range(len(split)):
            for key in range(6):
                wave, _, _, targets = split.item(index, key)
                assert abs(len(targets["codes"]) - made(len(wave))) <= 1
                assert float(wave[0]) == float(targets["codes"][0]) * hop


def test_batches_carry_them_whatever_the_workers(clocks):
    split = clocks.split("train")
    batches = [list(train_loader(split, clocks.batch, 0, 0, 6, workers=n)) for n in (0, 2)]
    cut = 0
    for one, two in zip(*batches, strict=True):
        codes = one.targets["codes"]
        assert torch.equal(codes, two.targets["codes"]) and torch.equal(one.inputs, two.inputs)
        for row, length in enumerate(one.lengths.tolist()):
            mine = codes[row][codes[row] != -100]
            assert torch.equal(codes[row, : len(mine)], mine), "padding comes last"
            assert float(one.inputs[row, 0]) == float(mine[0]) * HOP and abs(len(mine) - frames(length)) <= 1
            cut += int(mine[0] > 0)
        moved = one.to("cpu").targets["codes"]
        assert torch.equal(moved, codes)
    assert cut


def test_sets_that_are_joined_carry_them_too(tmp_path):
    """Every part cuts at its own length and at multiples of the hop."""
    one, two = Clocks(BySeconds(), cut=3000), Clocks(BySeconds(), cut=6000)
    mix = AudioMix({"one": one, "two": two}, BySeconds(2.0, 2))
    folder = write_targets(tmp_path, mix, places, clusters=100)
    split = Labelled(mix, Targets(folder)).split("train")
    assert (
        len(split) == 80 and split.cut_lengths.tolist() == [3000] * 40 + np.minimum(split.lengths[40:], 6000).tolist()
    )
    starts = set()
    for index in range(80):
        wave, _, _, targets = split.item(index, 7)
        assert float(wave[0]) == float(targets["codes"][0]) * HOP
        assert abs(len(targets["codes"]) - frames(len(wave))) <= 1
        starts.add(int(targets["codes"][0]))
    assert len(starts) > 5


def test_files_carry_them(tmp_path):
    for i in range(12):
        write_audio(tmp_path / "audio" / "train" / f"{i}.wav", 0.5 + i / 50, seed=i)
        write_audio(tmp_path / "audio" / "valid" / f"{i}.wav", 0.5, seed=i)
    data = AudioFolder(str(tmp_path / "audio"), BySeconds(3.0, 1), max_seconds=0.4)
    folder = write_targets(tmp_path / "t", data, places, 100, splits=("train", "valid"))
    labelled = Labelled(data, Targets(folder))
    split, whole = labelled.split("train"), data.split("train")
    for index in range(len(split)):
        wave, _, _, targets = split.item(index, 3)
        first = int(targets["codes"][0]) * HOP
        assert torch.equal(wave, whole.read(index)[first : first + 6400]) and len(targets["codes"]) in (19, 20)


def test_it_is_the_data_set_in_all_else(clocks):
    assert clocks.modality == "speech" and clocks.sample_rate == 16000 and clocks.batch is clocks.data.batch
    assert clocks.targets.clusters == 100 and clocks.targets.hop == HOP
    split = clocks.split("valid")
    assert split.column("label").tolist() == clocks.data.split("valid").column("label").tolist()
    assert len(split.intervals["half"]) == len(split) and split.cut == 9000
    for other in (copy.deepcopy(clocks), pickle.loads(pickle.dumps(clocks))):
        assert other.sample_rate == 16000 and torch.equal(
            other.split("train").item(3)[0], clocks.split("train").item(3)[0]
        )
    with pytest.raises(AttributeError):
        clocks.vocab_size  # noqa: B018


def refused(error, work) -> str:
    with pytest.raises(error) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_not_there_or_not_finished(tmp_path):
    assert f"there is no folder targets={tmp_path / 'no'}" in refused(ConfigError, lambda: Targets(tmp_path / "no"))
    assert "holds no label.json: not finished" in refused(ConfigError, lambda: Targets(tmp_path))
    for text in ("{", "[]", "{}", '{"clusters": 3, "hop": 320, "sample_rate": 16000, "splits": []}'):
        (tmp_path / "label.json").write_text(text)
        assert "label.json is damaged" in refused(ConfigError, lambda: Targets(tmp_path))


@pytest.fixture
def made(tmp_path):
    data = TinySpeech(BySeconds())
    return data, write_targets(tmp_path / "t", data, places, clusters=100, splits=("train", "valid"))


def test_targets_of_other_data(made):
    data, folder = made
    other = TinySpeech(BySeconds())
    split = other.split("train")
    split.lengths = split.lengths.copy()
    split.lengths[7] += 1
    assert "was made from other data" in refused(UserError, lambda: Targets(folder).join("train", split))
    split = other.split("train")
    split.names[3] = "another"
    assert "was made from other data" in refused(UserError, lambda: Targets(folder).join("train", split))
    split.names, split.lengths = split.names[:30], split.lengths[:30]
    said = refused(UserError, lambda: Targets(folder).join("train", split))
    assert "has 40 items, this one has 30" in said
    assert Targets(folder).join("train", data.split("train"))


def test_a_split_that_was_not_labelled(made):
    data, folder = made
    said = refused(UserError, lambda: Labelled(data, Targets(folder)).split("test"))
    assert "has targets of train, valid, but not of the test split" in said


@pytest.mark.parametrize("name", ["train.codes.npy", "train.starts.npy"])
def test_a_damaged_file(made, name):
    data, folder = made
    path, whole = folder / name, (folder / name).read_bytes()

    def join():
        Targets(folder).join("train", data.split("train"))

    flipped = bytearray(whole)
    flipped[-5] ^= 4
    for content in (bytes(flipped), whole[:-6], whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        assert re.search(
            rf"{name} is damaged.* delete the folder, and run `sslzoo label` again", refused(UserError, join)
        )
    path.unlink()
    assert name in refused(UserError, join)
    path.write_bytes(whole)
    join()


def test_files_that_do_not_belong_together(made):
    data, folder = made
    save(folder / "train.codes.npy", np.zeros(7, np.uint16))
    said = refused(UserError, lambda: Targets(folder).join("train", data.split("train")))
    assert "holds 7 labels" in said
    save(folder / "train.starts.npy", np.zeros(3, np.int64))
    save(folder / "train.codes.npy", np.zeros(0, np.uint16))
    refused(UserError, lambda: Targets(folder).join("train", data.split("train")))


def test_a_config_that_does_not_go_together(monkeypatch):
    """All before any data is touched."""
    tiny_targets()

    def opened(self, name):
        raise AssertionError("the data was opened")

    monkeypatch.setattr(TinySpeech, "split", opened)

    config = tiny("hubert")
    assert build(config)
    assert "HuBERT learns targets: make them with `sslzoo label`" in refused(
        ConfigError, lambda: build(config | {"targets": None})
    )
    assert "there is no folder targets=nowhere" in refused(ConfigError, lambda: build(config | {"targets": "nowhere"}))
    assert "targets must be the folder" in refused(ConfigError, lambda: build(config | {"targets": 3}))
    assert f"BestRQ learns no targets: leave out targets={tiny_targets()}" in refused(
        ConfigError, lambda: build(tiny("best_rq", f"targets={tiny_targets()}"))
    )
    said = refused(ConfigError, lambda: build(tiny("hubert", "data.sample_rate=8000")))
    assert "are of audio at 16000 Hz, but the data is read at 8000" in said
    images = compose("objective=rotation", "data=tiny_image", "encoder=tiny_image")
    other = {k: images[k] for k in ("data", "encoder")}
    assert "HuBERT is for speech" in refused(ConfigError, lambda: build(config | other))


def test_the_run_remembers_its_targets(tmp_path):
    from sslzoo.build import write_config
    from sslzoo.run import Run

    config = {k: v for k, v in tiny("hubert").items() if k not in ("name", "root")}
    write_config(Run(tmp_path / "r"), config)
    with pytest.raises(ConfigError, match=r"targets: .* -> elsewhere"):
        write_config(Run(tmp_path / "r"), config | {"targets": "elsewhere"})


def test_label_json_says_what_is_read(made):
    _, folder = made
    said = json.loads((folder / "label.json").read_text())
    assert {"clusters", "hop", "sample_rate", "splits"} <= set(said)
