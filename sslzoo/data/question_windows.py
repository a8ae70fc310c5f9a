"""Inputs of extractive question answering: questions with overlapping windows of their paragraphs (Devlin et al. 2019,
section 4.2; `doc_stride` of BERT's run_squad.py)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.base import Split
from sslzoo.data.tokenizer import Tokenizer
from sslzoo.errors import ConfigError


@dataclass(frozen=True)
class Question:
    """name: for messages. answers: (text, its first character in `context`) of each; empty if unanswerable."""

    name: str
    id: str
    text: str
    context: str
    answers: tuple[tuple[str, int], ...]

    def fault(self) -> str | None:
        """The error message of a bad question, or None."""
        if not isinstance(self.text, str) or not self.text.strip() or not str(self.context).strip():
            return f"{self.name}: the {'question' if str(self.context).strip() else 'paragraph'} is empty"
        for text, start in self.answers:
            if not isinstance(start, int) or not text.strip() or self.context[start : start + len(text)] != text:
                return f"{self.name}: its answer '{text[:60]}' does not stand at character {start} of its paragraph"
        return None


class QuestionWindows(Split):
    """Items [CLS] question [SEP] window [SEP] of at most `max_tokens`; windows start `stride` tokens apart.
    Targets: start and end, the positions in the item of the first answer's first and last token; both 0 ([CLS]) if
    the window does not contain the whole answer or there is none.

    question [N]: index into `questions`. first [N]: the paragraph token at which the window starts. cut_questions:
    number of questions truncated to `max_question`. left_out: number of rejected questions.
    """

    on_error = "raise"
    left_out = 0

    def __init__(
        self, questions: list[Question], tokenizer: Tokenizer, max_tokens: int, stride: int, max_question: int
    ):
        self.questions, self.tokenizer, self.intervals, self.columns = questions, tokenizer, {}, {}
        texts = [question.text for question in questions]
        self.ids = [ids[:max_question] for ids in tokenizer.encode_apart(texts)]
        self.cut_questions = sum(len(ids) > max_question for ids in tokenizer.encode_apart(texts))
        contexts = dict.fromkeys(question.context for question in questions)
        self.contexts = {context: tokenizer.encode_offsets(context) for context in contexts}
        specials, rows = tokenizer.pair_specials(), []
        for number, question in enumerate(questions):
            room = max_tokens - specials - len(self.ids[number])
            if room < min(stride, 8):
                raise ConfigError(
                    f"{question.name}: beside its {len(self.ids[number])} tokens there is room for {max(room, 0)} of its "
                    f"paragraph in data.max_tokens={max_tokens}: set a smaller data.max_question or a longer max_tokens"
                )
            total = len(self.contexts[question.context][0])
            # no gap between windows, whatever the stride
            step, at = min(stride, room), 0
            while True:
                rows.append((number, at, min(room, total - at)))
                if at + room >= total:
                    break
                at += step
        self.question, self.first, self.size = np.array(rows, np.int64).T
        self.lengths = self.size + specials + np.array([len(self.ids[number]) for number in self.question])
        self.names = [questions[number].name for number in self.question]

    def read(self, index: int, seed: int | None = None) -> Tensor:
        return torch.from_numpy(self._item(index)[0])

    def _item(self, index: int) -> tuple[np.ndarray, int]:
        number, first = self.question[index], self.first[index]
        ids, _ = self.contexts[self.questions[number].context]
        return self.tokenizer.pair(self.ids[number], ids[first : first + self.size[index]])

    def offsets(self, index: int) -> tuple[np.ndarray, int]:
        """(start, stop) characters in the paragraph [M, 2] of each paragraph token of an item, and the position of the
        first of these tokens in the item."""
        number, first = self.question[index], self.first[index]
        _, offsets = self.contexts[self.questions[number].context]
        return offsets[first : first + self.size[index]], self._item(index)[1]

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        start, end = self.span(index)
        return {"start": torch.tensor(start), "end": torch.tensor(end)}

    def span(self, index: int) -> tuple[int, int]:
        """Positions of the first answer's first and last token; (0, 0) if the window lacks part of it."""
        answers = self.questions[self.question[index]].answers
        if not answers:
            return 0, 0
        text, begin = answers[0]
        begin, stop = begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())
        offsets, place = self.offsets(index)
        inside = np.flatnonzero((offsets[:, 1] > begin) & (offsets[:, 0] < stop))
        whole = len(inside) and offsets[inside[0], 0] <= begin and offsets[inside[-1], 1] >= stop
        return (place + int(inside[0]), place + int(inside[-1])) if whole else (0, 0)
