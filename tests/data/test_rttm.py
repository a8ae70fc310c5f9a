"""Recordings with RTTM files, and mixtures of spoken voices."""

import numpy as np
import pytest
from given import own_cache, write_audio  # noqa: F401

from sslzoo.data.builtin import mixtures
from sslzoo.data.rttm import Diarized, turns
from sslzoo.data.sampler import ByCount
from sslzoo.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for part, names in (("train", ["a", "b"]), ("development", ["c"]), ("test", ["d"])):
        lines = []
        for name in names:
            write_audio(tmp_path / "wav" / f"{name}.flac", 2.0)
            lines += [
                f"SPEAKER {name} 1 0.000 1.200 <NA> <NA> ann <NA> <NA>",
                f"SPEAKER {name} 1 1.0 0.5 <NA> <NA> bob <NA>",
            ]
        (tmp_path / f"{part}.rttm").write_text("\n".join(["SPKR-INFO x", *lines]) + "\n")
    return tmp_path


def test_turns_of_recordings(folder):
    data = Diarized(str(folder), ByCount(1))
    found = {part: data.split(part) for part in ("train", "valid", "test")}
    assert {part: split.names for part, split in found.items()} == {
        "train": ["wav/a.flac", "wav/b.flac"], "valid": ["wav/c.flac"], "test": ["wav/d.flac"],
    }  # fmt: skip
    said = found["test"].intervals["speaker"][0]
    assert said.start.tolist() == [0, 1] and said.end.tolist() == [1.2, 1.5] and said.label.tolist() == ["ann", "bob"]


def test_what_is_wrong_is_said_in_one_line(folder):
    rttm = folder / "train.rttm"
    text = rttm.read_text()
    rttm.write_text(text + "SPEAKER zz 1 0.0 1.0 <NA> <NA> ann <NA> <NA>\n")
    with pytest.raises(UserError, match="train.rttm is about the recording zz, of which .* has no audio file"):
        Diarized(str(folder), ByCount(1)).split("train")
    for line, said in (
        ("SPEAKER a 1 x 1.0 <NA> <NA> ann", "line 1 is not of the form SPEAKER"),
        ("SPEAKER a", "line 1 is not"),
    ):
        rttm.write_text(line + "\n")
        with pytest.raises(UserError, match=said):
            turns(rttm)
    rttm.write_text("SPEAKER a 1 1.0 0.0 <NA> <NA> ann <NA> <NA>\n")
    with pytest.raises(UserError, match="line 1: a turn begins at 0 s or later and is longer than 0 s"):
        turns(rttm)
    rttm.unlink()
    with pytest.raises(UserError, match="has no train.rttm"):
        Diarized(str(folder), ByCount(1), check="headers").split("train")


class Spoken:
    """Three voices with two sentences each, of ones."""

    lengths = np.array([16000, 12000, 9000, 8000, 20000, 10000])

    def column(self, name):
        return np.repeat(["x", "y", "z"], 2) if name == "voice" else np.array(["on", "off"] * 3)

    def read(self, item):
        return mixtures.torch.full((int(self.lengths[item]),), 0.25)


def test_mixtures_are_the_sums_of_their_turns():
    split = mixtures._Mixtures(Spoken(), "train", 20, 4, 16000)
    again = mixtures._Mixtures(Spoken(), "train", 20, 4, 16000)
    assert split.names == again.names and np.array_equal(split.lengths, again.lengths) and len(split) == 20
    overlap = 0
    for i in range(20):
        wave, said = split.read(i), split.intervals["speaker"][i]
        assert len(wave) == split.lengths[i] and len(np.unique(said.label)) == 2 and len(said.label) == 4
        total = np.zeros(len(wave))
        for start, end in zip(said.start, said.end, strict=True):
            total[round(start * 16000) : round(end * 16000)] += 0.25
        np.testing.assert_allclose(wave.numpy(), total, atol=1e-6)
        overlap += (total > 0.3).sum()
    assert overlap > 0
