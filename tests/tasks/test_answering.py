"""Question answering: windows that miss nothing, spans, and what is answered."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import compose
from test_contracts import batch_of
from tiny_tasks import tiny_run, tiny_task, write_run
from torch import nn

import sslzoo as package
from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import build_adapt
from sslzoo.data.base import CLS, SEP
from sslzoo.data.loader import ordered_loader
from sslzoo.data.sampler import ByCount
from sslzoo.data.squad import Squad
from sslzoo.errors import ConfigError, UserError
from sslzoo.tasks.answering import Answering, Answers

CONTEXT = "The Panthers gave up 308 points. In 2015, Jared Allen, aged 33, had 12 tackles and Mario Addison 6½ sacks."


def squad(folder: Path, items: list[dict], **settings) -> Squad:
    paragraph = {"context": CONTEXT, "qas": items}
    (folder / "a.json").write_text(json.dumps({"data": [{"title": "a", "paragraphs": [paragraph]}]}))
    names = {"train": "a.json", "valid": "a.json", "test": "a.json"}
    return Squad(str(folder), ByCount(4), names, vocab_size=90, **{"max_tokens": 32, "window_stride": 5, **settings})


def asked(number: int, text: str, answer: str | None, start: int | None = None, **more) -> dict:
    found = (
        [] if answer is None else [{"text": answer, "answer_start": CONTEXT.find(answer) if start is None else start}]
    )
    return {"id": str(number), "question": text, "answers": found, **more}


def test_windows_hold_every_answer_and_every_token(tmp_path):
    words = ["Panthers", "308 points", "Jared Allen", "33", "12", "6½ sacks.", "The"]
    items = [asked(i, f"Which was number {i}?", word) for i, word in enumerate(words)]
    windows = squad(tmp_path, [*items, asked(9, "Why?", None, is_impossible=True)]).windows("train")
    held: dict[int, list[str]] = {}
    covered: dict[int, set] = {}
    for i in range(len(windows)):
        ids, targets = windows.read(i), windows.targets(i)
        start, end, number = int(targets["start"]), int(targets["end"]), int(windows.question[i])
        offsets, place = windows.offsets(i)
        assert len(ids) == windows.lengths[i] <= 32 and ids[0] == CLS and ids[place - 1] == SEP == ids[-1]
        assert place + len(offsets) + 1 == len(ids)
        covered.setdefault(number, set()).update(map(tuple, offsets.tolist()))
        if end:
            assert place <= start <= end < len(ids) - 1
            text = CONTEXT[offsets[start - place, 0] : offsets[end - place, 1]]
            held.setdefault(number, []).append(text)
    assert {number: set(texts) for number, texts in held.items()} == {i: {word} for i, word in enumerate(words)}
    assert all(len(found) == len(covered[0]) for found in covered.values()) and len(windows) > 16
    assert windows.cut_questions == 0 and windows.questions[-1].answers == ()


class Fixed(nn.Module):
    """An encoder whose last layer is what it is told, by the item."""

    prefix, dim = 0, 2

    def __init__(self, hidden: dict[int, torch.Tensor]):
        super().__init__()
        self.hidden = hidden


def test_the_best_span_of_all_windows_answers(tmp_path):
    """Within the paragraph, of at most max_answer tokens, and none where that is more likely."""
    data = squad(tmp_path, [asked(0, "Who?", "Jared Allen"), asked(1, "Who?", None)], max_tokens=200)
    windows = data.windows("train")
    assert len(windows) == 2
    objective = Answering(Fixed({}), _task_of(), max_answer=4, n_best=3)
    offsets, place = windows.offsets(0)
    size = len(windows.read(0))
    start, end = np.full(size, -5.0), np.full(size, -5.0)
    first = windows.span(0)[0]
    start[first], end[first + 1], end[first + 9], start[1], end[1] = 2, 1, 50, 90, 90  # too long; in the question
    answers = Answers()
    objective._add(answers, windows, 0, start, end)
    assert answers.no_answer == -10 and len(answers.candidates) == 3
    # the least length that reaches the high end is longer than 4 tokens, but a span may begin later
    best = max(answers.candidates)
    assert best[0] == 45 and CONTEXT[offsets[first + 9 - place, 0] : offsets[first + 9 - place, 1]] in best[1]
    end[first + 9] = -5
    answers = Answers(no_answer=1.0)
    objective._add(answers, windows, 0, start, end)
    answers.candidates.sort(reverse=True)
    assert answers.candidates[0] == (3.0, CONTEXT[offsets[first - place, 0] : offsets[first + 1 - place, 1]])
    assert answers.no_answer == -10 and answers.margin == -13
    assert objective.chosen(answers) == answers.candidates[0][1] and objective.chosen(Answers()) == ""
    objective.null_threshold = -20
    assert objective.chosen(answers) == ""
    objective.may_be_none = False
    assert objective.chosen(answers) == answers.candidates[0][1]


def _task_of():
    from types import SimpleNamespace

    return SimpleNamespace(task=SimpleNamespace(metric="f1"), classes=["answer", "none"])


def test_scores_are_of_questions_with_and_without_answers():
    job = build_adapt(tiny_task("text-answers"), tiny_run("tiny_text", "text"))
    split = job.data.split("test")
    assert len(split) > 48 == len(split.questions)
    job.encoder.eval(), job.objective.eval()
    with torch.no_grad():
        found = dict(job.objective.evaluate(job.encoder, ordered_loader(split, 500), split))
    assert next(iter(found)) == "f1" and found["questions"] == 48
    assert found["f1"] == pytest.approx((40 * found["f1_answerable"] + 8 * found["exact_unanswerable"]) / 48)
    assert found["best_f1"] >= found["f1"] - 1e-9 and job.objective.chance(split, split) == pytest.approx(8 / 48)
    batch = batch_of(job, 0)
    with torch.no_grad():
        logits = job.objective.logits(job.encoder, batch)
        start, end = (logits[:, i].log_softmax(1) for i in (0, 1))
        rows = torch.arange(len(batch))
        expected = -(start[rows, batch.targets["start"]] + end[rows, batch.targets["end"]]).mean() / 2
        assert float(job.objective(job.encoder, batch, 0).value) == pytest.approx(float(expected), rel=1e-5)
    assert bool((logits[batch.lengths < logits.shape[2], :, -1] == -torch.inf).all())


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        (asked(3, "Who?", "Jared Allen", start=5), "its answer 'Jared Allen' does not stand at character 5 of its"),
        (asked(3, "Who?", "Jarred Alan", start=42), "its answer 'Jarred Alan' does not stand at character 42"),
        (asked(3, " ", "308"), "a.json: 3: the question is empty"),
    ],
)
def test_an_answer_that_is_not_there(tmp_path, item, fault, caplog):
    good = asked(0, "How many?", "308 points")
    with pytest.raises(UserError, match=fault) as error:
        squad(tmp_path, [good, item]).windows("train")
    assert "1 of 2 questions" in str(error.value) and "\n" not in str(error.value)
    kept = squad(tmp_path, [good, item], wrong_answers="skip").windows("train")
    assert [question.id for question in kept.questions] == ["0"] and "left out 1 of 2" in caplog.text
    assert kept.left_out == 1


def test_a_question_that_leaves_no_room(tmp_path):
    data = squad(tmp_path, [asked(0, "Why " * 60, "308")], max_tokens=24)
    with pytest.raises(ConfigError, match="there is room for 0 of its paragraph in data.max_tokens=24: set a smaller"):
        data.windows("train")
    data = squad(tmp_path, [asked(0, "Why " * 60, "308")], max_tokens=24, max_question=5)
    assert data.windows("train").cut_questions == 1


def test_the_whole_command(tmp_path, sslzoo):
    """Of a run of another data set, with its tokenizer."""
    items = [asked(i, f"Which was number {i}?", word) for i, word in enumerate(["308", "33", "12"])]
    squad(tmp_path, items)
    files = "data.files={train: a.json, test: a.json, valid: a.json}"
    words = [
        f"data.path={tmp_path}",
        files,
        "data.vocab_size=90",
        "data.max_tokens=40",
        "encoder=tiny_text",
    ]
    run = write_run(tmp_path / "run", compose("data=squad", *words))
    config = compose(
        f"run={run.folder}", "task=qa", "head=answers", f"task.data.path={tmp_path}", f"task.{files}",
        "batch={_target_: sslzoo.data.sampler.ByCount, size: 2}", "trainer.max_steps=3", "trainer.progress=false", command="adapt",
    )  # fmt: skip
    found = json.loads(run_adapt(config, {"method": "full"}).read_text())
    assert {"f1", "exact", "loss", "questions"} == set(found["test"]) and found["classes"] == ["answer"]
    assert found["test"]["questions"] == 3 and found["chance"] == 0
    assert found["n_test"] == 3 and found["cut_texts"] == found["left_out"] == {}
    enc = package.load(str(run.folder), adapted="qa-full", device="cpu")
    said = enc.predict([("How many points?", CONTEXT), ("Who?", "Jared Allen.")])
    assert len(said) == 2 and said[0] and said[0] in CONTEXT and said[1] in "Jared Allen."
    assert enc.predict(("How many points?", CONTEXT)) == said[:1]
    with pytest.raises(package.InputTypeError, match="item 0 is no pair of texts"):
        enc.predict("How many?")
    with pytest.raises(package.InputError, match="item 0: the paragraph is empty"):
        enc.predict([("Who?", " ")])
    squad(tmp_path, [*items, asked(7, "Who?", "Jarred Alan", start=42)])
    names = [f"task.{files}", "name=again"]
    code, _, err = sslzoo("adapt", f"run={run.folder}", "task=qa", f"data.path={tmp_path}", *names)
    assert code == 1 and len(err) == 1 and "its answer 'Jarred Alan' does not stand at character 42" in err[0]
    code, _, err = sslzoo("probe", f"run={run.folder}", "task=qa", f"data.path={tmp_path}")
    assert code == 2 and len(err) == 1 and "task qa is learned, not probed: `sslzoo adapt … task=qa`" in err[0], err


def test_learned_in_one_language_and_read_in_another(tmp_path, sslzoo):
    """XQuAD's layout: a file a language, with the same articles."""
    said = {  # the question and the paragraph; the answer is the paragraph's last word
        "en": ("Which colour has house {}?", "House {} on the hill is painted {}"),
        "ru": ("Какого цвета дом {}?", "Дом {} на холме выкрашен в цвет {}"),
    }
    colours = {"en": ["red", "green", "blue"], "ru": ["красный", "зелёный", "синий"]}
    for language, (question, paragraph) in said.items():
        articles = []
        for i in range(24):
            answer = colours[language][i % 3]
            text = paragraph.format(i, answer)
            asked_of = {"id": f"{language}{i}", "question": question.format(i)}
            asked_of["answers"] = [{"text": answer, "answer_start": text.index(answer)}]
            articles.append({"title": f"house {i}", "paragraphs": [{"context": text, "qas": [asked_of]}]})
        name = tmp_path / f"xquad.{language}.json"
        name.write_text(json.dumps({"data": articles}, ensure_ascii=False), encoding="utf-8")
    files = "data.files={train: xquad.en.json, test: xquad.ru.json}"
    both = "data.files={train: xquad.ru.json, test: xquad.en.json, valid: xquad.en.json}"  # a vocabulary of both
    words = [
        f"data.path={tmp_path}",
        "data.vocab_size=150",
        "data.max_tokens=40",
        "encoder=tiny_text",
        "data.tokens=characters",
    ]
    run = write_run(tmp_path / "run", compose("data=squad", *words, both))
    adapting = [
        "adapt",
        f"run={run.folder}",
        "task=qa",
        f"data.path={tmp_path}",
        "trainer.max_steps=40",
        "optim.lr=0.01",
    ]
    code, _, err = sslzoo(*adapting, f"task.{files}", "name=en-ru")
    assert code == 0, err
    found = json.loads((run.folder / "adapted" / "en-ru" / "result.json").read_text())
    assert found["n_train"] + found["n_valid"] == 24 and found["n_test"] == 24
    assert found["test"]["questions"] == 24 and found["left_out"] == {}
    enc = package.load(str(run.folder), adapted="en-ru", device="cpu")
    pairs = [(said["ru"][0].format(i), said["ru"][1].format(i, colours["ru"][i % 3])) for i in range(3)]
    assert all(answer in paragraph for answer, (_, paragraph) in zip(enc.predict(pairs), pairs, strict=True))
