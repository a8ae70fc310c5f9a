import json
from pathlib import Path

import numpy as np
import pytest
from given import own_cache, warnings  # noqa: F401

from sslzoo.data import cache
from sslzoo.data.conllu import ConllU
from sslzoo.data.sampler import ByCount
from sslzoo.data.squad import Squad
from sslzoo.data.table import TextTable
from sslzoo.errors import ConfigError, UserError

ROWS = [(f"text {i}", f"pair {i}", str(i % 2)) for i in range(60)]


def table(path, file="train.tsv", **how):
    how = {"text": "text", "label": "label", "vocab_size": 100, "max_tokens": 16, **how}
    return TextTable(str(path), ByCount(2), {"train": file}, **how)


def write(path, text):
    path.write_text(text)
    return path.parent


def tsv(rows=ROWS, header="text\tpair\tlabel\n"):
    return header + "".join("\t".join(row) + "\n" for row in rows)


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "json"])
def test_every_kind_of_table(tmp_path, kind):
    rows = [(f'the "text", {i}', f"pair {i}", str(i % 2)) for i in range(60)]
    if kind == "tsv":
        text = tsv(rows)
    elif kind == "csv":
        text = "text,pair,label\n" + "".join(f'"the ""text"", {i}",pair {i},{i % 2}\n' for i in range(60))
    else:
        text = "".join(json.dumps({"text": a, "pair": b, "label": int(c)}) + "\n" for a, b, c in rows)
    data = table(write(tmp_path / f"train.{kind}", text), f"train.{kind}", pair="pair", labels=["0", "1"])
    seen = {}
    for name in ("train", "valid", "test"):
        texts = data.opened(name)
        assert len(texts.texts) and set(texts.columns["label"]) <= {"0", "1"}
        seen |= {a: (b, c) for a, b, c in zip(texts.texts, texts.pairs, texts.columns["label"], strict=True)}
    assert seen == {a: (b, c) for a, b, c in rows}
    split = data.split("train")
    assert split.columns["label"].tolist() == data.opened("train").columns["label"].tolist()
    assert data.describe(split.read(0)).startswith('the " text')


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_file_may_be_one_array(tmp_path, indent):
    """As pandas and R write records."""
    rows = [{"text": f"the text {i}", "label": i % 2} for i in range(60)]
    data = table(write(tmp_path / "train.json", json.dumps(rows, indent=indent)), "train.json")
    found = [data.opened(name) for name in ("train", "valid", "test")]
    seen = {name: text for texts in found for name, text in zip(texts.names, texts.texts, strict=True)}
    assert seen == {f"train.json:{i + 1}": f"the text {i}" for i in range(60)}
    with pytest.raises(UserError, match="train.json, line 2: a number, not an object"):
        table(write(tmp_path / "train.json", json.dumps([rows[0], 7])), "train.json").opened("train")


def test_half_of_a_character_is_read_as_none_and_said(tmp_path, warnings):  # noqa: F811
    lines = [f'{{"text": "the \\ud83d\\ude00 text {i}", "label": "a"}}' for i in range(40)]
    lines[3] = '{"text": "half \\ud83d of it", "label": "b\\udc00"}'
    data = table(write(tmp_path / "train.jsonl", "\n".join(lines)), "train.jsonl")
    found = [data.opened(name) for name in ("train", "valid", "test")]
    seen = {text: label for x in found for text, label in zip(x.texts, x.columns["label"].tolist(), strict=True)}
    assert len(seen) == 40 and seen["half \ufffd of it"] == "b\ufffd" and seen["the \U0001f600 text 7"] == "a"
    assert (
        warnings().count("train.jsonl: half of a character's two escapes (\\ud83d alone) is read as U+FFFD, in rows: 1")
        == 1
    )
    assert len(data.split("train"))


def test_a_tsv_has_no_quotes(tmp_path):
    """GLUE's rows begin with a quotation mark that is never closed."""
    rows = [('"Never closed', "b", "0"), ("x", "b", "1")] + ROWS
    data = table(write(tmp_path / "train.tsv", tsv(rows)))
    assert sum(len(data.opened(name).texts) for name in ("train", "valid", "test")) == 62


def test_a_csv_may_have_lines_in_quotes(tmp_path):
    text = "text,label\n" + "".join(f'"two\nlines {i}",a\n' for i in range(20))
    data = table(write(tmp_path / "train.csv", text), "train.csv")
    texts = data.opened("train")
    assert texts.texts[0].startswith("two\nlines") and texts.names[0].startswith("train.csv:")


def test_named_files_are_taken_whole_and_the_rest_from_train(tmp_path):
    write(tmp_path / "train.tsv", tsv())
    write(tmp_path / "dev.tsv", tsv([("unseen", "pair", "1")]))
    data = TextTable(str(tmp_path), ByCount(2), {"train": "train.tsv", "test": "dev.tsv"}, "text", label="label")
    assert data.opened("test").texts == ["unseen"]
    both = data.opened("train").texts + data.opened("valid").texts
    assert sorted(both) == sorted(row[0] for row in ROWS) and len(data.opened("valid").texts)
    for place, name in enumerate(data.opened("valid").names):
        assert data.opened("valid").texts[place] == ROWS[int(name.split(":")[1]) - 2][0]


@pytest.mark.parametrize("pair, many", [("pair", 3), (None, 4)])
def test_the_same_text_in_two_files_is_said_and_no_error(tmp_path, warnings, pair, many):  # noqa: F811
    write(tmp_path / "train.tsv", tsv())
    write(tmp_path / "dev.tsv", tsv([("unseen", "pair", "1")]))
    write(tmp_path / "test.tsv", tsv([*ROWS[:3], ("not seen", "pair", "1"), ("text 7", "another", "1")]))
    files = {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"}
    for _ in range(2):  # made, and from the cache
        data = TextTable(str(tmp_path), ByCount(2), files, "text", pair, "label")
        assert [len(data.split(name)) for name in ("test", "train", "valid", "test")] == [5, 60, 1, 5]
    said = f"{many} of 5 test texts are in train, too, such as test.tsv:2"
    assert warnings().count(said) == warnings().count(" are in ") == 2


def test_the_same_text_is_on_one_side(tmp_path):
    data = table(write(tmp_path / "train.tsv", tsv([ROWS[i % 20] for i in range(200)])))
    found = [set(data.opened(name).texts) for name in ("train", "valid", "test")]
    assert sum(map(len, found)) == 20 == len(set.union(*found))


def test_columns_are_named_where_there_is_no_header(tmp_path):
    rows = [("gj04", "1", "", f"sentence {i}") for i in range(30)]
    write(tmp_path / "train.tsv", tsv(rows, header=""))
    data = table(tmp_path, columns=["source", "label", "star", "text"], labels=["0", "1"])
    assert sum(len(data.opened(name).texts) for name in ("train", "valid", "test")) == 30


def test_scores_are_numbers(tmp_path):
    write(tmp_path / "train.tsv", tsv([(f"text {i}", "b", f"{i / 10:.3f}") for i in range(50)]))
    labels = table(tmp_path, scores=[0.0, 5.0]).opened("train").columns["label"]
    assert labels.dtype == float and 0 <= labels.min() < labels.max() < 5


def test_no_label_is_asked_for(tmp_path):
    data = table(
        write(tmp_path / "train.jsonl", '{"text": "a b"}\n' * 2 + '{"text": "c"}\n{"text": "d"}\n'),
        "train.jsonl",
        label=None,
    )
    assert dict(data.split("train").columns) == {}


@pytest.mark.parametrize(
    "line, how, words",
    [
        ("a\tb", {}, "train.tsv, line 62: 2 fields, but there should be 3"),
        ("\tb\t1", {}, "train.tsv, line 62: 'text' is missing or empty; there is text, pair, label"),
        ("a\tb\t", {}, "train.tsv, line 62: 'label' is missing or empty"),
        ("a\tb\t2", {"labels": ["0", "1"]}, "train.tsv, line 62: label '2' is none of 0, 1"),
        ("a\tb\tgood", {"scores": [0.0, 5.0]}, "train.tsv, line 62: label 'good' is no number from 0 to 5"),
        ("a\tb\t5.1", {"scores": [0.0, 5.0]}, "label '5.1' is no number from 0 to 5"),
        ("a\tb\tnan", {"scores": [0.0, 5.0]}, "'label' is missing or empty; there is text, pair, label"),
    ],
)
def test_a_bad_line_is_named_and_left_out_only_if_that_is_allowed(tmp_path, warnings, line, how, words):  # noqa: F811
    write(tmp_path / "train.tsv", tsv() + line + "\n")
    with pytest.raises(UserError, match=f"{words}.*data.on_error=skip"):
        table(tmp_path, **how).opened("train")
    assert not warnings()
    data = table(tmp_path, on_error="skip", **how)
    assert sum(len(data.opened(name).texts) for name in ("train", "valid", "test")) == 60
    assert warnings().count("left out 1 of 61") == 1 and "line 62" in warnings()


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"text": "a", "label": 0}\n{"text": "a"', "train.jsonl, line 2: not JSON"),
        ('[1]\n{"text": "a", "label": 0}', "train.jsonl, line 1: a list, not an object"),
        ('{"text": "a", "label": null}', "train.jsonl, line 1: 'label' is missing or empty"),
        (
            '{"texts": "a", "label": 1}',
            "'text' is missing or empty; there is texts, label — did you mean 'texts'",
        ),
        ("", "train.jsonl has no lines"),
    ],
)
def test_bad_json_lines(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        table(write(tmp_path / "train.jsonl", text), "train.jsonl").opened("train")


def test_a_table_that_is_not_there_or_not_utf8_or_of_other_columns(tmp_path):
    with pytest.raises(UserError, match="cannot read .*train.tsv: No such file"):
        table(tmp_path).opened("train")
    (tmp_path / "train.tsv").write_bytes(b"text\tlabel\ncaf\xe9\t1\n")
    with pytest.raises(UserError, match=r"train.tsv is not UTF-8: byte 14 is 0xe9 \(line 2\) — convert it"):
        table(tmp_path).opened("train")
    write(tmp_path / "train.tsv", "sentence\tlabel\na\t1\n")
    with pytest.raises(UserError, match="has no column 'text', but sentence, label"):
        table(tmp_path).opened("train")


@pytest.mark.parametrize(
    "how, words",
    [
        ({"file": "train.xlsx"}, "data.files: train.xlsx is none of .tsv .csv"),
        ({"label": None, "labels": ["0"]}, "data.label is not set"),
        ({"labels": ["0"], "scores": [0.0, 1.0]}, "one of data.labels or within data.scores, not both"),
        ({"scores": [1.0, 0.0]}, r"data.scores is \[lowest, highest\]"),
        ({"columns": ["sentence", "label"]}, "data.columns has no 'text'"),
    ],
)
def test_bad_values_are_refused_before_the_disk_is_touched(how, words):
    with pytest.raises(ConfigError, match=words):
        table("nowhere", **how)


SENTENCE = """# text = Don't go.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVBP\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tgone\tgo\tVERB\tVB\t_\t_\t_\t_\t_
4\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_

"""


def test_parts_of_speech_hold_for_the_ids_of_their_word(tmp_path, warnings):  # noqa: F811
    for name in ("train", "dev", "test"):
        (tmp_path / f"en_x-ud-{name}.conllu").write_text(SENTENCE * 2)
    data = ConllU(str(tmp_path), ByCount(2), vocab_size=40, max_tokens=32)
    split = data.split("valid")
    assert len(split) == 2
    pieces, tags = data.tokenizer.tokens(split.read(1)), split.intervals["upos"][1]
    assert tags.label.tolist() == ["AUX", "PART", "VERB", "PUNCT"]
    said = ["".join(pieces[int(a) : int(b)]).replace("##", "") for a, b in zip(tags.start, tags.end, strict=True)]
    assert said == ["do", "n't", "go", "."]
    short = ConllU(str(tmp_path), ByCount(2), vocab_size=40, max_tokens=8, tokens="characters").split("train")
    assert short.lengths.tolist() == [8, 8]
    assert short.intervals["upos"][0].label.tolist() == ["AUX", "PART"]
    assert short.intervals["upos"][0].end.tolist() == [3, 7]
    (tmp_path / "en_x-ud-train.conllu").write_text(SENTENCE + SENTENCE.replace("PUNCT", "DOT"))
    with pytest.raises(UserError, match="sentence that ends on line 15: 'DOT' is no universal part of speech"):
        ConllU(str(tmp_path), ByCount(2)).split("train")
    assert len(ConllU(str(tmp_path), ByCount(2), vocab_size=40, on_error="skip").split("train")) == 1
    assert "left out 1 of 2" in warnings()
    (tmp_path / "en_x-ud-test.conllu").unlink()
    with pytest.raises(UserError, match=r"has 0 files \*-ud-test.conllu"):
        data.split("test")


def test_questions_with_their_paragraphs(tmp_path):
    def article(i):
        item = {"id": f"q{i}", "question": f"What is {i}?", "answers": [{"text": f"{i}", "answer_start": 5}]}
        return {
            "title": f"title {i}",
            "paragraphs": [{"context": f"It is {i}.", "qas": [item, {**item, "answers": []}]}],
        }

    (tmp_path / "train.json").write_text(json.dumps({"data": [article(i) for i in range(20)]}))
    data = Squad(str(tmp_path), ByCount(2), {"train": "train.json"}, vocab_size=60, max_tokens=32)
    found = {name: data.opened(name) for name in ("train", "valid", "test")}
    assert sum(len(texts.texts) for texts in found.values()) == 40
    contexts = [set(texts.pairs) for texts in found.values()]
    assert sum(map(len, contexts)) == 20  # an article is on one side
    number = found["test"].names[0].split("q")[-1]
    assert found["test"].columns["answer"][:2].tolist() == [number, ""]
    assert data.describe(data.split("test").read(0)) == f"what is {number}? it is {number}."
    (tmp_path / "train.json").write_text('{"data": [{"paragraphs": [{}]}]}')
    with pytest.raises(UserError, match="train.json is not SQuAD's JSON: KeyError 'qas'"):
        Squad(str(tmp_path), ByCount(2), {"train": "train.json"}).opened("train")


def test_labels_are_told_apart_by_value(tmp_path):
    values = ["1", "1.0", '"1"', '"1.0"', "0", "0.0"]
    lines = [f'{{"text": "text {i}", "label": {values[i % 6]}}}\n' for i in range(60)]
    data = table(write(tmp_path / "train.jsonl", "".join(lines)), "train.jsonl", labels=[0, 1.0])
    found = np.concatenate([data.opened(name).columns["label"] for name in ("train", "valid", "test")])
    assert sorted(set(found)) == ["0", "1"] and (found == "1").sum() == 40


@pytest.mark.parametrize(
    "row, words",
    [
        ('{"text": "a", "label": NaN}', "'label' is missing or empty"),
        ('{"text": "a", "label": [1]}', "label is a list, not a single value"),
        ('{"text": "a", "label": {"b": 1}}', "label is an object, not a single value"),
        ('{"text": ["a"], "label": 1}', "'text' is a list, not a text"),
        ('{"text": NaN, "label": 1}', "'text' is missing or empty"),
        ('{"text": "a", "label": 1, "text": "b"}', "not JSON: 'text' is there twice"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_json_value_that_is_no_text_or_label(tmp_path, warnings, row, words):  # noqa: F811
    good = "".join(f'{{"text": "t\\ud83d\\ude00 {i}", "label": {i % 2}}}\n' for i in range(20))
    write(tmp_path / "train.jsonl", good + row + "\n")
    with pytest.raises(UserError, match=f"train.jsonl, line 21: {words}.*data.on_error=skip"):
        table(tmp_path, "train.jsonl").opened("train")
    assert len(table(tmp_path, "train.jsonl", on_error="skip").split("train"))
    assert "left out 1 of 21" in warnings()


def test_a_field_of_any_length_costs_no_more_than_itself(tmp_path):
    rows = [(f"text {i}", "p", "a" if i else "b" * 200_000) for i in range(200)]
    data = table(write(tmp_path / "train.tsv", tsv(rows)))
    column = next(
        split.columns["label"]
        for split in map(data.split, ("train", "valid", "test"))
        if "b" * 9 in str(split.columns["label"])
    )
    assert column.dtype == object and max(map(len, column)) == 200_000
    stored = sum(file.stat().st_size for file in Path(cache.folder()).rglob("*.npy"))
    assert stored < 1_000_000
