"""Base class of text sets: subclasses return texts, which it tokenizes and caches."""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sslzoo.data import cache, duplicates, files
from sslzoo.data.base import CLS, SPECIALS, SPLITS, UNK, Data, Split
from sslzoo.data.packing import PackedSplit
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text_splits import TextSplit
from sslzoo.data.token_store import (
    digest,
    stored,
    token_dtype,
)
from sslzoo.data.tokenizer import Tokenizer, Tokens
from sslzoo.data.tokenizer_training import check_vocab_size, train
from sslzoo.errors import ConfigError, UserError

_FILE = "tokenizer.json"
MOST_UNKNOWN = 0.05  # share of [UNK] tokens above which a warning is logged
_log = logging.getLogger("sslzoo")
_VERSION = 6  # of the cached format: increasing it invalidates old caches


@dataclass
class Texts:
    """The items of one split: texts [N], names [N], second texts [N] or None, label columns [N]."""

    texts: list[str]
    names: list[str]
    pairs: list[str] | None = None
    columns: dict[str, np.ndarray] = field(default_factory=dict)


class TextData(Data):
    """Text whose tokenizer is learned from its training split and cached, or loaded from a run by `restore`.

    A subclass implements `texts`. vocab_size: maximum number of ids; the first five are [PAD] [UNK] [CLS] [SEP]
    [MASK]. max_tokens: maximum ids of an item, with [CLS] and [SEP]. tokens: the kind of tokenizer; see
    `tokenizer_training`. lowercase, strip_accents: whether to remove case and accents (wordpiece and unigram only).
    pack: whether to pack several texts into rows of up to max_tokens (see `packing`).
    """

    modality = "text"

    @property
    def text_names(self) -> tuple[str, ...]:
        """The names of an item's texts, for templates: one, or two for pairs."""
        return ("text",)

    def __init__(
        self,
        batch: ByCount | BySeconds,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        tokens: Tokens = "wordpiece",
        lowercase: bool = True,
        strip_accents: bool = False,
        pack: bool = False,
    ):
        check_vocab_size(tokens, vocab_size)
        if max_tokens < 8:
            raise ConfigError(f"data.max_tokens must be at least 8, got {max_tokens}")
        self.batch, self.vocab_size, self.max_tokens = batch, vocab_size, max_tokens
        self.tokens, self.lowercase, self.strip_accents = tokens, lowercase, strip_accents
        self.pack = pack
        self._told: set[str] = set()
        self._train_counts: np.ndarray | None = None  # token counts of the training split, once it is open
        self._tokenizer: Tokenizer | None = None
        self._texts: dict[str, Texts] = {}
        self._hashes: dict[str, tuple[np.ndarray, Sequence[str]]] = {}  # of opened splits: text hashes and item names

    def texts(self, split: str) -> Texts:
        """The items of "train", "valid" or "test". Raises UserError if there are none."""
        raise NotImplementedError

    def fingerprint(self, split: str) -> str:
        """A hash of everything that `texts(split)` depends on. Subclasses avoid reading the texts if they can."""
        texts = self.opened(split)
        columns = {name: (str(x.dtype), x.tolist()) for name, x in texts.columns.items()}
        return digest(texts.texts, texts.names, texts.pairs, columns)

    def lines(self, split: str) -> Iterable[str]:
        """The texts of a split, whole or by line, for training a tokenizer; can be iterated repeatedly."""
        texts = self.opened(split)
        return [*texts.texts, *(texts.pairs or ())]

    def open(self, name: str) -> tuple[TextSplit, str]:
        """The items of a split, read from the cache or first written to it, and the name of the cached folder."""
        kind = (_VERSION, type(self).__qualname__, self.tokenizer.digest, self.max_tokens)
        folder = stored(f"texts-{digest(*kind, self.fingerprint(name))}", partial(self.write, name))
        return TextSplit.open(folder), folder.name

    def split(self, name: str) -> Split:
        """The items of a split, or packed rows of them."""
        split, ident = self.open(name)
        self.tell(name, split)
        self._tell_shared(name, split)
        if not self.pack:
            return split
        if split.read(0)[0] != CLS:
            raise ConfigError(
                "data.pack=true tells the texts of a row apart by the [CLS] that each begins with, and this tokenizer sets "
                "none: set data.pack=false"
            )
        return PackedSplit.open(split, self.max_tokens, ident)

    def _tell_shared(self, name: str, split: TextSplit) -> None:
        """Warn, once, about texts that are also in a split opened before."""
        if split.hashes is None or name in self._hashes:
            return
        self._hashes[name] = split.hashes, split.names
        for note in duplicates.texts_across({x: self._hashes[x] for x in SPLITS if x in self._hashes}):
            if note not in self._told:
                self._told.add(note)
                _log.warning("%s", note)

    def tell(self, name: str, split: Any) -> None:
        """Warn, once, about truncated texts of a `TextSplit`, `TextBlocks` or `Sentences`, and about too many [UNK]."""
        if split.cut_texts and "cut" not in self._told:
            self._told.add("cut")
            share = split.cut_texts / len(split)
            _log.warning(
                "%.*f %% of the %s texts (%s of %s) are longer than data.max_tokens=%s and lose their end: raise it where "
                "the encoder is new; a finished run's reads no more than its own",
                *(
                    0 if share >= 0.01 else 2,
                    100 * share,
                    name,
                    f"{split.cut_texts:,}",
                    f"{len(split):,}",
                    self.max_tokens,
                ),
            )
        if name == "train" and "unknown" not in self._told:
            self._told.add("unknown")
            counts = self._train_counts = token_counts(split.tokens)
            share = counts[UNK] / max(counts.sum(), 1)
            if share > MOST_UNKNOWN:
                _log.warning(
                    "%.0f %% of the text's tokens are unknown to its vocabulary of %s: where the encoder is new, set a "
                    "larger data.vocab_size, or data.tokens=byte_bpe, which knows every text",
                    *(100 * share, f"{len(self.tokenizer):,}"),
                )

    def write(self, name: str, folder: Path) -> None:
        """Tokenize the items of a split and write them to a folder."""
        texts, size, cut = self.opened(name), 10_000, 0

        def encoded() -> Iterable[np.ndarray]:
            nonlocal cut
            for at in range(0, len(texts.texts), size):
                pairs = None if texts.pairs is None else texts.pairs[at : at + size]
                items, longer = self.tokenizer.encode_batch_counted(texts.texts[at : at + size], pairs, self.max_tokens)
                cut += longer
                yield from items

        TextSplit.write(folder, encoded(), token_dtype(len(self.tokenizer)), texts.names, texts.columns)
        np.save(folder / "cut_texts.npy", cut)
        np.save(folder / "hashes.npy", duplicates.text_hashes(texts.texts, texts.pairs))

    def opened(self, name: str) -> Texts:
        """`texts(name)`, cached in memory."""
        if name not in self._texts:
            self._texts[name] = self.texts(name)
        return self._texts[name]

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            kind = (_VERSION, self.tokens, self.vocab_size, self.lowercase, self.strip_accents)
            path = cache.cached_file(f"tokenizer-{digest(*kind, self.fingerprint('train'))}.json", self._learn)
            self._tokenizer = Tokenizer.load(path)
        return self._tokenizer

    @property
    def real_vocab_size(self) -> int:
        return len(self.tokenizer)

    @property
    def is_continuation(self) -> np.ndarray:
        return self.tokenizer.is_continuation

    @cached_property
    def unigram_entropy(self) -> float:
        return unigram_entropy(self.train_counts())

    def train_counts(self) -> np.ndarray:
        """Counts of ids in the training split; see `token_counts`."""
        if self._train_counts is None:
            self.split("train")
        return self._train_counts

    def use(self, tokenizer: Tokenizer) -> None:
        """Use another tokenizer than the one learned from this data."""
        self._tokenizer, self.vocab_size = tokenizer, max(self.vocab_size, len(tokenizer))

    def save(self, folder: Path) -> None:
        path = folder / _FILE
        if path.exists() and Tokenizer.load(path).saved_digest != self.tokenizer.saved_digest:
            raise UserError(
                f"{path} is another tokenizer than this data's, on which its run was begun: the texts or sslzoo have "
                "changed since — choose another name=… or delete the run"
            )
        self.tokenizer.save(path)

    def restore(self, folder: Path) -> None:
        self.use(Tokenizer.load(folder / _FILE))

    def encode(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> np.ndarray:
        """int64 [T]: a text, or a pair, tokenized as the items of this data, truncated to `max_tokens`."""
        return self.tokenizer.encode(text, pair, max_tokens)

    def describe(self, inputs: Tensor) -> str:
        return self.tokenizer.decode(inputs.reshape(-1).tolist())

    def _learn(self, path: Path) -> None:
        train(self.tokens, self.lines("train"), self.vocab_size, self.lowercase, self.strip_accents).save(path)


def token_counts(tokens: np.ndarray, most: int = 2**22) -> np.ndarray:
    """Counts of ids, int64 [V], with 0 for special ids except [UNK]; of more than `most` tokens, only every n-th is
    counted."""
    some = tokens[:: max(1, len(tokens) // most)]
    counts, chunk = np.zeros(SPECIALS, np.int64), 1 << 13
    for start in range(0, len(some), chunk):  # in chunks, as bincount converts tokens to int64
        found = np.bincount(some[start : start + chunk], minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    counts[[i for i in range(SPECIALS) if i != UNK]] = 0
    return counts


def unigram_entropy(counts: np.ndarray) -> float:
    """-sum_v p_v log p_v in nats, with p proportional to `counts`; infinite if all are 0."""
    share = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(share * np.log(share)).sum()) if len(share) else math.inf


def file_stamps(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """(path, size, mtime in ns) of each file. Raises UserError if one cannot be read."""
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}{files.elsewhere(path)}") from error
        found.append((str(path.resolve()), status.st_size, status.st_mtime_ns))
    return found


def check_files(files: dict[str, str]) -> None:
    if "train" not in files or not set(files) <= set(SPLITS):
        raise ConfigError(f"data.files names train and, if it likes, valid and test; got {', '.join(files)}")
