"""Questions about paragraphs in SQuAD's JSON, 1.1 (1606.05250) and 2.0 (1806.03822); also XQuAD and CMRC 2018."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import files, labels, splits
from sslzoo.data.base import SPLITS
from sslzoo.data.question_windows import Question, QuestionWindows
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts, check_files, file_stamps
from sslzoo.data.token_store import digest
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import ConfigError, UserError


class Squad(TextData):
    """Pairs of a question and its paragraph. Label: answer, the first one given, or "" for an unanswerable question.

    files: the file of each split, relative to `path`; valid and test default to whole articles of train, by a hash of
    their titles. For `windows`: window_stride, tokens between the starts of two windows; max_question, tokens to which
    questions are truncated; wrong_answers: "skip" leaves out, and counts, questions whose answer is not at its given
    position.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        files: dict[str, str],
        vocab_size: int = 8000,
        max_tokens: int = 384,
        tokens: Tokens = "wordpiece",
        lowercase: bool = True,
        strip_accents: bool = False,
        window_stride: int = 128,
        max_question: int = 64,
        wrong_answers: Literal["raise", "skip"] = "raise",
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents)
        check_files(files)
        if min(window_stride, max_question) < 1:
            raise ConfigError(
                f"data.window_stride and data.max_question must be 1 or more, got {window_stride} and {max_question}"
            )
        self.path, self.files, self.wrong_answers = path, dict(files), wrong_answers
        self.window_stride, self.max_question = window_stride, max_question

    def fingerprint(self, split: str) -> str:
        path = files.rooted(self.path) / self.files.get(split, self.files["train"])
        return digest(file_stamps([path]), split, sorted(self.files.items()))

    def texts(self, split: str) -> Texts:
        rows = self._questions(split)
        answers = [row.answers[0][0] if row.answers else "" for row in rows]
        names = [row.name for row in rows]
        return Texts(
            [row.text for row in rows], names, [row.context for row in rows], {"answer": labels.column(answers)}
        )

    def windows(self, split: str, some: Callable[[int], np.ndarray] = np.arange) -> QuestionWindows:
        """The questions of a split, each with its paragraph in windows of `max_tokens`. some: number of questions ->
        indices to keep. Raises UserError if an answer is not at its position, or a question or paragraph is empty."""
        rows = self._questions(split)
        rows = [rows[i] for i in some(len(rows))]
        faults = {i: fault for i, row in enumerate(rows) if (fault := row.fault())}
        path = str(files.rooted(self.path) / self.files.get(split, self.files["train"]))
        if faults and self.wrong_answers == "raise":
            raise UserError(
                f"{next(iter(faults.values()))}; {len(faults):,} of {len(rows):,} questions of {path} are like this — mend "
                "them, or set data.wrong_answers=skip (task.data.wrong_answers) to leave them out"
            )
        kept = [rows[i] for i in files.drop_faulty(path, len(rows), faults, "skip")]
        found = QuestionWindows(kept, self.tokenizer, self.max_tokens, self.window_stride, self.max_question)
        found.left_out = len(faults)
        return found

    def unanswered(self, file: str) -> QuestionWindows:
        """The questions of another file, relative to `path`, without answers. Raises UserError if a question or
        paragraph is empty."""
        rows = read_questions(files.rooted(self.path) / file, answered=False)[1]
        if faults := [fault for row in rows if (fault := row.fault())]:
            raise UserError(faults[0])
        return QuestionWindows(rows, self.tokenizer, self.max_tokens, self.window_stride, self.max_question)

    def _questions(self, split: str) -> list[Question]:
        path = files.rooted(self.path) / self.files.get(split, self.files["train"])
        titles, rows = read_questions(path)
        own = [name for name in SPLITS[1:] if name in self.files]
        if split in self.files and split != "train":
            return rows
        filled = splits.fill(["train"] * len(titles) + own, [*titles, *own], str(path))
        return [row for row, name in zip(rows, filled, strict=False) if name == split]


def read_questions(path: Path, answered: bool = True) -> tuple[list[str], list[Question]]:
    """The article titles [N] and the questions [N] of a file. answered: whether to read answers. Raises UserError if
    it is not SQuAD's JSON."""
    titles, rows = [], []
    try:
        for article in json.loads(files.read_text(path))["data"]:
            for paragraph in article["paragraphs"]:
                for item in paragraph["qas"]:
                    # 2.0 has wrong answers in "plausible_answers"
                    given = [] if not answered or item.get("is_impossible", False) else item["answers"]
                    answers = tuple((answer["text"], answer["answer_start"]) for answer in given)
                    titles.append(article["title"] if "title" in article else paragraph["context"])
                    name = f"{path.name}: {item['id']}"
                    rows.append(Question(name, str(item["id"]), item["question"], paragraph["context"], answers))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not SQuAD's JSON: {type(error).__name__} {error}") from error
    if not rows:
        raise UserError(f"{path} has no questions")
    return titles, rows
