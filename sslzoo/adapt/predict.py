"""An adapted encoder with its head, for use in Python: the object that `sslzoo.load(run, adapted=…)` returns."""

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
    """A `PretrainedEncoder` fine-tuned by `sslzoo adapt`, with the head of its task.

        enc = sslzoo.load("my_run", adapted="sst2-full")
        enc.predict(["a fine film", "a dull one"])         # ["1", "0"]

    objective: the task's objective with its head. classes: names by number; None for a regression.
    """

    def __init__(self, encoder, objective: TaskObjective, data: Supervised, run: Run, device: str = "auto"):
        super().__init__(encoder, data.data, run, device)
        self.objective, self.task, self.classes = objective.to(self.device).eval(), data.task, data.classes

    def to(self, device: str | torch.device) -> "AdaptedEncoder":
        """Move encoder and head to a device, "auto" for a GPU if available, and return self."""
        super().to(device)
        self.objective.to(self.device)
        return self

    @torch.no_grad()
    def predict(self, inputs: Any, lengths: Any = None, rate: int | None = None) -> list:
        """The prediction for each item, in order; inputs are as for the encoder. Classification: the class name;
        regression: the value; tagging: a list of class names, one per word (split at spaces) or frame of speech;
        recognition: a transcript; verification: an embedding of norm 1; questions, given as pairs of a question and a
        paragraph: the answer's text, "" for none.

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
        """The objective's prediction for each item, in batches of similar lengths."""
        sizes, found = np.array([len(x) if x.ndim == 1 else 1 for x in tensors]), [None] * len(tensors)
        for places in ordered_batches(sizes, np.arange(len(tensors)), units(self.data)):
            batch: Batch = collate([(tensors[i], i, -1, {}) for i in places]).to(self.device)
            for place, said in zip(places, self.objective.predict(self.encoder, batch), strict=True):
                found[place] = said
        return found

    def _named(self, said: Any) -> Any:
        if self.classes is None or isinstance(said, str | np.ndarray):
            return said
        return [self.classes[i] for i in said] if isinstance(said, list) else self.classes[said]

    def _words(self, inputs: Any) -> list[list[str]]:
        """The class of each word, from its first piece. Raises InputError for a text that is too long for the encoder,
        whose last words would have no class."""
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
        """inputs: a list of (question, paragraph), or one such tuple."""
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
