"""Does a sentence contain the answer to a question? GLUE's QNLI (1804.07461, section 3.3), made from SQuAD's JSON."""

import logging
import re
from functools import lru_cache
from itertools import pairwise

from sslzoo.data import labels
from sslzoo.data.question_windows import Question
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.sentences import split_sentences
from sslzoo.data.squad import of_split, question_files, read_questions
from sslzoo.data.text import TextData, Texts, check_files, file_stamps
from sslzoo.data.text_files import split_lines
from sslzoo.data.token_store import digest
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import UserError

LABELS = ("entailment", "not_entailment")  # GLUE's names
_log = logging.getLogger("sslzoo")


class AnswerSentences(TextData):
    """Pairs of a question and a sentence of its paragraph, two per question: the sentence with the answer, and the one
    without it that shares the most words with the question (GLUE drops pairs that share few). Label: label, one of
    `LABELS`.

    files: the file of each split, see `squad.question_files`. Missing splits are whole articles of train, by a hash of
    their titles. Questions are left out if they have no answer, if it spans sentences, or if the paragraph has one
    sentence.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        files: dict[str, str] | None = None,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        tokens: Tokens = "wordpiece",
        lowercase: bool = True,
        strip_accents: bool = False,
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents)
        if files is not None:
            check_files(files)
        self.path, self.files = path, None if files is None else dict(files)

    def fingerprint(self, split: str) -> str:
        root, own = question_files(self.path, self.files)
        return digest(file_stamps([root / own.get(split, own["train"])]), split, sorted(own.items()))

    def texts(self, split: str) -> Texts:
        root, own = question_files(self.path, self.files)
        path = root / own.get(split, own["train"])
        titles, questions = read_questions(path)
        found = [_pair(question) for question in questions]
        pairs = [(question, pair) for question, pair in zip(questions, found, strict=True) if pair is not None]
        titles = [title for title, pair in zip(titles, found, strict=True) if pair is not None]
        if len(pairs) < len(questions) and split in own:
            _log.warning(
                "%s: %d of %d questions are left out, as no one sentence of two or more has their answer",
                *(path, len(questions) - len(pairs), len(questions)),
            )
        pairs = of_split(split, own, pairs, titles, path)
        if not pairs:
            raise UserError(f"{path} has no question of which a sentence has the answer and another has not")
        return Texts(
            [question.text for question, _ in pairs for _ in LABELS],
            [f"{question.name} ({label})" for question, _ in pairs for label in LABELS],
            [sentence for _, pair in pairs for sentence in pair],
            {"label": labels.column([label for _ in pairs for label in LABELS])},
        )


def _pair(question: Question) -> tuple[str, str] | None:
    """(sentence with the answer, sentence without it) of a paragraph; None if it lacks one of them."""
    if not question.answers or question.fault() is not None:
        return None
    answer, start = question.answers[0]
    own, others = None, []
    for first, last in pairwise(_starts(question.context)):
        sentence = question.context[first:last]
        if first <= start and start + len(answer) <= last:
            own = sentence.strip()
        elif not any(said and said in sentence for said, _ in question.answers):
            others.append(sentence.strip())
    if own is None or not others:
        return None
    asked = _words(question.text)
    return own, max(others, key=lambda sentence: len(asked & _words(sentence)))


@lru_cache(maxsize=8)  # several questions share a paragraph
def _starts(text: str) -> list[int]:
    """Character offsets of the sentences of a text, and its length."""
    found, at = [0], 0
    for piece, begins, _ in split_sentences(split_lines(text), "rule", "file"):
        if begins and at:
            found.append(at)
        at += len(piece)
    return [*found, at]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
