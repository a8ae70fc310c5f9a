"""GLUE's and CLUE's official folders: columns, files without labels, marks that look like quotes, what is missing."""

import json

import pytest
from conftest import CONF
from given import own_cache  # noqa: F401
from official import CLUE, GLUE, TEXT, clue, glue
from test_data_configs import made

from sslzoo.errors import UserError


@pytest.mark.parametrize("name", GLUE)
def test_every_set_of_glue_is_read_from_its_folder(name, tmp_path):
    folder = glue(tmp_path, name)
    data = made(name, f"data.path={folder}")
    train, valid, test = (data.opened(part) for part in ("train", "valid", "test"))
    assert len(test.texts) == 6 and len(train.texts) + len(valid.texts) == 40
    assert test.texts[0].startswith(TEXT) and (test.pairs is None) == (name in ("cola", "sst2"))
    if name == "stsb":
        assert test.columns["label"].tolist() == [0.0, 1.25, 2.5, 3.75, 5.0, 0.0]
    else:
        assert set(test.columns["label"]) == set(data.labels)
    file = "test_mismatched.tsv" if name == "mnli_mm" else "test_matched.tsv" if name == "mnli" else "test.tsv"
    sheet = data.unlabelled(file, "id" if name == "qqp" else "index")
    assert sheet.columns["id"].tolist() == ["0", "1", "2", "3", "4"] and sheet.texts[4].startswith(TEXT)
    if sheet.pairs:
        assert sheet.pairs[0] != sheet.texts[0] and sheet.pairs[0].startswith("the second")


@pytest.mark.parametrize("name", CLUE)
def test_every_set_of_clue_is_read_from_its_folder(name, tmp_path):
    folder = clue(tmp_path, name)
    data = made(name, f"data.path={folder}")
    test = data.opened("test")
    assert len(test.texts) == 6 and len(data.opened("train").texts)
    if name == "cmrc2018":
        assert data.windows("test").questions[0].answers[0][0] == "天气"
        return
    assert len(set(test.columns["label"])) >= 2 and "-" not in test.columns["label"]
    sheet = data.unlabelled("test.json", "id")
    assert sheet.columns["id"].tolist() == [10, 11, 12, 13, 14] and "label" not in sheet.columns


def test_keywords_are_one_text_and_a_pronoun_is_marked(tmp_path):
    csl = made("clue_csl", f"data.path={clue(tmp_path / 'a', 'clue_csl')}").opened("test")
    assert csl.texts[0] == "水 火" and csl.pairs[0].startswith("今天")
    wsc = made("clue_wsc", f"data.path={clue(tmp_path / 'b', 'clue_wsc')}").opened("test")
    assert wsc.texts[:2] == ["_小明_说[他]来了 0", "[他]说_小明_来了 1"]


def test_a_pronoun_without_its_place_is_refused(tmp_path):
    folder = clue(tmp_path, "clue_wsc")
    (folder / "dev.json").write_text(json.dumps({"text": "他", "label": "true", "target": {"span1_text": "他"}}))
    with pytest.raises(UserError, match="dev.json, line 1: 'target' has no span1_text and span1_index within the text"):
        made("clue_wsc", f"data.path={folder}").opened("test")


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path):
    """The files of Microsoft's paraphrase corpus begin with one, and have labels in test."""
    folder, header = tmp_path / "MRPC", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    folder.mkdir()
    rows = "".join(f'{i % 2}\t1\t2\ta {i}\tb "{i}\r\n' for i in range(30))
    for part in ("train", "test"):
        (folder / f"msr_paraphrase_{part}.txt").write_bytes(b"\xef\xbb\xbf" + (header + rows).encode())
    files = "data.files={train: msr_paraphrase_train.txt, test: msr_paraphrase_test.txt}"
    data = made("mrpc", f"data.path={folder}", files)
    test = data.opened("test")
    assert len(test.texts) == 30 and test.pairs[3] == 'b "3' and set(test.columns["label"]) == {"0", "1"}
    (folder / "sheet.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"#1 String": "a", "#2 String": "b"}).encode())
    assert data.unlabelled("sheet.json", "index").columns["id"].tolist() == [0]


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path):
    folder = glue(tmp_path, "qnli")
    with pytest.raises(UserError, match=r"test.tsv has no column 'label', but .*: if its labels are not public"):
        made("qnli", f"data.path={folder}", "data.files.test=test.tsv").opened("test")
    (folder / "dev.tsv").unlink()
    with pytest.raises(UserError, match=r"dev.tsv: No such file; there are test.tsv, train.tsv$"):
        made("qnli", f"data.path={folder}").split("test")
    (folder / "train.tsv").write_text("index\tquestion\tlabel\n0\ta\tentailment\n")
    with pytest.raises(UserError, match="train.tsv has no column 'sentence', but index, question, label"):
        made("qnli", f"data.path={folder}").opened("train")
    (folder / "test.tsv").write_text("index\tquestion\tsentence\n0\ta\n")
    with pytest.raises(UserError, match="test.tsv, line 2: 2 fields, but there should be 3"):
        made("qnli", f"data.path={folder}").unlabelled("test.tsv", "index")


def test_rows_of_qqp_that_are_cut_short_are_left_out_and_counted(tmp_path, caplog):
    folder = glue(tmp_path, "qqp")
    with open(folder / "train.tsv", "a") as file:
        file.write("7\t1\t2\tonly one question\n")
    data = made("qqp", f"data.path={folder}")
    assert len(data.opened("train").texts) + len(data.opened("valid").texts) == 40
    assert "left out 1 of 41" in caplog.text


def test_each_set_has_a_task():
    for name in (*GLUE, *CLUE):
        assert (CONF / "task" / f"{name}.yaml").exists()


@pytest.mark.real
@pytest.mark.parametrize(
    "name, folder, rows, first",
    [
        ("cola", "CoLA", 1063, "Bill whistled past the house."),
        ("stsb", "STS-B", 1379, "A girl is styling her hair."),
    ],
)
def test_real_test_splits_of_glue(name, folder, rows, first, real):
    data = made(name, f"data.path={real / 'text' / 'GLUE' / folder}")
    sheet = data.unlabelled("test.tsv", "index")
    assert sheet.columns["id"].tolist() == [str(i) for i in range(rows)] and sheet.texts[0] == first


@pytest.mark.real
@pytest.mark.parametrize("name, rows", [("tnews", 1500), ("ocnli", 3000)])
def test_real_test_splits_of_fewclue(name, rows, real):
    """Its files are CLUE's by other names; labels are numbers where CLUE's are texts."""
    files = "++data.files={train: train_few_all.json, valid: dev_few_all.json, test: test_public.json}"
    data = made(f"clue_{name}", f"data.path={real / 'text' / 'FewCLUE' / name}", files)
    assert set(data.opened("test").columns["label"]) == set(data.labels)
    sheet = data.unlabelled("test.json", "id")
    assert len(sheet.texts) == rows and [str(i) for i in sheet.columns["id"][:3]] == ["0", "1", "2"]
