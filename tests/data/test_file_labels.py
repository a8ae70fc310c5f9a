import pytest
from given import own_cache, warnings, write_audio  # noqa: F401

from sslzoo.data.audio import AudioFolder
from sslzoo.data.file_labels import FileLabels
from sslzoo.data.sampler import BySeconds
from sslzoo.errors import ConfigError, UserError


@pytest.mark.parametrize(
    "pattern, name, labels",
    [
        (
            "{speaker:2}{text:3}{emotion:1}{version}",
            "wav/03a01Fa.wav",
            {"speaker": "03", "text": "a01", "emotion": "F", "version": "a"},
        ),
        ("{modality}-{channel}-{emotion}-{_:*}", "03-01-06-01-02-01-12.wav", {"emotion": "06", "channel": "01"}),
        ("{speaker}_{emotion}{_:2}", "DC_sa01.wav", {"speaker": "DC", "emotion": "sa"}),
        ("{breed:*}_{_}", "great_pyrenees_12.jpg", {"breed": "great_pyrenees"}),
        ("{label}.{_}", "train/cat.0.jpg", {"label": "cat"}),
        ("{_}.{kind}.txt", "1.spam.txt", {"kind": "spam"}),
        ("{_}_{label}", "train/12_pos.txt.gz", {"label": "pos"}),
        ("{speaker}/{_}/{utterance}", "train-clean-100/19/198/19-198-0001.flac", {"speaker": "19"}),
    ],
)
def test_fields_are_found_in_names(pattern, name, labels):
    columns, misfits = FileLabels(pattern).columns([name], "in")
    assert {key: columns[key] for key in labels} == {key: [value] for key, value in labels.items()}
    assert not misfits and "_" not in columns


@pytest.mark.parametrize("name", ["03-01-06.wav", "03_01.wav", "03-.wav", "a/b.wav"])
def test_a_field_does_not_hold_the_sign_beside_it(name):
    columns, misfits = FileLabels("{a}-{b}").columns(["1-2.wav", name], "in")
    assert columns == {"a": ["1", ""], "b": ["2", ""]}
    assert misfits == f"in: 1 of 2 files are not named as data.labels_from has it, such as {name}"
    with pytest.raises(UserError, match="in: no file is named as data.labels_from"):
        FileLabels("{a}-{b}").columns([name], "in")


@pytest.mark.parametrize(
    "pattern, says",
    [
        ("", "names no field"),
        ("{_}-{_}", "names no field"),
        ("{a}{b}", "does not tell where {a} ends: give it a length, {a:2}"),
        ("{a:*}{_}", "does not tell where {a} ends"),
        ("{a}-{a}", "names 'a' twice"),
        ("{a:0}-{b}", "after the colon stands a number"),
        ("{a:d}", "after the colon stands a number"),
        ("{a b}", "has a field 'a b'"),
        ("{a}-{b", "has a brace that belongs to no field"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_refused(pattern, says):
    with pytest.raises(ConfigError) as error:
        FileLabels(pattern)
    assert says in str(error.value)


def test_names_that_do_not_fit_are_refused_or_counted_and_have_no_label(tmp_path, warnings):  # noqa: F811
    for i, name in enumerate(("03a", "03b", "08a", "08b", "noise")):
        write_audio(tmp_path / f"{name}.wav", 0.12, seed=i)
    with pytest.raises(UserError, match=r"1 of 5 files are not named .* noise.wav — mend the pattern, or"):
        AudioFolder(str(tmp_path), BySeconds(9.0), labels_from="{who:2}{what:1}").split("train")
    data = AudioFolder(str(tmp_path), BySeconds(9.0), on_error="skip", labels_from="{who:2}{what:1}")
    found = {}
    for split in map(data.split, ("train", "valid", "test")):
        found |= dict(zip(split.names, zip(split.columns["who"], split.columns["what"], strict=True), strict=True))
    assert found["08a.wav"] == ("08", "a") and found["noise.wav"] == ("", "") and len(found) == 5
    assert "1 of 5 files" in warnings()


def test_a_manifest_and_a_pattern_do_not_say_the_same(tmp_path):
    for i in range(4):
        write_audio(tmp_path / f"{i}-a.wav", seed=i)
    (tmp_path / "m.csv").write_text("path,who\n" + "".join(f"{i}-a.wav,ann\n" for i in range(4)))
    with pytest.raises(UserError, match="both say 'who': rename one"):
        AudioFolder(str(tmp_path), BySeconds(9.0), manifest="m.csv", labels_from="{who}-{_}").split("train")
