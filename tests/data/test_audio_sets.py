import functools
import operator
import pickle

import numpy as np
import pytest
import soundfile
import torch
from given import cut_file, noise, own_cache, warnings, write_audio  # noqa: F401

from sslzoo.data import audio, sound
from sslzoo.data.audio import AudioFolder
from sslzoo.data.loader import train_loader
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.errors import ConfigError, UserError


def folder(root, **how):
    return AudioFolder(str(root), BySeconds(seconds=5.0), **how)


@pytest.fixture
def three(tmp_path):
    """One good file for each split, to which tests add what is bad."""
    for seed, name in enumerate(("train/a", "valid/b", "test/c")):
        write_audio(tmp_path / f"{name}.wav", seed=seed)
    return tmp_path


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.caf", "a.w64"])
def test_every_format(three, name):
    write_audio(three / "train" / f"x{name}", 0.5)
    split = folder(three).split("train")
    assert split.names == ["train/a.wav", f"train/x{name}"]
    item = split.read(1)
    assert item.dtype == torch.float32 and item.ndim == 1 and len(item) == split.lengths[1]
    assert abs(len(item) - 8000) < 1500  # an MP3 has silence around
    assert 0.05 < item.std() < 0.15


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 96000])
@pytest.mark.parametrize("samples", [4801, 4802, 9603, 20000])
def test_any_rate_becomes_ours_and_lengths_are_known_without_reading(three, rate, samples):
    soundfile.write(three / "train" / "x.wav", noise(samples, 2), rate)
    split = folder(three, min_seconds=0.01).split("train")
    assert split.lengths[1] == int(samples * 16000 / rate + 0.5)
    assert len(split.read(1)) == split.lengths[1]


def test_resampling_keeps_a_tone_and_channels_are_averaged(three):
    t = np.arange(96000) / 96000
    left = 0.5 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(three / "train" / "x.wav", np.stack([left, np.zeros_like(left)], 1), 96000, subtype="FLOAT")
    got = folder(three).split("train").read(1).numpy()
    want = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(got[200:-200], want[200:-200], atol=1e-3)


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_long_file_is_cut_where_its_key_says(three, rate):
    write_audio(three / "train" / "x.flac", 3.0, rate)
    split = folder(three, max_seconds=0.5).split("train")
    whole = split.read(1)
    assert len(whole) == 48000 and split.cut == 8000 and split.cut_lengths.tolist() == [4800, 8000]
    starts = set()
    for key in range(20):
        item = split.read(1, key)
        start, stop = split.window(1, key)
        starts.add(start)
        torch.testing.assert_close(item, whole[start:stop], rtol=0, atol=0 if rate == 16000 else 1e-6)
    assert len(starts) > 15
    assert torch.equal(split.read(1, 7), split.read(1, 7))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_by_seconds_of_sound(three, workers):
    for i in range(30):
        write_audio(three / "train" / f"{i}.wav", 0.2 + i / 20, 8000, seed=i)
    data = folder(three)
    assert data.batch.rate == 16000
    split = data.split("train")
    batches = list(train_loader(split, data.batch, 0, 0, 6, workers=workers))
    assert all(batch.inputs.numel() <= 5.0 * 16000 for batch in batches)
    assert len({len(batch) for batch in batches}) > 1
    again = list(train_loader(folder(three).split("train"), data.batch, 0, 0, 6))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(batches, again, strict=True))


def truncated_wav(path):
    return cut_file(write_audio(path.with_suffix(".wav"))), "is cut off: .* bytes of sound are there"


def truncated_flac(path):
    return cut_file(write_audio(path.with_suffix(".flac"), 2.0), 0.7), "is not audio, or is cut off"


def truncated_mp3(path):
    return cut_file(write_audio(path.with_suffix(".mp3"), 2.0), 0.6), "is cut off: .* samples are there"


def zero_bytes(path):
    path.with_suffix(".wav").touch()
    return path.with_suffix(".wav"), r"is empty \(0 bytes\)"


def zero_samples(path):
    return write_audio(path.with_suffix(".wav"), 0.0), "has no samples"


def one_sample(path):
    return write_audio(path.with_suffix(".wav"), 1 / 16000), r"is 6.25e-05 s \(1 samples\), shorter than"


def too_short(path):
    return write_audio(path.with_suffix(".wav"), 0.09), r"is 0.09 s \(1440 samples\), shorter than"


def words_for_sound(path):
    path.with_suffix(".wav").write_text("I am no sound")
    return path.with_suffix(".wav"), "is not audio, or is cut off: Format not recognised"


def not_finite(path):
    path = path.with_suffix(".wav")
    samples = noise(4000)
    samples[17] = np.nan
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path, "has samples that are not finite"


def of_a_foreign_coding(path):
    path = write_audio(path.with_suffix(".wav"))
    content = bytearray(path.read_bytes())
    place = content.index(b"fmt ") + 8
    content[place : place + 2] = b"\xff\x00"
    path.write_bytes(content)
    return path, "is WAV with the coding 0x00ff, which libsndfile cannot read: convert it, as `ffmpeg"


def of_another_name(path):
    path.with_suffix(".wav").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(500))
    return path.with_suffix(".wav"), r"is MP4 \(AAC or ALAC\), which libsndfile cannot read"


def not_fetched(path):
    path.with_suffix(".flac").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    return path.with_suffix(".flac"), "is a pointer of Git LFS and not the file itself: `git lfs pull`"


BAD = [
    of_a_foreign_coding,
    of_another_name,
    not_fetched,
    truncated_wav,
    truncated_flac,
    truncated_mp3,
    zero_bytes,
    zero_samples,
    one_sample,
    too_short,
    words_for_sound,
    not_finite,
]


@pytest.mark.parametrize("spoil", BAD)
def test_a_bad_file_is_named_and_left_out_only_if_that_is_allowed(three, spoil, warnings):  # noqa: F811
    bad, words = spoil(three / "train" / "bad")
    with pytest.raises(UserError, match=f"{bad.name} {words}.*data.on_error=skip"):
        folder(three).split("train")
    data = folder(three, on_error="skip")
    split = data.split("train")
    assert split.names == ["train/a.wav"] and split.columns["folder"].tolist() == [""]
    assert len(split.read(0)) == 4800
    assert "left out 1 of 2" in warnings() and bad.name in warnings()
    data.split("train")
    assert warnings().count("left out") == 1


def test_a_bad_file_of_another_split_is_not_in_the_way(three):
    zero_bytes(three / "test" / "bad")
    assert len(folder(three).split("train")) == 1


def test_stereo_at_96_khz_is_good(three):
    write_audio(three / "train" / "x.wav", 0.5, 96000, 2)
    assert folder(three).split("train").lengths.tolist() == [4800, 8000]


def test_a_wav_whose_writer_did_not_know_its_size_is_good(three):
    """ffmpeg writes 0xFFFFFFFF into a pipe."""
    path = write_audio(three / "train" / "x.wav", 0.5)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert folder(three).split("train").lengths.tolist() == [4800, 8000]


def test_a_file_that_changes_during_a_run_is_named(three):
    split = folder(three).split("train")
    write_audio(three / "train" / "a.wav", 0.15)
    with pytest.raises(UserError, match="a.wav is shorter than when it was opened"):
        split.read(0)
    (three / "train" / "a.wav").unlink()
    with pytest.raises(UserError, match="a.wav cannot be read any more"):
        split.read(0)


def test_missing_and_empty(tmp_path):
    with pytest.raises(UserError, match="there is no folder .*nowhere — set data.path"):
        folder(tmp_path / "nowhere").split("train")
    with pytest.raises(UserError, match="has no .wav .flac"):
        folder(tmp_path).split("train")


def test_a_plain_folder_is_split_by_names(tmp_path):
    for i in range(60):
        write_audio(tmp_path / "ann" / f"{i}.wav", 0.12, seed=i)
    found = {name: folder(tmp_path).split(name).names for name in ("train", "valid", "test")}
    assert sorted(functools.reduce(operator.iadd, found.values(), [])) == sorted(f"ann/{i}.wav" for i in range(60))
    assert all(found.values())
    assert set(folder(tmp_path).split("test").columns["folder"]) == {"ann"}


def test_folders_are_classes_or_splits_as_of_pictures(tmp_path):
    for i in range(12):
        write_audio(tmp_path / "classes" / ("bus", "car", "train")[i % 3] / f"{i}.wav", 0.12, seed=i)
        write_audio(tmp_path / "splits" / ("train/ann", "test/ann", "unlabeled")[i % 3] / f"{i}.wav", 0.12, seed=i)
    assert set(folder(tmp_path / "classes").split("train").columns["folder"]) == {"bus", "car", "train"}
    assert set(folder(tmp_path / "splits").split("test").columns["folder"]) == {"ann"}
    train, valid = (folder(tmp_path / "splits").split(name) for name in ("train", "valid"))
    assert {*train.columns["folder"], *valid.columns["folder"]} == {"ann", ""}


@pytest.mark.parametrize("separator, name", [("\t", "list.tsv"), (",", "list.csv")])
def test_a_manifest_says_splits_and_labels(tmp_path, separator, name):
    for i in range(4):
        write_audio(tmp_path / f"{i}.wav", seed=i)
    rows = [
        ("path", "split", "who"),
        ("0.wav", "train", "ann"),
        ("2.wav", "dev ", "bob"),
        ("3.wav", " eval", "ann"),
    ]
    (tmp_path / name).write_text("".join(separator.join(row) + "\n" for row in rows))
    data = folder(tmp_path, manifest=name)
    assert [data.split(s).names for s in ("train", "valid", "test")] == [["0.wav"], ["2.wav"], ["3.wav"]]
    assert data.split("valid").columns["who"].tolist() == ["bob"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("path\tsplit\n0.wav\n", "list.tsv, line 2: 1 fields, but there should be 2"),
        ("file\tsplit\n0.wav\ttrain\n", "list.tsv has no column 'path', but file, split"),
        ("path\tsplit\n0.wav\tholdout\n", "list.tsv, line 2: split 'holdout' is none of train, valid, test"),
        ("path\n", "list.tsv has no rows"),
        ("path\tsplit\n\ttrain\n", "list.tsv, line 2: 'path' is empty"),
        ("path\tsplit\n9.wav\ttrain\n0.wav\tvalid\n0.wav\ttest\n", "9.wav cannot be read: No such file"),
    ],
)
def test_a_bad_manifest(tmp_path, text, words):
    write_audio(tmp_path / "0.wav")
    (tmp_path / "list.tsv").write_text(text)
    with pytest.raises(UserError, match=words):
        folder(tmp_path, manifest="list.tsv").split("train")


@pytest.mark.parametrize(
    "how, words",
    [
        ({"sample_rate": 16}, "data.sample_rate is in Hz"),
        ({"min_seconds": 0.0}, "data.min_seconds must be at least one sample"),
        ({"max_seconds": 0.05}, "data.max_seconds=0.05 is less than data.min_seconds=0.1"),
        ({"manifest": "list.txt"}, "data.manifest must be a .tsv or .csv file"),
    ],
)
def test_bad_values_are_refused_before_the_disk_is_touched(how, words):
    with pytest.raises(ConfigError, match=words):
        folder("nowhere", **how)


def test_batching_by_count_works_as_well(three):
    data = AudioFolder(str(three), ByCount(1))
    assert len(data.split("train")) == 1


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch):
    import torchaudio

    def fail(path, download, url):
        assert download and url == "dev-clean"
        raise RuntimeError("no network")

    monkeypatch.setattr(torchaudio.datasets, "LIBRISPEECH", fail)
    with pytest.raises(UserError, match="cannot download LIBRISPEECH to .*new: no network"):
        audio.download("LIBRISPEECH", str(tmp_path / "new"), url="dev-clean")


def test_headers_alone_say_the_length_and_what_is_damaged_further_on_is_met_in_the_run(three, monkeypatch):
    truncated_flac(three / "train" / "bad")
    decoded, real = [], sound.soundfile.SoundFile.read
    with monkeypatch.context() as patch:
        patch.setattr(sound.soundfile.SoundFile, "read", lambda *a, **k: (decoded.append(a), real(*a, **k))[1])
        for check, items in (("headers", 2), ("none", 2), ("whole", 1)):
            assert not decoded
            split = folder(three, check=check, on_error="skip").split("train")
            assert len(split) == items and split.on_error == "skip"
    assert decoded
    split = folder(three, check="headers").split("train")
    assert split.lengths.tolist() == [4800, 32000] and split.on_error == "raise"
    with pytest.raises(UserError, match="bad.flac cannot be read any more"):
        split.read(1)


@pytest.mark.parametrize("spoil", [zero_bytes, zero_samples, one_sample, too_short, words_for_sound])
def test_what_a_header_shows_is_refused_by_headers_and_left_out_by_none(three, spoil, warnings):  # noqa: F811
    bad, words = spoil(three / "train" / "bad")
    with pytest.raises(UserError, match=f"{bad.name} {words}"):
        folder(three, check="headers").split("train")
    assert not warnings()
    assert folder(three, check="none").split("train").names == ["train/a.wav"]
    assert "left out 1 of 2" in warnings()


def test_a_second_start_opens_no_file(three, monkeypatch):
    want = folder(three).split("train").lengths.tolist()
    monkeypatch.setattr(sound, "inspect", lambda *_: pytest.fail("looked into a file"))
    monkeypatch.setattr(AudioFolder, "listing", lambda _: pytest.fail("listed the files"))
    assert folder(three, max_seconds=0.2, sample_rate=8000, on_error="skip").split("train").lengths.tolist() == [2400]
    assert folder(three).split("train").lengths.tolist() == want
    with pytest.raises(pytest.fail.Exception):  # another listing, of which nothing is known
        folder(three, manifest="all.csv").split("train")


def test_names_are_not_copied_to_another_process(three):
    for i in range(200):
        write_audio(three / "train" / f"{i}.wav", 0.1)
    split = folder(three).split("train")
    again = pickle.loads(pickle.dumps(split))
    assert again.names == split.names and torch.equal(again.read(3), split.read(3))
    assert len(pickle.dumps(split.names)) + len(pickle.dumps(split.columns)) < 1000
