"""Extractive question answering: predicting the span of a paragraph that is the answer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.data.question_windows import QuestionWindows
from sslzoo.errors import ConfigError
from sslzoo.nn.dropout import SeededDropout
from sslzoo.nn.masked import valid_mask
from sslzoo.objectives.base import Loss
from sslzoo.tasks.answer_metrics import best_threshold, exact_and_f1
from sslzoo.tasks.base import TaskObjective


@dataclass
class Answers:
    """Candidate answers to a question, (score, text) by falling score, and its no-answer score, the minimum over its
    windows. A score is the sum of the logits of start and end."""

    candidates: list[tuple[float, str]] = field(default_factory=list)
    no_answer: float = np.inf

    @property
    def margin(self) -> float:
        """The no-answer score minus the best candidate's."""
        return self.no_answer - (self.candidates[0][0] if self.candidates else -np.inf)


class Answering(TaskObjective):
    """A linear layer gives each token t of a window the logits of being an answer's first and last token (Devlin et al.
    2019, section 4.2). Over B windows:

    loss = -1/2B sum_b (log softmax_t(w_1 h_bt + c_1)_{start_b} + log softmax_t(w_2 h_bt + c_2)_{end_b})

    where start and end are 0, [CLS], if the answer is not in the window (section 4.3). The predicted answer is the span
    of at most `max_answer` tokens with the highest score over all windows; if some questions of train have no answer
    (`data.classes` has a second), it is empty if `margin` is above null_threshold. n_best: candidate spans per window.
    dropout: of h. rule: for exact match and F1, SQuAD's, or CMRC 2018's for Chinese.
    """

    modalities = ("text",)
    needs = frozenset({"tokens"})
    kinds = ("answers",)

    def __init__(
        self,
        encoder: Any,
        data: Any,
        max_answer: int = 30,
        n_best: int = 20,
        null_threshold: float = 0.0,
        rule: Literal["squad", "cmrc"] = "squad",
        dropout: float = 0.0,
    ):
        super().__init__()
        if min(max_answer, n_best) < 1:
            raise ConfigError(
                f"objective.max_answer and objective.n_best must be 1 or more, got {max_answer} and {n_best}"
            )
        self.metric, self.rule, self.may_be_none = data.task.metric, rule, len(data.classes) > 1
        self.max_answer, self.n_best, self.null_threshold = max_answer, n_best, null_threshold
        self.dropout = SeededDropout(dropout)
        self.head = nn.Linear(encoder.dim, 2)

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """The logits of start and end [B, 2, T]; -inf in the padding."""
        encoded = encoder(batch.inputs, batch.lengths)
        found = self.head(self.dropout(encoded.last, batch.row_seeds)).transpose(1, 2).float()
        inside = valid_mask(encoded.lengths, found.shape[2], found.device)
        return found.masked_fill(~inside[:, None], -torch.inf)

    def loss(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """(the loss, the positions of start and end [B, 2] on the logits' device)."""
        places = torch.stack([batch.targets["start"], batch.targets["end"]], 1)
        places = places.to(logits.device, non_blocking=True)
        return F.cross_entropy(logits.flatten(0, 1), places.flatten()), places

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        logits = self.logits(encoder, batch)
        value, places = self.loss(logits, batch)
        return Loss(value, len(places), partial(_logs, logits, places))

    def answers(
        self, encoder: nn.Module, batches: Iterable[Batch], split: QuestionWindows
    ) -> tuple[list[Answers], float]:
        """(the candidate answers to each question of a split, the mean loss over its windows)."""
        found, loss, rows = [Answers() for _ in split.questions], 0.0, 0
        for batch in batches:
            logits = self.logits(encoder, batch)
            if batch.targets:
                loss, rows = loss + len(batch) * float(self.loss(logits, batch)[0]), rows + len(batch)
            for index, (start, end) in zip(batch.index.tolist(), logits.cpu().numpy(), strict=True):
                self._add(found[split.question[index]], split, index, start, end)
        for answers in found:
            answers.candidates = sorted(answers.candidates, key=lambda one: -one[0])[: self.n_best]
        return found, loss / max(rows, 1)

    def _add(self, answers: Answers, split: QuestionWindows, index: int, start: np.ndarray, end: np.ndarray) -> None:
        """Add a window's best spans and its no-answer score."""
        answers.no_answer = min(answers.no_answer, float(start[0] + end[0]))
        offsets, place = split.offsets(index)
        if not len(offsets):
            return
        context = split.questions[split.question[index]].context
        count = min(self.max_answer, len(offsets))
        # [M, count]: scores of spans by first token and length
        ends = np.pad(end[place : place + len(offsets)], (0, count - 1), constant_values=-np.inf)
        scores = start[place : place + len(offsets), None] + np.lib.stride_tricks.sliding_window_view(ends, count)
        for flat in np.argsort(-scores, axis=None, kind="stable")[: self.n_best]:
            first, more = divmod(int(flat), count)
            if np.isfinite(scores[first, more]):
                text = context[offsets[first, 0] : offsets[first + more, 1]].strip()
                answers.candidates.append((float(scores[first, more]), text))

    def chosen(self, answers: Answers) -> str:
        """The predicted answer's text, "" for none."""
        if not answers.candidates or (self.may_be_none and answers.margin > self.null_threshold):
            return ""
        return answers.candidates[0][1]

    def evaluate(
        self, encoder: nn.Module, batches: Iterable[Batch], split: QuestionWindows
    ) -> Iterator[tuple[str, float]]:
        """F1 and exact match over questions; if some have no answer, also over each kind, and the best F1 over all
        values of null_threshold (best_f1), as in SQuAD 2.0's script."""
        found, loss = self.answers(encoder, batches, split)
        truth = [[text for text, _ in question.answers] for question in split.questions]
        answerable = np.array([bool(answers) for answers in truth])
        texts = [self.chosen(answers) for answers in found]
        pairs = [exact_and_f1(*pair, self.rule) for pair in zip(truth, texts, strict=True)]
        scores = dict(zip(("exact", "f1"), np.array(pairs).T, strict=True))
        yield self.metric, float(scores[self.metric].mean())
        yield from ((name, float(x.mean())) for name, x in scores.items() if name != self.metric)
        if answerable.any() and not answerable.all():
            yield from ((f"{name}_answerable", float(x[answerable].mean())) for name, x in scores.items())
            yield "exact_unanswerable", float(scores["exact"][~answerable].mean())
            best = [exact_and_f1(*pair, self.rule)[1] for pair in zip(truth, map(_best, found), strict=True)]
            reached = best_threshold([answers.margin for answers in found], best, answerable.tolist())
            yield from zip(("best_f1", "best_null_threshold"), reached, strict=True)
        yield "loss", loss
        yield "questions", len(found)

    def predict(self, encoder: nn.Module, batch: Batch) -> list[tuple[int, int]]:
        """The likeliest start and end of each window on its own; see `answers` for questions."""
        return list(map(tuple, self.logits(encoder, batch).argmax(2).tolist()))

    def chance(self, train: Any, test: Any) -> float:
        """The score of always predicting no answer."""
        return float(np.mean([not question.answers for question in test.questions]))


def _best(answers: Answers) -> str:
    return answers.candidates[0][1] if answers.candidates else ""


@torch.no_grad()
def _logs(logits: Tensor, places: Tensor) -> dict[str, Tensor | float]:
    """accuracy: the share of windows with both start and end right."""
    return {"accuracy": (logits.argmax(2) == places).all(1).float().mean()}
