"""SQuAD's questions beside sentences of their paragraphs."""

import json

import pytest
from given import own_cache, warnings  # noqa: F401

from sslzoo.data.answer_sentences import AnswerSentences
from sslzoo.data.sampler import ByCount
from sslzoo.data.squad import question_files
from sslzoo.errors import UserError

PARAGRAPH = "Dr. Ada wrote the first program in 1843. Her engine was never built. The program computes numbers of 1843."


def question(number: int, text: str, answer: str | None, paragraph: str = PARAGRAPH) -> dict:
    answers = [] if answer is None else [{"text": answer, "answer_start": paragraph.index(answer)}]
    return {"id": f"q{number}", "question": text, "answers": answers}


def article(title: str, *questions: dict, paragraph: str = PARAGRAPH) -> dict:
    return {"title": title, "paragraphs": [{"context": paragraph, "qas": list(questions)}]}


def write(path, *articles: dict):
    path.write_text(json.dumps({"version": "1.1", "data": list(articles)}), encoding="utf-8")
    return path


def opened(folder, **how) -> AnswerSentences:
    return AnswerSentences(str(folder), ByCount(2), vocab_size=100, max_tokens=64, **how)


def test_a_question_has_its_sentence_and_another(tmp_path, warnings):  # noqa: F811
    questions = [
        question(0, "Who wrote the first program?", "Ada"),
        question(1, "When was it written?", "1843"),  # in two sentences: the other is no false one
        question(2, "What is over an end?", "1843. Her engine"),
        question(3, "Is there no answer?", None),
        question(4, "What does the program compute?", "numbers"),
    ]
    write(tmp_path / "train-v1.1.json", *(article(f"a{i}", *questions) for i in range(9)))
    short = article("short", question(9, "Is it short?", "short", "It is short."), paragraph="It is short.")
    write(tmp_path / "dev-v1.1.json", article("b", *questions), short)
    data = opened(tmp_path)
    test = data.opened("test")
    whole = ["Dr. Ada wrote the first program in 1843.", "Her engine was never built."]
    last = "The program computes numbers of 1843."
    assert list(zip(test.texts, test.pairs, test.columns["label"].tolist(), strict=True)) == [
        ("Who wrote the first program?", whole[0], "entailment"),
        ("Who wrote the first program?", last, "not_entailment"),
        ("When was it written?", whole[0], "entailment"),
        ("When was it written?", whole[1], "not_entailment"),
        ("What does the program compute?", last, "entailment"),
        ("What does the program compute?", whole[0], "not_entailment"),
    ]
    assert test.names[:2] == ["dev-v1.1.json: q0 (entailment)", "dev-v1.1.json: q0 (not_entailment)"]
    assert "dev-v1.1.json: 3 of 6 questions are left out" in warnings()
    train, valid = data.opened("train"), data.opened("valid")
    assert len(train.texts) + len(valid.texts) == 9 * 6 and len(valid.texts) % 6 == 0, "whole articles"
    assert data.describe(data.split("test").read(0)).startswith("who wrote the first program? dr. ada wrote")


def test_the_only_file_is_divided_by_article(tmp_path):
    texts = [question(0, "Who wrote the first program?", "Ada")]
    write(tmp_path / "xquad.en.json", *(article(f"a{i}", *texts) for i in range(12)))
    sizes = [len(opened(tmp_path).opened(name).texts) for name in ("train", "valid", "test")]
    assert sum(sizes) == 24 and min(sizes) > 0
    write(tmp_path / "xquad.de.json", article("a", *texts))
    with pytest.raises(UserError, match="xquad.de.json, xquad.en.json: say which are meant, as data.files"):
        opened(tmp_path).opened("train")
    assert len(opened(tmp_path, files={"train": "xquad.en.json"}).opened("train").texts) == sizes[0]


def test_what_is_no_squad_is_named(tmp_path):
    (tmp_path / "train.json").write_text('{"data": [{"paragraphs": [{"context": "A. B."}]}]}')
    with pytest.raises(UserError, match="train.json is not SQuAD's JSON: KeyError 'qas'"):
        opened(tmp_path).opened("train")
    write(tmp_path / "train.json", article("a", question(0, "Why?", None)))
    with pytest.raises(UserError, match="no question of which a sentence has the answer"):
        opened(tmp_path, files={"train": "train.json", "valid": "train.json", "test": "train.json"}).opened("test")
    (tmp_path / "train.json").unlink()
    with pytest.raises(UserError, match="has no .json file"):
        opened(tmp_path).opened("train")


def test_questions_are_found_by_their_files_names(tmp_path):
    (tmp_path / "xquad.en.json").write_text("{}")
    assert question_files(str(tmp_path), None) == (tmp_path, {"train": "xquad.en.json"})
    (tmp_path / "xquad.en.json").unlink()
    for name in ("train-v1.1.json", "dev-v1.1.json"):
        (tmp_path / name).write_text("{}")
    assert question_files(str(tmp_path), None)[1] == {"train": "train-v1.1.json", "test": "dev-v1.1.json"}
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="say which are meant, as data.files"):
        question_files(str(tmp_path), None)
