import pytest
from given import own_cache, warnings, write_audio  # noqa: F401

from sslzoo.data import audio
from sslzoo.data.sampler import BySeconds
from sslzoo.data.speech import FreeSpokenDigits, LibriSpeech, LJSpeech, SpeechCommands
from sslzoo.errors import UserError


def every(data):
    return {name: data.split(name) for name in ("train", "valid", "test")}


def test_free_spoken_digits(tmp_path):
    root = tmp_path / "recordings"
    for digit in range(2):
        for who in ("ann", "bob"):
            for index in range(12):
                write_audio(root / f"{digit}_{who}_{index}.wav", 0.15, 8000)
    found = every(FreeSpokenDigits(str(tmp_path), BySeconds()))
    assert sum(map(len, found.values())) == 48
    assert len(found["test"]) == 20 and {int(n[:-4].split("_")[2]) for n in found["test"].names} == set(range(5))
    assert set(found["train"].columns["digit"]) == {"0", "1"} and set(found["train"].columns["speaker"]) == {
        "ann",
        "bob",
    }
    split = found["valid"]
    assert [f"{d}_{s}" for d, s in zip(split.columns["digit"], split.columns["speaker"], strict=True)] == [
        name.rsplit("_", 1)[0] for name in split.names
    ]
    write_audio(root / "seven.wav")
    with pytest.raises(UserError, match="seven.wav is not named as this set's files are: digit_speaker_index"):
        FreeSpokenDigits(str(tmp_path), BySeconds()).split("train")


@pytest.fixture
def commands(tmp_path):
    root = tmp_path / "SpeechCommands" / "speech_commands_v0.02"
    for speaker in range(20):
        for word in ("yes", "no"):
            write_audio(root / word / f"{speaker:08x}_nohash_0.wav", 0.12)
    write_audio(root / "_background_noise_" / "hum.wav", 1.0)
    return root


def test_speech_commands_by_its_lists(tmp_path, commands):
    (commands / "validation_list.txt").write_text("yes/00000001_nohash_0.wav\nno/00000001_nohash_0.wav\n")
    (commands / "testing_list.txt").write_text("yes/00000002_nohash_0.wav\nno/99999999_nohash_0.wav\n")
    found = every(SpeechCommands(str(tmp_path), BySeconds()))
    assert found["valid"].names == ["no/00000001_nohash_0.wav", "yes/00000001_nohash_0.wav"]
    assert found["test"].names == ["yes/00000002_nohash_0.wav"]
    assert len(found["train"]) == 37 and set(found["train"].columns["word"]) == {"yes", "no"}
    assert found["test"].columns["speaker"].tolist() == ["00000002"]


def test_speech_commands_without_lists_is_split_by_speaker(commands):
    found = every(SpeechCommands(str(commands), BySeconds()))
    speakers = [set(split.columns["speaker"]) for split in found.values()]
    assert sum(map(len, speakers)) == 20 and all(speakers)


@pytest.fixture
def books(tmp_path):
    root = tmp_path / "LibriSpeech"
    for subset, speakers in (("train-clean-100", range(100, 120)), ("dev-clean", (7,)), ("test-clean", (8,))):
        for speaker in speakers:
            write_audio(root / subset / f"{speaker}" / "1" / f"{speaker}-1-0000.flac", 0.2, seed=speaker)
    return root


def test_librispeech_with_and_without_transcripts(books):
    found = every(LibriSpeech(str(books.parent), BySeconds()))
    assert [len(x) for x in found.values()] == [20, 1, 1]
    assert set(found["test"].columns) == {"subset", "speaker", "chapter"}
    (books / "test-clean" / "8" / "1" / "8-1.trans.txt").write_text("8-1-0000 HELLO THERE\n")
    (books / "SPEAKERS.TXT").write_text(
        "; ID |SEX| SUBSET\n8    | F | test-clean | 8.05 | Ann\n100 | M | train-clean-100 | 9 | Bob\n"
    )
    found = every(LibriSpeech(str(books), BySeconds()))
    assert {key: values[0] for key, values in found["test"].columns.items()} == {
        "subset": "test-clean",
        "speaker": "8",
        "chapter": "1",
        "sex": "F",
        "transcript": "HELLO THERE",
    }
    assert found["train"].columns["sex"].tolist() == ["M", *[""] * 19]
    assert set(found["train"].columns["transcript"]) == {""}


def test_librispeech_takes_what_it_lacks_from_training(books):
    data = LibriSpeech(str(books), BySeconds(), train=["train-clean-100", "dev-clean"], valid=[], test=["test-clean"])
    found = every(data)
    assert len(found["train"]) + len(found["valid"]) == 21 and len(found["valid"]) >= 1
    assert found["test"].names == ["test-clean/8/1/8-1-0000.flac"]


def test_librispeech_uses_the_subsets_that_are_there_and_says_which_are_not(books, warnings):  # noqa: F811
    data = LibriSpeech(str(books), BySeconds(), train=["train-clean-100", "train-clean-360"], valid=["dev-other"])
    found = every(data)
    assert len(found["train"]) + len(found["valid"]) == 20 and len(found["valid"]) >= 1 and len(found["test"]) == 1
    assert warnings().splitlines() == [
        f"{books} has no files of train-clean-360, dev-other: used is what there is",
        f"{books}: valid is taken from the training files",
    ]
    (books / "dev-other" / "7" / "1").mkdir(parents=True)
    write_audio(books / "dev-other" / "7" / "1" / "7-1-0000.flac", 0.2)
    again = LibriSpeech(str(books), BySeconds(), train=["train-clean-100", "train-clean-360"], valid=["dev-other"])
    assert again.split("valid").names == ["dev-other/7/1/7-1-0000.flac"]


def test_librispeech_says_which_subsets_there_are(books):
    with pytest.raises(UserError, match="has no subset dev-othr — did you mean 'dev-other'. — set data.valid"):
        LibriSpeech(str(books), BySeconds(), valid=["dev-othr"]).split("train")
    with pytest.raises(
        UserError, match=r"has none of train-other-500, but dev-clean, .*data.train=\[train-clean-100\]"
    ):
        LibriSpeech(str(books), BySeconds(), train=["train-other-500"]).split("train")
    with pytest.raises(
        UserError, match=rf"is one subset: set data.path={books} data.train=\[dev-clean\] data.valid=\[\]"
    ):
        LibriSpeech(str(books / "dev-clean"), BySeconds()).split("train")
    write_audio(books / "dev-clean" / "astray.flac")
    with pytest.raises(UserError, match="astray.flac is not where this set's files are"):
        LibriSpeech(str(books), BySeconds()).split("train")


def test_librispeech_downloads_what_is_not_there(books, monkeypatch):
    asked = []

    def download(dataset, path, url):
        asked.append((dataset, path, url))
        write_audio(books / url / "9" / "1" / "9-1-0000.flac", 0.2)

    monkeypatch.setattr(audio, "download", download)
    data = LibriSpeech(str(books.parent), BySeconds(), valid=["dev-other"], download=True)
    assert len(data.split("valid")) == 1
    assert asked == [("LIBRISPEECH", str(books.parent), "dev-other")]


def test_ljspeech(tmp_path):
    root = tmp_path / "LJSpeech-1.1"
    for i in range(30):
        write_audio(root / "wavs" / f"LJ{i}.wav", 0.2, 22050)
    table = root / "metadata.csv"
    table.write_text("".join(f'LJ{i}|Number {i}, "quoted.|Number {i} spoken\n' for i in range(30)))
    found = every(LJSpeech(str(tmp_path), BySeconds()))
    assert sum(map(len, found.values())) == 30 and all(map(len, found.values()))
    name = found["test"].names[0]
    assert found["test"].columns["transcript"][0] == f"Number {name[7:-4]} spoken"
    within = every(LJSpeech(str(root / "wavs"), BySeconds()))
    assert [part.names[:] for part in within.values()] == [part.names[:] for part in found.values()]
    table.write_text("LJ0|only two\n")
    with pytest.raises(UserError, match="metadata.csv, line 1: 2 fields"):
        LJSpeech(str(tmp_path), BySeconds()).split("train")


def test_of_ljspeech_the_files_that_are_there_are_used(tmp_path, warnings):  # noqa: F811
    for i in range(12):
        write_audio(tmp_path / "wavs" / f"LJ{i}.wav", 0.2, seed=i)
    (tmp_path / "metadata.csv").write_text("".join(f"LJ{i}|a|b\n" for i in range(1, 40)))
    found = every(LJSpeech(str(tmp_path), BySeconds()))
    words = {n: w for x in found.values() for n, w in zip(x.names, x.columns["transcript"], strict=True)}
    assert words == {f"wavs/LJ{i}.wav": "b" if i else "" for i in range(12)}
    assert "28 of 39 files of metadata.csv are not there" in warnings()
    assert "1 of 12 files in wavs/ have no transcript" in warnings()
