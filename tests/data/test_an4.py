"""AN4's reader on its layout in small, and on the real set."""

import pytest
from conftest import SHARED
from given import own_cache, write_audio  # noqa: F401

from sslzoo.data.an4 import AN4
from sslzoo.data.sampler import BySeconds
from sslzoo.errors import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "etc").mkdir()
    for part, where, speakers in (("train", "an4_clstk", ["a", "b", "c"]), ("test", "an4test_clstk", ["z"])):
        ids = [f"{where}/{who}/an{i}-{who}-b" for who in speakers for i in range(2)]
        for name in ids:
            write_audio(tmp_path / "wav" / f"{name}.flac", 0.2)
        lines = [f"<s> GO {i} </s> ({name.split('/')[-1]})" if part == "train" else f"NO ({name.split('/')[-1]})"
                 for i, name in enumerate(ids)]  # fmt: skip
        (tmp_path / "etc" / f"an4_{part}.fileids").write_text("\n".join(ids) + "\n")
        (tmp_path / "etc" / f"an4_{part}.transcription").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_transcripts_speakers_and_parts(folder):
    data = AN4(str(folder), BySeconds())
    found = {name: data.split(name) for name in ("train", "valid", "test")}
    assert found["test"].names == [f"an4test_clstk/z/an{i}-z-b.flac" for i in range(2)]
    assert found["test"].columns["transcript"].tolist() == ["NO", "NO"]
    speakers = [set(split.columns["speaker"]) for split in found.values()]
    assert set.union(*speakers) == {"a", "b", "c", "z"} and sum(map(len, speakers)) == 4
    assert sorted([*found["train"].columns["transcript"], *found["valid"].columns["transcript"]]) == [
        f"GO {i}" for i in range(6)
    ]


def test_what_is_wrong_is_said_in_one_line(folder):
    (folder / "wav/an4_clstk/a/an0-a-b.flac").rename(folder / "wav/an4_clstk/a/an0-a-b.raw")
    with pytest.raises(
        UserError, match="no audio file of an4_clstk/a/an0-a-b, which an4_train.fileids lists; a .raw file"
    ):
        AN4(str(folder), BySeconds()).split("train")
    (folder / "etc/an4_test.transcription").write_text("NO an0-z-b\n")
    with pytest.raises(UserError, match="an4_test.transcription, line 1 is not of the form TRANSCRIPT"):
        AN4(str(folder), BySeconds()).split("train")
    (folder / "etc/an4_test.transcription").unlink()
    with pytest.raises(UserError, match="there is no .*an4_test.transcription, which AN4 has"):
        AN4(str(folder), BySeconds()).split("train")


@pytest.mark.real
@pytest.mark.skipif(not (SHARED / "speech/an4").exists(), reason="no real AN4")
def test_the_real_set():
    data = AN4(str(SHARED / "speech/an4"), BySeconds(), check="headers")
    found = {name: data.split(name) for name in ("train", "valid", "test")}
    assert len(found["test"]) == 78 and len(found["train"]) + len(found["valid"]) == 482
    text = " ".join([*found["train"].columns["transcript"], *found["valid"].columns["transcript"]])
    assert "<s>" not in text and "ENTER" in text
