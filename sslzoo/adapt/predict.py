"""An adapted encoder with its head, for use in Python: what `sslzoo.load(run, adapted=…)` gives."""

from typing import Any

import numpy as np
import torch

from sslzoo.adapt.data import Supervised
from sslzoo.data.base import Batch
from sslzoo.data.loader import collate, ordered_batches, ordered_loader
from sslzoo.data.question_windows import Question, QuestionWindows
from sslzoo.errors import InputError, InputTypeError
from sslzoo.features.frozen import units
from sslzoo.features.given import read, taken_apart
from sslzoo.features.pretrained import CHUNK, PretrainedEncoder
from sslzoo.run import Run
from sslzoo.tasks.answering import Answering
from sslzoo.tasks.base import TaskObjective


class AdaptedEncoder(PretrainedEncoder):
    """A `PretrainedEncoder` as `sslzoo adapt` left it, that says what its task asks.

        enc = sslzoo.load("my_run", adapted="sst2-full")
        enc.predict(["a fine film", "a dull one"])         # ["1", "0"]

    objective: the task with its head. classes: the names that it knows, by number; None where it gives values.
    """

    def __init__(self, encoder, objective: TaskObjective, data: Supervised, run: Run, device: str = "auto"):
        super().__init__(encoder, data.data, run, device)
        self.objective, self.task, self.classes = objective.to(self.device).eval(), data.task, data.classes

    def to(self, device: str | torch.device) -> "AdaptedEncoder":
        """Move encoder and head to a device, "auto" for an accelerator where there is one, and return this."""
        super().to(device)
        self.objective.to(self.device)
        return self

    @torch.no_grad()
    def predict(self, inputs: Any, lengths: Any = None, rate: int | None = None) -> list:
        """What each item is, in the order of the items, which are given as to the encoder itself: the name of its class,
        or its value; of tags a list, with a name for each word that stands between spaces, or for each frame of speech; of
        questions, given as pairs of a question and a paragraph, the answer, "" for none.

        Raises InputError and InputTypeError as the encoder does.
        """
        if self.task.kind == "answers":
            return self._answers(inputs)
        if self.task.kind == "frames" and self.modality == "text":
            return self._words(inputs)
        items = taken_apart(self.data, inputs, lengths, rate)
        most = getattr(getattr(self.encoder, "frontend", None), "max_tokens", None)
        found: list[Any] = []
        for first in range(0, len(items), CHUNK):
            tensors = read(self.data, items[first : first + CHUNK], first, rate, most)
            found += self._in_batches(tensors)
        return [self._named(x) for x in found]

    def _in_batches(self, tensors: list[torch.Tensor]) -> list:
        """What the objective says of each item, read alike long ones together."""
        sizes, found = np.array([len(x) if x.ndim == 1 else 1 for x in tensors]), [None] * len(tensors)
        for places in ordered_batches(sizes, np.arange(len(tensors)), units(self.data)):
            batch: Batch = collate([(tensors[i], i, -1, {}) for i in places]).to(self.device)
            for place, said in zip(places, self.objective.predict(self.encoder, batch), strict=True):
                found[place] = said
        return found

    def _named(self, said: Any) -> Any:
        if self.classes is None:
            return said
        return [self.classes[i] for i in said] if isinstance(said, list) else self.classes[said]

    def _words(self, inputs: Any) -> list[list[str]]:
        """A class for each word, by its first piece. A text that is too long for the encoder is refused: its last words
        would have none."""
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        items, firsts = [], []
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputTypeError(f"item {place} is a {type(text).__name__}: words are given as a text, with spaces")
            words = text.split()
            if not words:
                raise InputError(f"item {place} is an empty text")
            ids, word = self.tokenizer.encode_words(words, self.data.max_tokens)
            known, first = np.unique(word, return_index=True)
            first = first[known >= 0]
            if len(first) < len(words):
                raise InputError(
                    f"item {place}: only {len(first)} of its {len(words)} words are read, in {self.data.max_tokens} tokens: "
                    "give it in parts"
                )
            items.append(torch.from_numpy(ids))
            firsts.append(first)
        said = self._in_batches(items)
        names = self.classes or []
        return [[names[tags[i]] for i in first] for tags, first in zip(said, firsts, strict=True)]

    def _answers(self, inputs: Any) -> list[str]:
        """A pair is a question and its paragraph; one alone may be given as a tuple."""
        pairs = [inputs] if isinstance(inputs, tuple) else list(inputs)
        questions = []
        for place, pair in enumerate(pairs):
            if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(x, str) for x in pair)):
                raise InputTypeError(f"item {place} is no pair of texts: give (question, paragraph)")
            question, paragraph = pair
            questions.append(Question(f"item {place}", str(place), question, paragraph, ()))
            if fault := questions[-1].fault():
                raise InputError(fault)
        assert isinstance(self.objective, Answering)
        data: Any = self.data
        windows = QuestionWindows(questions, self.tokenizer, data.max_tokens, data.window_stride, data.max_question)
        batches = (batch.to(self.device) for batch in ordered_loader(windows, units(self.data)))
        found, _ = self.objective.answers(self.encoder, batches, windows)
        return [self.objective.chosen(answers) for answers in found]
