import pytest
from given import own_cache, warnings  # noqa: F401

from sslzoo.data import files
from sslzoo.errors import UserError


def test_a_root_may_be_the_folder_around_it(tmp_path):
    (tmp_path / "set" / "raw").mkdir(parents=True)
    assert files.rooted(str(tmp_path / "set"), "raw") == tmp_path / "set" / "raw"
    assert files.rooted(str(tmp_path / "set" / "raw"), "raw") == tmp_path / "set" / "raw"
    with pytest.raises(UserError, match="there is no folder .*nowhere — set data.path"):
        files.rooted(str(tmp_path / "nowhere"), "raw")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a folder"):
        files.rooted(str(tmp_path / "file"))


def test_a_file_that_is_not_utf8_is_named_with_its_byte(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfplain")
    assert files.read_text(path) == "plain"
    path.write_bytes("ä".encode() + "naïve".encode("latin1"))
    with pytest.raises(
        UserError, match="a.txt is not UTF-8: byte 4 is 0xef .line 1. — convert it: iconv -f latin1 -t utf-8 a.txt"
    ):
        files.read_text(path)
    with pytest.raises(UserError, match="cannot read .*b.txt: No such file"):
        files.read_text(tmp_path / "b.txt")


def test_bad_ones_are_refused_or_named_and_counted(warnings):  # noqa: F811
    faults = {1: "b.wav is cut off", 3: "d.wav is empty"}
    with pytest.raises(UserError, match=r"b.wav is cut off \(and 1 more like it\) — .*data.on_error=skip"):
        files.drop_faulty("here", 5, faults, "raise")
    assert not warnings()
    assert files.drop_faulty("here", 5, faults, "skip").tolist() == [0, 2, 4]
    assert warnings() == "here: left out 2 of 5: b.wav is cut off; d.wav is empty"
    with pytest.raises(UserError, match="here: none of its 2 items can be used; the first: a is bad"):
        files.drop_faulty("here", 2, {0: "a is bad", 1: "b is bad"}, "skip")
    assert files.drop_faulty("here", 2, {}, "raise").tolist() == [0, 1]


def test_formats_that_cannot_be_read_are_named_and_counted(tmp_path):
    names = ["a.wav", "b.m4a", "c/d.M4A", "e.wma", "notes.txt"]
    kept, said = files.readable(tmp_path, names, (".wav",), (".m4a", ".wma"), "convert them")
    assert kept == ["a.wav"]
    assert said == [f"{tmp_path}: 2 .m4a, 1 .wma files cannot be read and are left out: convert them"]
    assert files.readable(tmp_path, names[:1], (".wav",), (".m4a",), "convert them") == (["a.wav"], [])
    with pytest.raises(UserError, match="has no .wav files .*; 1 .m4a file cannot be read and is left out — convert"):
        files.readable(tmp_path, ["b.m4a"], (".wav",), (".m4a",), "convert them")


def test_a_file_that_is_not_there_is_named_with_where_it_may_be(tmp_path):
    for name in ("CoLA", "RTE", "SST-2", "WNLI"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.tsv").touch()
    said = files.elsewhere(tmp_path / "train.tsv")
    assert (
        said
        == f" — {tmp_path} has CoLA/train.tsv, RTE/train.tsv, SST-2/train.tsv …: set data.path to the folder that is meant"
    )
    assert files.elsewhere(tmp_path / "RTE" / "train.csv") == " — did you mean 'train.tsv'?"
    assert files.elsewhere(tmp_path / "nowhere" / "train.csv") == ""
