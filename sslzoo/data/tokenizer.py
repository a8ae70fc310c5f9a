"""Converts text to ids and back. Training is in `tokenizer_training`."""

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from sslzoo.data.base import CLS, PAD, SEP, SPECIALS
from sslzoo.errors import UserError
from sslzoo.run import write_atomic

# forking a loader worker after using its threads warns and may deadlock
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4, as in `data.base`
Tokens = Literal["wordpiece", "byte_bpe", "unigram", "characters"]  # kinds of tokenizer
TOKENS: tuple[str, ...] = get_args(Tokens)
_CHUNK = 10_000  # texts encoded at a time, to bound memory
_SPACE = "\u2581"  # the space in tokens of a unigram model


class Tokenizer:
    """A tokenizer of any of `TOKENS`; ids 0 to 4 are `WORDS`. `save` writes the library's own tokenizer.json.

    An imported one has its own template of special tokens around texts (RoBERTa: two [SEP] between the texts of a
    pair; GPT-2: none). before, between, after: ids of the special tokens around a text and between two.
    """

    def __init__(self, backend: Backend):
        self.backend = backend
        self.before, self.between, self.after = _template(backend)
        # "[MASK]" in a text is tokenized as six characters, not as the mask token
        self.backend.encode_special_tokens = True

    @property
    def kind(self) -> str:
        """One of `TOKENS`."""
        model = self.backend.model
        if isinstance(model, models.WordPiece):
            return "wordpiece"
        if isinstance(model, models.Unigram):
            return "unigram"
        return "byte_bpe" if isinstance(self.backend.decoder, decoders.ByteLevel) else "characters"

    @staticmethod
    def load(path: Path) -> "Tokenizer":
        """Load a file written by `save`. Raises UserError if it is not a tokenizer of sslzoo."""
        try:
            backend = Backend.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{path} is not a tokenizer: {error}") from error
        if [backend.token_to_id(word) for word in WORDS] != list(range(SPECIALS)):
            raise UserError(f"{path} is not a tokenizer of sslzoo: its first ids are not {' '.join(WORDS)}")
        return Tokenizer(backend)

    def save(self, path: Path) -> None:
        write_atomic(path, lambda beside: self.backend.save(str(beside)))

    def __len__(self) -> int:
        return self.backend.get_vocab_size()

    @property
    def wraps(self) -> bool:
        """Whether special tokens are added around a text."""
        return bool(self.before or self.after)

    @property
    def digest(self) -> str:
        """A hash of all that the ids of a text depend on, 16 hex digits."""
        return self.saved_digest

    @property
    def saved_digest(self) -> str:
        """A hash of what `save` writes, 16 hex digits."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()[:16]

    def encode(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> np.ndarray:
        """int64 [T]: [CLS] text [SEP] or [CLS] text [SEP] pair [SEP], or as in the template; truncated to `max_tokens`,
        of a pair the longer text first."""
        return self.encode_batch([text], None if pair is None else [pair], max_tokens)[0]

    def encode_batch(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_tokens: int | None = None
    ) -> list[np.ndarray]:
        """`encode` of many texts."""
        return self.encode_batch_counted(texts, pairs, max_tokens)[0]

    def encode_batch_counted(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_tokens: int | None = None
    ) -> tuple[list[np.ndarray], int]:
        """`encode` of many texts, and how many were truncated."""
        parts = [[ids] for ids in self.encode_apart(texts)]
        if pairs is not None:
            parts = [[*first, second] for first, second in zip(parts, self.encode_apart(pairs), strict=True)]
        whole = (sum(map(len, item)) + self._specials(len(item)) for item in parts)
        cut = 0 if max_tokens is None else sum(length > max_tokens for length in whole)
        return [self._join(item, max_tokens) for item in parts], cut

    def encode_parts(self, texts: Sequence[str], max_tokens: int) -> list[list[np.ndarray]]:
        """`encode` of many texts, each as a list of consecutive parts of at most `max_tokens`."""
        room = max_tokens - self._specials(1)
        return [
            [self._join([ids[at : at + room]], None) for at in range(0, max(len(ids), 1), room)]
            for ids in self.encode_apart(texts)
        ]

    def encode_stream(self, texts: Iterable[str]) -> np.ndarray:
        """int64 [N]: all texts concatenated, without special tokens."""
        parts = self.encode_apart(texts if isinstance(texts, list) else list(texts))
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def encode_apart(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int64 [T] of each text, without special tokens."""
        found = []
        for start in range(0, len(texts), _CHUNK):
            encodings = self.backend.encode_batch_fast(texts[start : start + _CHUNK], add_special_tokens=False)
            found += [np.array(encoding.ids, np.int64) for encoding in encodings]
        return found

    def encode_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """ids [T] of a text, without special tokens, and [T, 2], the (start, stop) characters of each."""
        return self.encode_batch_offsets([text])[0]

    def encode_batch_offsets(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """`encode_offsets` of many texts."""
        found = []
        for start in range(0, len(texts), _CHUNK):
            for encoding in self.backend.encode_batch(texts[start : start + _CHUNK], add_special_tokens=False):
                offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
                found.append((np.array(encoding.ids, np.int64), offsets))
        return found

    def pair(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, int]:
        """The item [T] of two texts' ids, with special tokens, and the position of the second text in it."""
        return self._join([first, second], None), len(self.before) + len(first) + len(self.between)

    def pair_specials(self) -> int:
        """Number of special tokens of an item of two texts."""
        return self._specials(2)

    def encode_words(self, words: Sequence[str], max_tokens: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """ids [T] of the words joined by spaces, and the index [T] of each id's word (-1: none)."""
        encoding = self.backend.encode(" ".join(words), add_special_tokens=False)
        ends = np.cumsum([len(word) + 1 for word in words])  # of each word with the space after it
        # a token may begin with the space before its word
        last = np.array([max(end - 1, start) for start, end in encoding.offsets], np.int64)
        word = np.searchsorted(ends, last, side="right")
        word[np.isin(last, ends - 1)] = -1  # the spaces themselves, where they are tokens
        room = None if max_tokens is None else max_tokens - self._specials(1)
        ids = np.array(encoding.ids, np.int64)[:room]
        around = [-1] * len(self.before), word[:room], [-1] * len(self.after)
        return self._join([ids], None), np.concatenate(around).astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without [PAD], [CLS] and [SEP]."""
        kept = [int(i) for i in ids if int(i) not in (PAD, CLS, SEP)]
        return self.backend.decode(kept, skip_special_tokens=False)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The token of each id, as in the vocabulary: "##" marks word pieces that continue a word; in byte BPE and
        unigram, the space sign marks tokens that begin one."""
        return [self.backend.id_to_token(int(i)) for i in ids]

    @cached_property
    def is_continuation(self) -> np.ndarray:
        """bool [V]: tokens that continue a word; the first token of a text begins a word in any case.

        In wordpiece these have "##". In byte BPE and unigram they have no leading space and begin with a letter or
        digit; Chinese characters are words of their own, as in BERT. In `characters` every token is a word.
        """
        found = np.zeros(len(self), bool)
        if self.kind != "characters":
            for i, token in enumerate(self.tokens(range(SPECIALS, len(self))), start=SPECIALS):
                found[i] = token.startswith("##") if self.kind == "wordpiece" else _goes_on(self._text(token))
        return found

    def _text(self, token: str) -> str:
        """The text of a byte BPE or unigram token, with a plain space."""
        if self.kind == "unigram":
            return token.replace(_SPACE, " ")
        return self.backend.decoder.decode([token])

    def _specials(self, texts: int) -> int:
        """Number of special tokens of an item of one or two texts."""
        return len(self.before) + len(self.after) + (texts - 1) * len(self.between)

    def _join(self, parts: list[np.ndarray], max_tokens: int | None) -> np.ndarray:
        if max_tokens is not None:
            room = max_tokens - self._specials(len(parts))
            if len(parts) == 1:
                parts = [parts[0][:room]]
            else:  # the shorter text keeps up to half of the room, the longer gets the rest
                first, second = (len(part) for part in parts)
                first = min(first, max(room - second, room - room // 2))
                parts = [parts[0][:first], parts[1][: room - first]]
        between = [self.between] * (len(parts) - 1)
        inner = [x for part, end in zip(parts, [*between, self.after], strict=True) for x in (part, end)]
        return np.concatenate([self.before, *inner]).astype(np.int64)


def _template(backend: Backend) -> tuple[list[int], list[int], list[int]]:
    """Special ids before a text, between two texts and after the last: from the tokenizer's TemplateProcessing, if it
    has one, else [CLS], [SEP] and [SEP]."""
    state = {} if backend.post_processor is None else json.loads(backend.post_processor.__getstate__())
    found = [part for part in [state, *state.get("processors", [])] if part.get("type") == "TemplateProcessing"]
    if not found:
        return [CLS], [SEP], [SEP]
    runs: list[list[int]] = [[]]
    for piece in found[0]["pair"]:
        if "Sequence" in piece:
            runs.append([])
        else:
            runs[-1] += found[0]["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
    before, between, after = runs
    return before, between, after


def _goes_on(piece: str) -> bool:
    """Whether a token without a leading space continues a word; part of a character (byte BPE) does."""
    first = piece[:1]
    return first == "\ufffd" or (first.isalnum() and "CJK UNIFIED" not in unicodedata.name(first, ""))
