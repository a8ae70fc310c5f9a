"""Tiny sets of every modality, made in memory, for contracts that no data should slow down."""

import re

import numpy as np
import torch

from sslzoo.data.base import CLS, SEP, SPECIALS, Data, Intervals, Split
from sslzoo.data.question_windows import Question, QuestionWindows
from sslzoo.data.sentences import Sentences


class TinySplit(Split):
    def __init__(self, items, columns, cut=None):
        self.items, self.columns, self.cut, self.intervals = items, columns, cut, {}
        self.names = [f"item {i}" for i in range(len(items))]
        self.lengths = np.array([1 if x.ndim > 1 else len(x) for x in items])

    def read(self, index, seed=None):
        item = self.items[index]
        if item.ndim > 1:
            return item
        start, stop = self.window(index, seed)
        return item[start:stop]


class TinyImages(Data):
    modality = "image"

    def __init__(
        self,
        batch: object,
        size: int = 16,
        channels: int = 3,
        mean: list[float] = [0.5],  # noqa: B006 (read, never written)
        std: list[float] = [0.25],  # noqa: B006
    ):
        self.batch, self.size, self.channels, self.mean, self.std = batch, size, channels, mean, std

    def split(self, name):
        g = np.random.default_rng(len(name))
        labels = g.integers(0, 4, 48)
        images = g.integers(0, 60, (48, self.channels, self.size, self.size)) + 48 * labels[:, None, None, None]
        values = images.mean((1, 2, 3)) / 255
        return TinySplit(list(torch.tensor(images, dtype=torch.uint8)), {"label": labels, "value": values})


class TinySpeech(Data):
    """Hums whose pitch is the label; some longer than the cut."""

    modality = "speech"

    def __init__(self, batch: object, sample_rate: int = 16000, cut: int = 9000):
        self.batch, self.sample_rate, self.cut = batch, sample_rate, cut
        batch.rate = sample_rate

    def split(self, name):
        g = np.random.default_rng(len(name))
        labels, items = g.integers(0, 4, 40), []
        for label in labels:
            n = int(g.integers(5000, 11000))
            wave = np.sin(2 * np.pi * (200 + 150 * label) * np.arange(n) / self.sample_rate) + 0.3 * g.standard_normal(
                n
            )
            items.append(torch.tensor(wave, dtype=torch.float32))
        values = 0.5 * labels + np.array([len(x) for x in items]) / 11000
        said = [("no", "hi", "see", "a b")[label] for label in labels]
        columns = {
            "label": labels,
            "value": values,
            "said": np.array(said, dtype=object),
            "digits": labels.astype(str).astype(object),
            "voice": np.array([f"v{i % 8}" for i in range(40)], dtype=object),
            "one": np.full(40, "v", dtype=object),
            "slotted": np.array([f"a [x {text}]" for text in said], dtype=object),
        }
        split = TinySplit(items, columns, self.cut)
        ends = split.lengths / self.sample_rate
        split.intervals["half"] = [
            Intervals(np.array([0, e / 2]), np.array([e / 2, e]), np.array(["a", "b"])) for e in ends
        ]
        split.intervals["whole"] = [Intervals(np.array([0]), np.array([e]), np.array(["a"])) for e in ends]
        return split


def word_intervals(ids: list[int]) -> Intervals:
    starts = [1]
    while starts[-1] + 1 + ids[starts[-1]] % 2 < len(ids) - 1:
        starts.append(starts[-1] + 1 + ids[starts[-1]] % 2)
    ends = [*starts[1:], len(ids) - 1]
    return Intervals(
        np.array(starts), np.array(ends), np.array(["low" if ids[i] < SPECIALS + 25 else "high" for i in starts])
    )


class TinyTokenizer:
    """w7 is 7."""

    def encode_offsets(self, text):
        found = [(int(m[1]), m.span()) for m in re.finditer(r"w(\d+)", text)]
        return np.array([i for i, _ in found], np.int64), np.array([span for _, span in found]).reshape(-1, 2)

    def encode_apart(self, texts):
        return [self.encode_offsets(text)[0] for text in texts]

    def pair(self, first, second):
        return np.array([CLS, *first, SEP, *second, SEP]), len(first) + 2

    def pair_specials(self):
        return 3


class TinyText(Data):
    """Words of one of two halves of the vocabulary; as running text, documents of sentences of such words."""

    modality = "text"
    has_sentences = True

    def __init__(self, batch: object, vocab_size: int = 60, max_tokens: int = 24):
        self.batch, self.vocab_size, self.max_tokens = batch, vocab_size, max_tokens

    def split(self, name):
        g = np.random.default_rng(len(name))
        labels, items = g.integers(0, 2, 48), []
        for label in labels:
            words = g.integers(SPECIALS + 25 * label, SPECIALS + 25 * (label + 1), int(g.integers(4, 20)))
            items.append(torch.tensor([CLS, *words, SEP]))
        split = TinySplit(
            items, {"label": labels, "value": np.array([float(x[1:-1].float().mean()) / 30 for x in items])}
        )
        # words of one or two ids, by their first
        split.intervals["tag"] = [word_intervals(item.tolist()) for item in items]
        return split

    def windows(self, name, some=np.arange):
        """Paragraphs of up to 30 words, and questions that say the word before the answer."""
        g, questions = np.random.default_rng(len(name)), []
        for i in range(48):
            words = [f"w{n}" for n in g.integers(SPECIALS, 55, int(g.integers(6, 30)))]
            at = int(g.integers(1, len(words) - 1))
            start = len(" ".join(words[:at])) + 1
            answers = () if i % 6 == 5 else ((" ".join(words[at : at + 2]), start),)
            questions.append(Question(f"item {i}", str(i), f"w56 {words[at - 1]}", " ".join(words), answers))
        return QuestionWindows([questions[i] for i in some(48)], TinyTokenizer(), self.max_tokens - 4, 8, 4)

    def open_sentences(self, name):
        g = np.random.default_rng(len(name))
        document = np.repeat(np.arange(12), 12)
        words = [g.integers(SPECIALS, SPECIALS + 25, int(g.integers(2, 12))) + 25 * (d % 2) for d in document]
        return Sentences.of_items(words, document, f"tiny text ({name})")

    @property
    def is_continuation(self):
        return np.arange(self.vocab_size) % 4 == 3

    def describe(self, inputs):
        return " ".join(f"w{int(i)}" for i in inputs.reshape(-1))
