"""Text sets: a subclass says what the texts are, the base class makes ids of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.data import cache
from sslzoo.data.base import CLS, SEP, SPECIALS, SPLITS, UNK, Data, Intervals, Split
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.token_store import (
    RaggedIntervals,
    StringColumns,
    Strings,
    digest,
    open_arrays,
    row_starts,
    stored,
    token_dtype,
)
from sslzoo.data.tokenizer import CharTokenizer, Tokenizer
from sslzoo.errors import ConfigError, UserError

_FILE = "tokenizer.json"
_VERSION = 3  # of what is cached: another one makes it anew


@dataclass
class Texts:
    """The items of one split: texts [N], what each is called, second texts [N] or None, label columns [N]."""

    texts: list[str]
    names: list[str]
    pairs: list[str] | None = None
    columns: dict[str, np.ndarray] = field(default_factory=dict)


class TextSplit(Split):
    """Items of ids, each int64 [T] with [CLS] and [SEP].

    ids [M]: all items one after the other. starts [N + 1]: where each begins. The arrays may be memory-mapped files
    (see `token_store`): then nothing of them is copied, and a pickled split holds their paths alone.
    """

    def __init__(
        self,
        ids: np.ndarray,
        starts: np.ndarray,
        names: Sequence[str],
        columns: Mapping[str, np.ndarray] | None = None,
        intervals: dict[str, Sequence[Intervals]] | None = None,
    ):
        self.ids, self.starts, self.names = ids, starts, names
        self.columns, self.intervals = columns or {}, intervals or {}

    @classmethod
    def open(cls, folder: Path) -> "TextSplit":
        """What `write` wrote, memory-mapped."""
        arrays = open_arrays(folder)
        columns = {name: x for name, x in arrays.items() if name.startswith(("column.", "kinds.", "kind_starts."))}
        intervals = {}
        for name in arrays:
            kind, _, rest = name.partition(".")
            if kind == "interval_starts":
                parts = (arrays[f"{part}.{rest}"] for part in ("interval_starts", "interval_start", "interval_end"))
                intervals[rest] = RaggedIntervals(*parts, arrays[f"interval_label.{rest}"])
        names = Strings(arrays["names"], arrays["name_starts"])
        return cls(arrays["ids"], arrays["starts"], names, StringColumns(columns), intervals)

    @staticmethod
    def write(
        folder: Path,
        ids: Iterable[np.ndarray],
        dtype: type,
        names: Sequence[str],
        columns: dict[str, np.ndarray],
        intervals: dict[str, Sequence[Intervals]] | None = None,
    ) -> None:
        """Write items to a folder that `open` reads; ids: of each item, an array [T]."""
        lengths, parts = [], []
        for item in ids:
            lengths.append(len(item))
            parts.append(item.astype(dtype))
        arrays = {"ids": np.concatenate([*parts, np.zeros(0, dtype)]), "starts": row_starts(lengths)}
        arrays["names"], arrays["name_starts"] = Strings.pack(names)
        arrays |= StringColumns.pack(columns)
        for name, stretches in (intervals or {}).items():
            arrays[f"interval_starts.{name}"] = row_starts([len(x.label) for x in stretches])
            for part in ("start", "end", "label"):
                arrays[f"interval_{part}.{name}"] = np.concatenate([getattr(x, part) for x in stretches])
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values, allow_pickle=False)

    @property
    def tokens(self) -> np.ndarray:
        """All ids, [CLS] and [SEP] among them [M]."""
        return self.ids

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        return torch.from_numpy(np.array(self.ids[self.starts[index] : self.starts[index + 1]], np.int64))

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "lengths"}


class BlockNames(Sequence):
    """What `count` blocks of a text are called, made when asked for."""

    def __init__(self, text: str, count: int):
        self.text, self.count = text, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.count))]
        return f"{self.text}, block {range(self.count)[index]}"


class TextBlocks(Split):
    """One long text in blocks of `max_tokens`, each between [CLS] and [SEP] if `wrap`.

    stream: the ids [N] of the text, an array or a memory-mapped one, of which nothing is copied. In training a block
    starts anywhere within its place if `moving`, so that no two epochs cut the text alike; what
    is left after the last whole block is out, unless it is all there is. Raises UserError for an empty text.
    """

    def __init__(self, stream: np.ndarray, max_tokens: int, wrap: bool, name: str, moving: bool = True):
        if not len(stream):
            raise UserError(f"{name} has no text")
        self.stream, self.wrap, self.moving = stream, wrap, moving
        self.room = min(max_tokens - 2 * wrap, len(stream))
        self.names = BlockNames(name, len(stream) // self.room)
        self.columns, self.intervals = {}, {}

    @property
    def tokens(self) -> np.ndarray:
        """All ids [M]."""
        return self.stream

    @property
    def lengths(self) -> np.ndarray:
        """[N], a single number in memory."""
        return np.broadcast_to(np.int64(self.room + 2 * self.wrap), len(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        start = index * self.room
        if seed is not None and self.moving:
            start = min(start + rng.derive_seed(seed, "cut") % self.room, len(self.stream) - self.room)
        ids = torch.from_numpy(np.array(self.stream[start : start + self.room], np.int64))
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

    def fingerprint(self, split: str) -> str:
        """Stands for all that decides what `texts(split)` is. Without reading the texts, where a subclass can."""
        texts = self.opened(split)
        columns = {name: (str(x.dtype), x.tolist()) for name, x in texts.columns.items()}
        return digest(texts.texts, texts.names, texts.pairs, columns)

    def lines(self, split: str) -> Iterable[str]:
        """The texts of a split, whole or by line, as often as they are gone through."""
        texts = self.opened(split)
        return [*texts.texts, *(texts.pairs or ())]

    def split(self, name: str) -> Split:
        """The items of a split, from the cache, where they are written if they are not there yet."""
        kind = (_VERSION, type(self).__qualname__, self.tokenizer.digest, self.max_tokens)
        return TextSplit.open(stored(f"texts-{digest(*kind, self.fingerprint(name))}", partial(self.write, name)))

    def write(self, name: str, folder: Path) -> None:
        """Write the items of a split to a folder."""
        texts, size = self.opened(name), 10_000

        def encoded() -> Iterable[np.ndarray]:
            for at in range(0, len(texts.texts), size):
                pairs = None if texts.pairs is None else texts.pairs[at : at + size]
                yield from self.tokenizer.encode_batch(texts.texts[at : at + size], pairs, self.max_tokens)

        TextSplit.write(folder, encoded(), token_dtype(len(self.tokenizer)), texts.names, texts.columns)

    def opened(self, name: str) -> Texts:
        """`texts(name)`, read once."""
        if name not in self._texts:
            self._texts[name] = self.texts(name)
        return self._texts[name]

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            kind = (_VERSION, self.tokens, self.vocab_size, self.lowercase)
            path = cache.cached_file(f"tokenizer-{digest(*kind, self.fingerprint('train'))}.json", self._learn)
            self._tokenizer = Tokenizer.load(path)
        return self._tokenizer

    @property
    def real_vocab_size(self) -> int:
        return len(self.tokenizer)

    @cached_property
    def unigram_entropy(self) -> float:
        return unigram_entropy(self.split("train").tokens)

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder / _FILE)

    def restore(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.load(folder / _FILE)
        self.vocab_size = max(self.vocab_size, len(self._tokenizer))

    def encode(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> np.ndarray:
        """int64 [T], a text as an item of this data would be, without its end where it has more than `max_tokens`."""
        return self.tokenizer.encode(text, pair, max_tokens)

    def describe(self, inputs: Tensor) -> str:
        return self.tokenizer.decode(inputs.reshape(-1).tolist())

    def _learn(self, path: Path) -> None:
        if self.tokens == "characters":
            CharTokenizer.train(self.lines("train"), self.vocab_size).save(path)
        else:
            Tokenizer.train(self.lines("train"), self.vocab_size, self.lowercase).save(path)


def unigram_entropy(tokens: np.ndarray, most: int = 2**22) -> float:
    """-sum_v p_v log p_v, in nats, over how frequent each id is that stands for text, [UNK] among them. Of more than
    `most` tokens, every n-th is looked at. Infinite where there is none."""
    some = np.asarray(tokens[:: max(1, len(tokens) // most)])
    counts = np.bincount(some[(some >= SPECIALS) | (some == UNK)])
    share = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(share * np.log(share)).sum()) if len(share) else math.inf


def file_stamps(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path, size and time of change of each file. Raises UserError where one cannot be read."""
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        found.append((str(path.resolve()), status.st_size, status.st_mtime_ns))
    return found


def check_files(files: dict[str, str]) -> None:
    if "train" not in files or not set(files) <= set(SPLITS):
        raise ConfigError(f"data.files names train and, if it likes, valid and test; got {', '.join(files)}")
