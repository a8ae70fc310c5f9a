"""A stretch of a file is what it is in the whole file."""

import numpy as np
import pytest
import soundfile
import soxr
import torch
from given import noise, own_cache  # noqa: F401

from sslzoo.data import sound
from sslzoo.data.audio import AudioFolder
from sslzoo.data.sampler import BySeconds


def write(path, rate, seconds=3.0, **how):
    soundfile.write(path, noise(round(seconds * rate), seed=rate), rate, **how)
    return path


@pytest.mark.parametrize("rate", [8000, 11025, 15999, 22050, 32000, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("ours", [16000, 24000])
def test_a_stretch_resampled_is_the_whole_resampled(tmp_path, rate, ours, monkeypatch):
    path = write(tmp_path / "a.wav", rate, subtype="FLOAT")
    whole = soxr.resample(sound.decode(path), rate, ours)
    read, real = [], sound.decode
    monkeypatch.setattr(sound, "decode", lambda *a: (read.append(a), real(*a))[1])
    end = len(whole)
    for start in (0, 1, 200, 257, 1000, 20011, end // 2, end - 4321, end - 4000):
        got = sound.decode_at(path, rate, ours, start, start + 4000)
        want = whole[start : start + 4000]
        assert got.dtype == np.float32 and len(got) == 4000
        assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    # what is decoded is the stretch, the margins, and at most one period of the two rates
    period = rate // np.gcd(rate, ours)
    most = 4000 * rate / ours + 2 * sound._MARGIN * rate / min(rate, ours) + period + 2
    assert max(stop - start for _, start, stop in read) <= most


def test_too_small_a_margin_would_show(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", 44100, subtype="FLOAT")
    want = soxr.resample(sound.decode(path), 44100, 16000)[20011:24011]
    monkeypatch.setattr(sound, "_MARGIN", 32)
    assert np.abs(sound.decode_at(path, 44100, 16000, 20011, 24011) - want).max() > 1e-4


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        ("flac", {}),
        ("aiff", {}),
        ("ogg", {"subtype": "VORBIS"}),
        ("opus", {"format": "OGG", "subtype": "OPUS"}),
        ("mp3", {"bitrate_mode": "CONSTANT"}),
        ("mp3", {"bitrate_mode": "VARIABLE", "compression_level": 0.5}),
    ],
)
@pytest.mark.parametrize("rate", [8000, 22050])
def test_every_format_is_read_from_anywhere(tmp_path, suffix, how, rate):
    """Vorbis at 8 kHz is off in its last page, MP3 at 22.05 kHz nearly everywhere, where they are read naively."""
    rate = 24000 if suffix == "opus" and rate == 22050 else rate
    path = write(tmp_path / f"a.{suffix}", rate, 6.0, **how)
    whole = sound.decode(path)
    for start in range(0, len(whole) - 99, len(whole) // 40):
        np.testing.assert_allclose(sound.decode(path, start, start + 99), whole[start : start + 99], atol=1e-6)
    assert len(sound.decode(path, len(whole) - 5, len(whole) + 9)) == 5
    assert len(sound.decode(path, len(whole) + 9, len(whole) + 20)) == 0


def test_a_file_that_cannot_seek_is_read_from_its_beginning(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", 8000)
    want = sound.decode(path)[7000:8000]
    monkeypatch.setattr(soundfile.SoundFile, "seekable", lambda _: False)
    monkeypatch.setattr(soundfile.SoundFile, "seek", lambda *_: pytest.fail("it cannot"))
    np.testing.assert_array_equal(sound.decode(path, 7000, 8000), want)


def test_what_only_says_that_it_can_seek_is_read_from_its_beginning(tmp_path):
    """DWVW: libsndfile fails after each read."""
    path = write(tmp_path / "a.aiff", 8000, format="AIFF", subtype="DWVW_16")
    want = sound.decode(write(tmp_path / "a.wav", 8000))
    assert sound.inspect(path) == (24000, 8000)
    np.testing.assert_allclose(sound.decode(path), want, atol=1e-4)
    np.testing.assert_array_equal(sound.decode(path, 7000, 8000), sound.decode(path)[7000:8000])


def test_a_cut_of_a_set_is_of_the_whole(tmp_path):
    for name in ("train/a", "valid/b", "test/c"):
        (tmp_path / name).parent.mkdir()
        write(tmp_path / f"{name}.flac", 44100)
    split = AudioFolder(str(tmp_path), BySeconds(), max_seconds=0.5).split("train")
    whole = split.read(0)
    for key in range(10):
        start, stop = split.window(0, key)
        torch.testing.assert_close(split.read(0, key), whole[start:stop], rtol=0, atol=1e-6)
