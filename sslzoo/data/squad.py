"""Questions about paragraphs in SQuAD's JSON, 1.1 (1606.05250) and 2.0 (1806.03822); also XQuAD and CMRC 2018."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import files, labels, splits
from sslzoo.data.base import SPLITS
from sslzoo.data.files import rooted
from sslzoo.data.question_windows import Question, QuestionWindows
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts, check_files, file_stamps
from sslzoo.data.token_store import digest
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import ConfigError, UserError


class Squad(TextData):
    """Pairs of a question and its paragraph. Label: answer, the first one given, or "" for an unanswerable question.

    files: the file of each split, see `question_files`; missing splits are whole articles of train, by a hash of their
    titles. For `windows`: window_stride, tokens between the starts of two windows; max_question, tokens to which
    questions are truncated; wrong_answers: "skip" leaves out, and counts, questions whose answer is not at its given
    position.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        files: dict[str, str] | None = None,
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
        if files is not None:
            check_files(files)
        if min(window_stride, max_question) < 1:
            raise ConfigError(
                f"data.window_stride and data.max_question must be 1 or more, got {window_stride} and {max_question}"
            )
        self.path, self.files, self.wrong_answers = path, None if files is None else dict(files), wrong_answers
        self.window_stride, self.max_question = window_stride, max_question

    def fingerprint(self, split: str) -> str:
        root, own = question_files(self.path, self.files)
        return digest(file_stamps([root / own.get(split, own["train"])]), split, sorted(own.items()))

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
        root, own = question_files(self.path, self.files)
        path = str(root / own.get(split, own["train"]))
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
        root, own = question_files(self.path, self.files)
        path = root / own.get(split, own["train"])
        titles, rows = read_questions(path)
        return of_split(split, own, rows, titles, path)


def question_files(path: str, files: dict[str, str] | None) -> tuple[Path, dict[str, str]]:
    """The folder of a data set, and the file of each split relative to it: `files`, or by name the folder's train*.json
    and dev*.json, the latter being test if there is no test*.json; or its only .json file, as train."""
    root = rooted(path)
    if files is not None:
        return root, files
    names = sorted(path.name for path in root.glob("*.json"))
    if len(names) == 1:
        return root, {"train": names[0]}
    known = splits.named(re.split(r"[._-]", name)[0] for name in names)
    found = {name: known.get(re.split(r"[._-]", name)[0]) for name in names}
    own = {part: name for name, part in found.items() if part is not None}
    if "test" not in own and "valid" in own:
        own["test"] = own.pop("valid")  # SQuAD's own test questions are not public
    if "train" not in own or len(own) < len(names):
        some = ", ".join(names[:5]) or "no .json file"
        raise UserError(f"{root} has {some}: say which are meant, as data.files={{train: …, test: …}}")
    return root, own


def of_split(split: str, own: dict[str, str], rows: list, titles: list[str], path: Path) -> list:
    """The rows of a split, of those in its file (`path`): all of them if it has a file of its own and is not train,
    else whole articles by a hash of their titles. own: the file of each split. titles: the article of each row."""
    if split in own and split != "train":
        return rows
    others = [name for name in SPLITS[1:] if name in own]
    filled = splits.fill(["train"] * len(rows) + others, [*titles, *others], str(path))
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
