"""Tokenizers learned from texts by the `tokenizers` library: word pieces (Schuster and Nakajima 2012, as BERT uses
them), byte-level byte pairs (GPT-2, RoBERTa), unigram pieces (Kudo 2018, XLM-R) and single characters.

Training is deterministic. The library's own training of word pieces and unigram pieces is not: it breaks ties and sums
in the order of a hash map with a per-process seed. Here the alphabet is counted, truncated and sorted beforehand, and
the scores of unigram pieces are rounded.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from sslzoo.data.base import SPECIALS, UNK
from sslzoo.data.text_files import split_lines
from sslzoo.data.tokenizer import WORDS, Tokenizer
from sslzoo.errors import ConfigError, UserError

BYTES = 256
_BREAKS = re.compile("[\x0b\x0c\x1c-\x1f\x85]")  # separators that BERT's normalizer deletes, which would join words
_DIGITS = 6  # of a unigram score, far above the rounding error of sums


def train(
    tokens: str, texts: Iterable[str], vocab_size: int, lowercase: bool = True, strip_accents: bool = False
) -> Tokenizer:
    """Train a tokenizer with at most `vocab_size` ids. tokens: one of `tokenizer.TOKENS`.

    texts: iterated several times, so not an iterator; the lines of a corpus. lowercase, strip_accents: for wordpiece
    and unigram; both on in BERT's uncased models. Memory holds distinct words or characters, not the texts.
    Raises ConfigError if vocab_size is too small, UserError if all texts are empty.
    """
    check_vocab_size(tokens, vocab_size)
    if tokens == "wordpiece":
        return _word_pieces(texts, vocab_size, lowercase, strip_accents)
    if tokens == "unigram":
        return _unigram(texts, vocab_size, lowercase, strip_accents)
    return _byte_bpe(texts, vocab_size) if tokens == "byte_bpe" else _characters(texts, vocab_size)


def check_vocab_size(tokens: str, vocab_size: int) -> None:
    least, what = SPECIALS + 1, "the special ids"
    if tokens == "byte_bpe":
        least, what = SPECIALS + BYTES, "the special ids and the bytes"
    if vocab_size <= least:
        raise ConfigError(f"data.vocab_size must be above {least}, {what}; got {vocab_size}")


def _word_pieces(texts: Iterable[str], vocab_size: int, lowercase: bool, strip_accents: bool) -> Tokenizer:
    """At most half of the ids are single characters; rarer ones become [UNK]. Each Chinese character is a word (as in
    BERT)."""
    normalizer: Any = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    if not strip_accents:  # compose letters and combining marks
        normalizer = normalizers.Sequence([normalizers.NFC(), normalizer])
    splitter = pre_tokenizers.BertPreTokenizer()
    # words end at spaces, so each distinct string between spaces is split only once
    unsplit: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for line in _lines(texts):
        unsplit.update(line.split(" "))
    if any(map(_BREAKS.search, unsplit)):
        normalizer = normalizers.Sequence([normalizers.Replace(Regex(_BREAKS.pattern), " "), normalizer])
    for part, count in unsplit.items():
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(part)):
            words[word] += count
    del unsplit
    alphabet, pieces = _alphabet(words, (vocab_size - SPECIALS) // 2)
    learner = Backend(models.WordPiece(unk_token=WORDS[UNK]))
    learner.normalizer, learner.pre_tokenizer = normalizer, splitter
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*WORDS, *pieces],  # listed first, so that their ids are fixed
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(_lines(texts), trainer)
    backend = Backend(models.WordPiece(learner.get_vocab(), unk_token=WORDS[UNK]))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    backend.decoder = decoders.WordPiece()
    return _with_specials(backend)


def _byte_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE with GPT-2's word splitting (Radford et al. 2019, section 2.2): no [UNK]; decoding is exact."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(WORDS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_some(_lines(texts, keep_ends=True)), trainer)
    return _with_specials(backend)


def _unigram(texts: Iterable[str], vocab_size: int, lowercase: bool, strip_accents: bool) -> Tokenizer:
    """Unigram language model: a text's most probable segmentation, spaces included (Kudo 2018; as in SentencePiece and
    XLM-R, after NFKC and with whitespace as one space). At most half of the ids are single characters; rarer ones
    become [UNK]."""
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
    if strip_accents:
        steps += [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
    normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(r"[\s\x1c-\x1f]+"), " "), normalizers.Strip()])
    splitter = pre_tokenizers.Metaspace(prepend_scheme="always")
    counts: Counter[str] = Counter()
    for line in _lines(texts):
        counts.update(normalizer.normalize_str(line))
    counts.pop(" ", None)
    if not counts:
        raise _no_text()
    rare = dict.fromkeys(map(ord, _by_count(counts)[(vocab_size - SPECIALS) // 2 :]), " ")
    learner = Backend(models.Unigram())
    learner.pre_tokenizer = splitter
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=list(WORDS), unk_token=WORDS[UNK], show_progress=False
    )
    learner.train_from_iterator((normalizer.normalize_str(x).translate(rare) for x in _lines(texts)), trainer)
    found = json.loads(learner.to_str())["model"]["vocab"][SPECIALS:]
    pieces = sorted(((piece, round(score, _DIGITS)) for piece, score in found), key=lambda x: (-x[1], x[0]))
    backend = Backend(models.Unigram([*((word, 0.0) for word in WORDS), *pieces], unk_id=UNK))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    return _with_specials(backend)


def _characters(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """One id per character, without normalization. Only the most frequent characters have ids; the others become
    [UNK]."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    kept = sorted(_by_count(counts)[: vocab_size - SPECIALS])
    vocabulary = {word: i for i, word in enumerate([*WORDS, *kept])}
    backend = Backend(models.BPE(vocabulary, merges=[], unk_token=WORDS[UNK]))
    backend.decoder = decoders.Fuse()
    return _with_specials(backend)


def _lines(texts: Iterable[str], keep_ends: bool = False) -> Iterator[str]:
    """Lines of the texts, as pre-tokenizing a whole book at once takes too much memory."""
    lines = (line for text in texts for line in split_lines(text))
    return lines if keep_ends else (line.rstrip("\r\n") for line in lines)


def _some(lines: Iterator[str]) -> Iterator[str]:
    """The lines unchanged. Raises UserError if all are blank."""
    blank = True
    for line in lines:
        blank = blank and not line.strip()
        yield line
    if blank:
        raise _no_text()


def _no_text() -> UserError:
    return UserError("there is no text to learn a vocabulary from: every text is empty")


def _with_specials(backend: Backend) -> Tokenizer:
    backend.add_special_tokens(list(WORDS))
    if backend.get_vocab_size() == SPECIALS:
        raise _no_text()
    return Tokenizer(backend)


def _by_count(counts: Counter) -> list[str]:
    return sorted(counts, key=lambda c: (-counts[c], c))


def _alphabet(words: Counter, room: int) -> tuple[list[str], list[str]]:
    """The most frequent characters, and "##" + each that occurs inside words; at most `room` in all."""
    counts: Counter[str] = Counter()
    inside: set[str] = set()
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
