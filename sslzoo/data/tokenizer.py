"""Text to ids and back: WordPiece (Schuster and Nakajima 2012, as BERT uses it) and single characters.

Training is a function of the texts alone. The `tokenizers` library's own WordPiece training is not: its
ties are broken by the order of a hash map that is seeded anew in every process. Here the alphabet is
counted, cut and ordered before the library sees it, which leaves it no choice.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from sslzoo.data.base import CLS, PAD, SEP, SPECIALS, UNK
from sslzoo.errors import ConfigError, UserError
from sslzoo.run import write_atomic

# its threads do not survive the fork of a loader's worker, which would warn and may hang
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # of the ids that `data.base` names
_CHUNK = 10_000  # texts that are encoded at a time, to bound memory


class Tokenizer:
    """A WordPiece tokenizer; ids 0 to 4 are `WORDS`. `save` writes the library's own tokenizer.json.

    An imported one has a template of its own: what stands around texts (RoBERTa: two [SEP] between the two of a pair;
    GPT-2: nothing).
    """

    def __init__(self, backend: Backend):
        self._backend = backend
        self._before, self._between, self._after = _template(backend)
        # "[MASK]" written in a text is six characters, not a mask
        self._backend.encode_special_tokens = True

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, lowercase: bool = True, strip_accents: bool = False
    ) -> "Tokenizer":
        """Learn at most `vocab_size` ids. BERT's uncased models have both switches on.

        texts: gone through twice, so no iterator; of a corpus, its lines. At most half of the ids are spent on
        single characters, the rarest of which become [UNK]. Holds the distinct words, not the texts.
        """
        _check_room(vocab_size)
        normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
        if not strip_accents:  # a letter and the mark that follows it are the letter with the mark
            normalizer = normalizers.Sequence([normalizers.NFC(), normalizer])
        splitter = pre_tokenizers.BertPreTokenizer()
        # a space always ends a word, so what stands between spaces is taken apart once however often it occurs
        unsplit, words = Counter(), Counter()
        for line in _lines(texts):
            unsplit.update(line.split(" "))
        for part, count in unsplit.items():
            for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(part)):
                words[word] += count
        del unsplit
        alphabet, pieces = _alphabet(words, (vocab_size - SPECIALS) // 2)
        learner = Backend(models.WordPiece(unk_token=WORDS[UNK]))
        learner.normalizer, learner.pre_tokenizer = normalizer, splitter
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            special_tokens=[*WORDS, *pieces],  # what comes first has a fixed place, and so a fixed id
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        learner.train_from_iterator(_lines(texts), trainer)
        backend = Backend(models.WordPiece(learner.get_vocab(), unk_token=WORDS[UNK]))
        backend.normalizer, backend.pre_tokenizer = normalizer, splitter
        backend.decoder = decoders.WordPiece()
        return cls(_with_specials(backend))

    @staticmethod
    def load(path: Path) -> "Tokenizer":
        """Read what `save` wrote. Raises UserError where the file is not a tokenizer of this project."""
        try:
            backend = Backend.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{path} is not a tokenizer: {error}") from error
        if [backend.token_to_id(word) for word in WORDS] != list(range(SPECIALS)):
            raise UserError(f"{path} is not a tokenizer of sslzoo: its first ids are not {' '.join(WORDS)}")
        return Tokenizer(backend)

    def save(self, path: Path) -> None:
        write_atomic(path, lambda beside: self._backend.save(str(beside)))

    def __len__(self) -> int:
        return self._backend.get_vocab_size()

    @property
    def wraps(self) -> bool:
        """Whether there are specials around a text."""
        return bool(self._before or self._after)

    @property
    def digest(self) -> str:
        """16 characters that stand for all that decides which ids a text has."""
        return hashlib.sha256(self._backend.to_str().encode()).hexdigest()[:16]

    def encode(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> np.ndarray:
        """int64 [T]: [CLS] text [SEP] or [CLS] text [SEP] pair [SEP], or as the template has it; the longer loses its end
        if it must."""
        return self.encode_batch([text], None if pair is None else [pair], max_tokens)[0]

    def encode_batch(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_tokens: int | None = None
    ) -> list[np.ndarray]:
        """`encode` of many texts."""
        return self.encode_batch_counted(texts, pairs, max_tokens)[0]

    def encode_batch_counted(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_tokens: int | None = None
    ) -> tuple[list[np.ndarray], int]:
        """`encode` of many texts, and how many lost their end."""
        parts = [[ids] for ids in self._ids(texts)]
        if pairs is not None:
            parts = [[*first, second] for first, second in zip(parts, self._ids(pairs), strict=True)]
        whole = (sum(map(len, item)) + self._specials(len(item)) for item in parts)
        cut = 0 if max_tokens is None else sum(length > max_tokens for length in whole)
        return [self._join(item, max_tokens) for item in parts], cut

    def encode_stream(self, texts: Iterable[str]) -> np.ndarray:
        """int64 [N]: all texts one after the other, without specials."""
        parts = self._ids(texts if isinstance(texts, list) else list(texts))
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def encode_words(self, words: Sequence[str], max_tokens: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """ids [T] of the words joined by spaces, and [T] the word that each id belongs to (-1: none)."""
        encoding = self._backend.encode(" ".join(words), add_special_tokens=False)
        ends = np.cumsum([len(word) + 1 for word in words])  # each word with the space after it
        starts = np.array([start for start, _ in encoding.offsets], np.int64)
        word = np.searchsorted(ends, starts, side="right")
        word[np.isin(starts, ends - 1)] = -1  # the spaces themselves, where they are tokens
        room = None if max_tokens is None else max_tokens - self._specials(1)
        ids = np.array(encoding.ids, np.int64)[:room]
        around = [-1] * len(self._before), word[:room], [-1] * len(self._after)
        return self._join([ids], None), np.concatenate(around).astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without [PAD], [CLS] and [SEP]."""
        kept = [int(i) for i in ids if int(i) not in (PAD, CLS, SEP)]
        return self._backend.decode(kept, skip_special_tokens=False)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The piece of text that each id stands for, "##" before those that go on a word."""
        return [self._backend.id_to_token(int(i)) for i in ids]

    def _ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = []
        for start in range(0, len(texts), _CHUNK):
            encodings = self._backend.encode_batch_fast(texts[start : start + _CHUNK], add_special_tokens=False)
            found += [np.array(encoding.ids, np.int64) for encoding in encodings]
        return found

    def _specials(self, texts: int) -> int:
        """How many specials an item of one text or of two has."""
        return len(self._before) + len(self._after) + (texts - 1) * len(self._between)

    def _join(self, parts: list[np.ndarray], max_tokens: int | None) -> np.ndarray:
        if max_tokens is not None:
            room = max_tokens - self._specials(len(parts))
            if len(parts) == 1:
                parts = [parts[0][:room]]
            else:  # the shorter keeps up to half, the longer has what is left
                first, second = (len(part) for part in parts)
                first = min(first, max(room - second, room - room // 2))
                parts = [parts[0][:first], parts[1][: room - first]]
        between = [self._between] * (len(parts) - 1)
        inner = [x for part, end in zip(parts, [*between, self._after], strict=True) for x in (part, end)]
        return np.concatenate([self._before, *inner]).astype(np.int64)


class CharTokenizer(Tokenizer):
    """One id a character, nothing normalised: what is decoded is what was encoded."""

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "CharTokenizer":
        """The `vocab_size` - 5 most frequent characters; the others become [UNK]."""
        _check_room(vocab_size)
        counts = Counter()
        for text in texts:
            counts.update(text)
        kept = sorted(_by_count(counts)[: vocab_size - SPECIALS])
        vocabulary = {word: i for i, word in enumerate([*WORDS, *kept])}
        backend = Backend(models.BPE(vocabulary, merges=[], unk_token=WORDS[UNK]))
        backend.decoder = decoders.Fuse()
        return cls(_with_specials(backend))


def _template(backend: Backend) -> tuple[list[int], list[int], list[int]]:
    """The ids before a text, between two texts and after the last: of the library's TemplateProcessing where the
    tokenizer has one, else [CLS], [SEP] and [SEP]."""
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


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """By line: the pieces of a whole book at once would take all memory."""
    return (line for text in texts for line in text.splitlines())


def _check_room(vocab_size: int) -> None:
    if vocab_size <= SPECIALS + 1:
        raise ConfigError(f"vocab_size must be above {SPECIALS + 1}, the special tokens; got {vocab_size}")


def _with_specials(backend: Backend) -> Backend:
    backend.add_special_tokens(list(WORDS))
    if backend.get_vocab_size() == SPECIALS:
        raise UserError("there is no text to learn a vocabulary from: every text is empty")
    return backend


def _by_count(counts: Counter) -> list[str]:
    return sorted(counts, key=lambda c: (-counts[c], c))


def _alphabet(words: Counter, room: int) -> tuple[list[str], list[str]]:
    """The most frequent characters, and "##" with each that goes on a word; together at most `room`."""
    counts, inside = Counter(), set()
    for word, count in words.items():
        for character in word:
            counts[character] += count
        inside.update(word[1:])
    kept = []
    for character in _by_count(counts):
        room -= 1 + (character in inside)
        if room < 0:
            break
        kept.append(character)
    return sorted(kept), ["##" + character for character in sorted(inside.intersection(kept))]
