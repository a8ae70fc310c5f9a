"""Readers of SUPERB's official folders, on their layouts in small."""

import json

import pytest
from given import own_cache, write_audio  # noqa: F401

from sslzoo.data.iemocap import IEMOCAP
from sslzoo.data.intents import Barista, FluentSpeechCommands
from sslzoo.data.keywords import Keywords
from sslzoo.data.sampler import ByCount
from sslzoo.data.snips import SPEAKERS, AudioSNIPS
from sslzoo.data.transcripts import Slots
from sslzoo.data.voxceleb import VoxCeleb1
from sslzoo.errors import UserError


def every(data):
    return {name: data.split(name) for name in ("train", "valid", "test")}


def test_keywords_are_twelve_classes_with_the_official_test_set(tmp_path):
    train, test = tmp_path / "speech_commands_v0.01", tmp_path / "speech_commands_test_set_v0.01"
    for speaker in range(8):
        for word in ("yes", "no", "bed"):
            write_audio(train / word / f"{speaker:08x}_nohash_0.wav", 0.12)
    for hum in ("a", "b", "c"):
        write_audio(train / "_background_noise_" / f"{hum}.wav", 1.5)
    (train / "validation_list.txt").write_text("yes/00000001_nohash_0.wav\nbed/00000001_nohash_0.wav\n")
    (train / "testing_list.txt").write_text("yes/00000002_nohash_0.wav\n")
    for word in ("yes", "_unknown_", "_silence_"):
        write_audio(test / word / "x.wav", 0.12)
    found = every(Keywords(str(tmp_path), ByCount(2), max_seconds=1.0))
    assert sorted(found["test"].columns["keyword"]) == ["_silence_", "_unknown_", "yes"]
    assert not any("00000002_nohash_0" in name and "yes" in name for name in found["train"].names)
    assert set(found["train"].columns["keyword"]) == {"yes", "no", "_unknown_", "_silence_"}
    assert sorted(found["valid"].columns["keyword"]) == ["_silence_", "_unknown_", "yes"]
    hum = found["train"].names.index(next(n for n in found["train"].names if "_background" in n))
    assert len(found["train"].read(hum, 3)) == 16000 and found["train"].columns["word"][hum] == "_background_noise_"
    (tmp_path / "none" / "bed").mkdir(parents=True)
    write_audio(tmp_path / "none" / "bed" / "a.wav", 0.2)
    with pytest.raises(UserError, match="has no folder of any of the words yes, no"):
        Keywords(str(tmp_path / "none"), ByCount(2)).split("train")


def test_voxceleb1_by_its_list(tmp_path):
    lines = []
    for speaker in ("id1", "id2"):
        for i in range(4):
            folder = "dev" if i < 3 else "test"
            write_audio(tmp_path / folder / "wav" / speaker / "video" / f"{i}.wav", 0.2)
            lines.append(f"{(1, 1, 2, 3)[i]} {speaker}/video/{i}.wav")
    with pytest.raises(UserError, match="has no iden_split.txt"):
        VoxCeleb1(str(tmp_path), ByCount(2)).split("train")
    (tmp_path / "iden_split.txt").write_text("\n".join([*lines, "1 id9/video/0.wav"]) + "\n")
    found = every(VoxCeleb1(str(tmp_path), ByCount(2)))
    assert {name: len(split) for name, split in found.items()} == {"train": 4, "valid": 2, "test": 2}
    assert (
        found["test"].columns["speaker"].tolist() == ["id1", "id2"]
        and found["test"].names[0] == "test/wav/id1/video/3.wav"
    )
    (tmp_path / "iden_split.txt").write_text("4 id1/video/0.wav\n")
    with pytest.raises(UserError, match="line 1 is not of the form 1 SPEAKER/VIDEO/FILE.wav"):
        VoxCeleb1(str(tmp_path), ByCount(2), check="headers").split("train")


def test_fluent_speech_commands(tmp_path):
    (tmp_path / "data").mkdir()
    for part in ("train", "valid", "test"):
        write_audio(tmp_path / f"wavs/speakers/s/{part}.wav", 0.2)
        text = "path,speakerId,transcription,action,object,location"
        text = f",{text}\n0,wavs/speakers/s/{part}.wav,s,Turn it on,activate,lights,none\n"
        (tmp_path / "data" / f"{part}_data.csv").write_text(text)
    found = every(FluentSpeechCommands(str(tmp_path), ByCount(1)))
    assert {k: v[0] for k, v in found["test"].columns.items()} == {
        "action": "activate", "object": "lights", "location": "none", "speaker": "s", "transcript": "Turn it on",
    }  # fmt: skip
    (tmp_path / "data/test_data.csv").write_text("path,action\nwavs/speakers/s/test.wav,activate\n")
    with pytest.raises(UserError, match="test_data.csv has no column 'speakerId'"):
        FluentSpeechCommands(str(tmp_path), ByCount(1)).split("test")


def test_barista(tmp_path):
    said = {
        f"{i}.flac": {
            "intent": "order",
            "slots": {"size": " small"} | ({"roast": "dark"} if i == 3 else {}) if i % 2 else {"roast": "dark"},
        }
        for i in range(6)
    }
    for name in said:
        write_audio(tmp_path / "speech/clean" / name, 0.2)
    (tmp_path / "label").mkdir()
    (tmp_path / "label/label.json").write_text(json.dumps(said))
    for part, rows in (("train", "0.flac\n1.flac\n2.flac\n3.flac\n"), ("valid", "4.flac\n"), ("test", "5.flac\n")):
        (tmp_path / f"label/{part}.lst").write_text(rows)
    found = every(Barista(str(tmp_path), ByCount(1)))
    assert found["train"].columns["roast"].tolist() == ["dark", "none", "dark", "dark"]
    assert found["train"].columns["slots"][2:].tolist() == ["[roast dark]", "[roast dark] [size small]"]
    symbols = Slots(["roast", "size"])
    assert symbols.decode(symbols.encode("[roast dark] [size small]")) == "B-roast DARK E-roast B-size SMALL E-size"
    assert found["test"].columns["size"].tolist() == ["small"] and found["valid"].names == ["4.flac"]
    (tmp_path / "label/test.lst").write_text("")
    with pytest.raises(UserError, match="5.flac of .* is in none of train.lst, valid.lst, test.lst"):
        Barista(str(tmp_path), ByCount(2)).split("train")


def test_iemocap(tmp_path):
    for session in range(1, 6):
        lines = []
        for i, emotion in enumerate(("neu", "exc", "ang", "fru")):
            name = f"Ses0{session}F_impro01_{'FM'[i % 2]}00{i}"
            write_audio(tmp_path / f"Session{session}/sentences/wav/Ses0{session}F_impro01/{name}.wav", 0.2)
            lines.append(f"[6.2901 - 8.2357]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()")
        folder = tmp_path / f"Session{session}/dialog/EmoEvaluation"
        folder.mkdir(parents=True)
        (folder / f"Ses0{session}F_impro01.txt").write_text("% [START - END]\n\n" + "\n".join(lines) + "\n")
    found = every(IEMOCAP(str(tmp_path), ByCount(1)))
    emotions = [x for split in found.values() for x in split.columns["emotion"]]
    assert sorted(set(emotions)) == ["", "angry", "happy", "neutral"] and len(emotions) == 20
    assert {s for split in found.values() for s in split.columns["speaker"]} == {
        f"Ses0{i}{g}" for i in range(1, 6) for g in "FM"
    }
    with pytest.raises(UserError, match="has no Session1 to Session5"):
        IEMOCAP(str(tmp_path / "Session1"), ByCount(1)).split("train")


def test_audio_snips(tmp_path):
    lines = []
    for part, speakers in SPEAKERS.items():
        name = f"{speakers.split()[0]}-snips-{part}-0"
        write_audio(tmp_path / part / f"{name}.wav", 0.2)
        lines.append(f"{name} BOS PLAY THE BAND , & MORE EOS\tO O B-x B-x O O O PlayMusic".replace("B-x", "artist"))
    write_audio(tmp_path / "train" / "Brian-snips-train-0.wav", 0.2)  # a speaker of test
    (tmp_path / "all.iob.snips.txt").write_text("\n".join([*lines, lines[0].replace("Ivy", "Brian")]) + "\n")
    data = AudioSNIPS(str(tmp_path), ByCount(1))
    found = {part: data.split(part) for part in ("train", "valid", "test")}
    assert {part: len(split) for part, split in found.items()} == {"train": 1, "valid": 1, "test": 1}
    assert found["test"].columns["slots"].tolist() == ["PLAY [artist THE BAND] AND MORE"]
    assert found["test"].columns["transcript"].tolist() == ["PLAY THE BAND AND MORE"]
    (tmp_path / "all.iob.snips.txt").write_text("x BOS A B EOS\tO O\n")
    with pytest.raises(UserError, match="line 1 is not an utterance, BOS, words and EOS"):
        AudioSNIPS(str(tmp_path), ByCount(1)).split("train")
