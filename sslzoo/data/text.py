"""Text sets: a subclass says what the texts are, the base class makes ids of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sslzoo import draws
from sslzoo.data import cache
from sslzoo.data.base import CLS, SEP, SPECIALS, SPLITS, Data, Split
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.tokenizer import CharTokenizer, Tokenizer
from sslzoo.errors import ConfigError, UserError

_FILE = "tokenizer.json"


@dataclass
class Texts:
    """The items of one split: texts [N], what each is called, second texts [N] or None, label columns [N]."""

    texts: list[str]
    names: list[str]
    pairs: list[str] | None = None
    columns: dict[str, np.ndarray] = field(default_factory=dict)


class TextSplit(Split):
    """Items of ids, each int64 [T] with [CLS] and [SEP], at most `max_tokens` of them."""

    def __init__(self, ids: list[np.ndarray], names: Sequence[str], columns: dict[str, np.ndarray] | None = None):
        self.ids, self.names = ids, list(names)
        self.lengths = np.array([len(x) for x in ids], np.int64)
        self.columns, self.intervals = columns or {}, {}

    @classmethod
    def encoded(cls, texts: Texts, tokenizer: Tokenizer, max_tokens: int) -> "TextSplit":
        return cls(tokenizer.encode_batch(texts.texts, texts.pairs, max_tokens), texts.names, texts.columns)

    def read(self, index: int, key: int | None = None) -> Tensor:
        return torch.from_numpy(self.ids[index].astype(np.int64))


class TextBlocks(Split):
    """One long text in blocks of `max_tokens`, each between [CLS] and [SEP] if `wrap`.

    In training a block starts anywhere within its place if `moving`, so that no two epochs cut the text alike; what
    is left after the last whole block is out, unless it is all there is. Raises UserError for an empty text.
    """

    def __init__(self, stream: np.ndarray, max_tokens: int, wrap: bool, name: str, moving: bool = True):
        if not len(stream):
            raise UserError(f"{name} has no text")
        self.stream, self.wrap, self.moving = stream.astype(np.int32), wrap, moving
        self.room = min(max_tokens - 2 * wrap, len(stream))
        count = len(stream) // self.room
        self.names = [f"{name}, block {i}" for i in range(count)]
        self.lengths = np.full(count, self.room + 2 * wrap, np.int64)
        self.columns, self.intervals = {}, {}

    def read(self, index: int, key: int | None = None) -> Tensor:
        start = index * self.room
        if key is not None and self.moving:
            start = min(start + draws.key(key, "cut") % self.room, len(self.stream) - self.room)
        ids = torch.from_numpy(self.stream[start : start + self.room].astype(np.int64))
        return torch.cat([torch.tensor([CLS]), ids, torch.tensor([SEP])]) if self.wrap else ids


class TextData(Data):
    """Text whose tokenizer is learned from its training split, once, or taken from a run by `restore`.

    A subclass implements `texts`. vocab_size: ids at most; the first five are [PAD] [UNK] [CLS] [SEP]
    [MASK]. max_tokens: ids of an item at most, [CLS] and [SEP] included. tokens: what an id stands for.
    lowercase: whether case and accents are dropped (word pieces only).
    """

    modality = "text"

    def __init__(
        self,
        batch: ByCount | BySeconds,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        tokens: Literal["wordpiece", "characters"] = "wordpiece",
        lowercase: bool = True,
    ):
        if vocab_size <= SPECIALS + 1:
            raise ConfigError(f"data.vocab_size must be above {SPECIALS + 1}, the special ids; got {vocab_size}")
        if max_tokens < 8:
            raise ConfigError(f"data.max_tokens must be at least 8, got {max_tokens}")
        self.batch, self.vocab_size, self.max_tokens = batch, vocab_size, max_tokens
        self.tokens, self.lowercase = tokens, lowercase
        self._tokenizer: Tokenizer | None = None
        self._texts: dict[str, Texts] = {}

    def texts(self, split: str) -> Texts:
        """The items of "train", "valid" or "test". Raises UserError where there are none."""
        raise NotImplementedError

    def split(self, name: str) -> Split:
        return TextSplit.encoded(self.opened(name), self.tokenizer, self.max_tokens)

    def opened(self, name: str) -> Texts:
        """`texts(name)`, read once."""
        if name not in self._texts:
            self._texts[name] = self.texts(name)
        return self._texts[name]

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            train = self.opened("train")
            self._tokenizer = self._learned([*train.texts, *(train.pairs or ())])
        return self._tokenizer

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder / _FILE)

    def restore(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.load(folder / _FILE)
        self.vocab_size = max(self.vocab_size, len(self._tokenizer))

    def describe(self, inputs: Tensor) -> str:
        return self.tokenizer.decode(inputs.reshape(-1).tolist())

    def _learned(self, texts: list[str]) -> Tokenizer:
        digest = hashlib.sha256(repr((1, self.tokens, self.vocab_size, self.lowercase)).encode())
        for text in texts:
            digest.update(text.encode() + b"\0")

        def make(path: Path) -> None:
            if self.tokens == "characters":
                CharTokenizer.train(texts, self.vocab_size).save(path)
            else:
                Tokenizer.train(texts, self.vocab_size, self.lowercase).save(path)

        return Tokenizer.load(cache.made(f"tokenizer-{digest.hexdigest()[:20]}.json", make))


def check_files(files: dict[str, str]) -> None:
    if "train" not in files or not set(files) <= set(SPLITS):
        raise ConfigError(f"data.files names train and, if it likes, valid and test; got {', '.join(files)}")
