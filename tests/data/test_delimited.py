import csv

import pytest

from sslzoo.data import delimited, text_files
from sslzoo.errors import UserError


def read(tmp_path, text, name="a.csv", **how):
    (tmp_path / name).write_bytes(text.encode())
    return list(delimited.table(tmp_path / name, **how))


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_end_at_newlines_alone(tmp_path, monkeypatch, block, end):
    """str.splitlines ends lines at eight other characters, which people have in their texts."""
    monkeypatch.setattr(text_files, "_BLOCK", block)
    odd = "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b"
    found = read(tmp_path, f"text\tn{end}{odd}\t1{end}{end}last\t2{end}{end} \t {end}", "a.tsv")
    assert found == [(2, {"text": odd, "n": "1"}), (4, {"text": "last", "n": "2"})]


def test_newlines_in_quotes_stay_and_names_are_stripped(tmp_path):
    found = read(tmp_path, '\ufefftext , "label", \n"one\r\n\r\ntwo ""three""", x ,\n"a, b", "y",')
    assert found[0] == (2, {"text": 'one\r\n\r\ntwo "three"', "label": "x ", "": ""})
    assert found[1] == (5, {"text": "a, b", "label": "y", "": ""})


def test_a_field_may_be_of_any_length(tmp_path):
    long, limit = "x" * 300_000, csv.field_size_limit()
    for name, text in (("a.csv", f'text,n\n"{long}",1\n'), ("a.tsv", f"text\tn\n{long}\t1\n")):
        assert read(tmp_path, text, name) == [(2, {"text": long, "n": "1"})]
    assert csv.field_size_limit() == limit


def test_a_row_that_is_not_whole_is_told_and_the_next_is_read(tmp_path):
    found = read(tmp_path, 'a,b\n1,2\n1\n"x"y,2\n3,4\n5,"6\n7,8')
    assert [line for line, _ in found] == [2, 3, 4, 5, 6]
    assert found[1][1] == "1 fields, but there should be 2"
    assert found[2][1] == {"a": "xy", "b": "2"}
    assert found[3][1] == {"a": "3", "b": "4"}
    assert found[4][1] == "a quote is opened in this row and never closed"


@pytest.mark.parametrize("header", ["text,label,text", "text, text,b"])
def test_two_columns_of_one_name_are_refused(tmp_path, header):
    with pytest.raises(UserError, match="a.csv has two columns named 'text': rename or remove one"):
        read(tmp_path, header + "\n1,2,3\n")


def test_a_manifest_is_stripped_of_blanks(tmp_path):
    (tmp_path / "m.csv").write_text('path, split , lab,\na.wav, test, "x, y" ,\n\n b.wav ,train,z,\n\n')
    columns, lines = delimited.manifest(tmp_path / "m.csv")
    assert columns == {"path": ["a.wav", "b.wav"], "split": ["test", "train"], "lab": ["x, y", "z"]} and lines == [2, 4]


@pytest.mark.parametrize("name", ["Split", "splits", "SPLIT", "spilt", "data_split", "split name"])
def test_a_column_that_nearly_names_the_split_is_refused(tmp_path, name):
    (tmp_path / "m.tsv").write_text(f"path\t{name}\na.wav\ttest\n")
    with pytest.raises(UserError, match=f"m.tsv has a column '{name}', but none named 'split': name it 'split'"):
        delimited.manifest(tmp_path / "m.tsv")
    (tmp_path / "m.tsv").write_text(f"path\tsplit\t{name}\na.wav\ttest\tx\n")
    assert delimited.manifest(tmp_path / "m.tsv")[0][name] == ["x"]


@pytest.mark.parametrize("name", ["Path", "paths", "file_path"])
def test_a_column_that_nearly_names_the_path_is_refused(tmp_path, name):
    (tmp_path / "m.tsv").write_text(f"{name}\tlabel\na.wav\ttest\n")
    with pytest.raises(UserError, match=f"a column '{name}', but none named 'path'"):
        delimited.manifest(tmp_path / "m.tsv")


@pytest.mark.parametrize("name", ["patch", "slip", "splitter", "speaker"])
def test_other_names_are_labels(tmp_path, name):
    (tmp_path / "m.tsv").write_text(f"path\t{name}\na.wav\tx\n")
    assert delimited.manifest(tmp_path / "m.tsv")[0][name] == ["x"]


@pytest.mark.parametrize(
    "name, header, says",
    [
        (
            "a.csv",
            "text;label",
            "a.csv has semicolons between its columns, and should have commas",
        ),  # Excel's in Europe
        ("a.csv", "text\tlabel", "a.csv has tabs between its columns, and should have commas"),
        ("a.tsv", "text,label", "a.tsv has commas between its columns, and should have tabs"),
    ],
)
def test_columns_divided_otherwise_are_told(tmp_path, name, header, says):
    with pytest.raises(UserError, match=says):
        read(tmp_path, f"{header}\n1\n", name)
    assert read(tmp_path, "text\n1\n", name) == [(2, {"text": "1"})]
