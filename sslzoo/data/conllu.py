"""Sentences with a label for each word: CoNLL-U (universaldependencies.org/format.html)."""

from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import files
from sslzoo.data.base import Intervals
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts, file_stamps
from sslzoo.data.text_splits import TextSplit
from sslzoo.data.token_store import digest, token_dtype
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import UserError

UPOS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM",
    "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X",
)  # fmt: skip
_FILES = {"train": "train", "valid": "dev", "test": "test"}


class ConllU(TextData):
    """A Universal Dependencies treebank: *-ud-{train,dev,test}.conllu.

    Time-aligned label, in token positions: upos, the part of speech of each token's word.
    Multi-word tokens (1-2), whose words have their own lines, and empty nodes (8.1) are left out.
    on_error: "skip" leaves out sentences with a line that is not CoNLL-U.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        tokens: Tokens = "wordpiece",
        lowercase: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        strip_accents: bool = False,
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents)
        self.path, self.on_error = path, on_error
        self._sentences: dict[str, list[tuple[list[str], list[str]]]] = {}

    def texts(self, split: str) -> Texts:
        path = self._file(split)
        lines, sentences, faults = [], [], {}
        for line, words in _blocks(files.read_text(path)):
            try:
                found = _sentence(words)
            except ValueError as error:
                found, faults[len(sentences)] = (
                    None,
                    f"{path}, the sentence that ends on line {line}: {error}",
                )
            sentences.append(found)
            lines.append(line)
        if not sentences:
            raise UserError(f"{path} has no sentences")
        kept = files.drop_faulty(str(path), len(sentences), faults, self.on_error)
        self._sentences[split] = [sentences[i] for i in kept]
        names = [f"{path.name}, the sentence that ends on line {lines[i]}" for i in kept]
        return Texts([" ".join(words) for words, _ in self._sentences[split]], names)

    def fingerprint(self, split: str) -> str:
        return digest(file_stamps([self._file(split)]), split, self.on_error, "cut texts counted")

    def write(self, name: str, folder: Path) -> None:
        texts = self.opened(name)
        words = [words for words, _ in self._sentences[name]]
        encoded = [self.tokenizer.encode_words(sentence, self.max_tokens) for sentence in words]
        upos = [_stretches(word, tags) for (_, word), (_, tags) in zip(encoded, self._sentences[name], strict=True)]
        # words beyond max_tokens are not read
        cut = sum(len(np.unique(word[word >= 0])) < len(own) for (_, word), own in zip(encoded, words, strict=True))
        ids, dtype = (item for item, _ in encoded), token_dtype(len(self.tokenizer))
        TextSplit.write(folder, ids, dtype, texts.names, texts.columns, {"upos": upos})
        np.save(folder / "cut_texts.npy", cut)

    def _file(self, split: str) -> Path:
        root = files.rooted(self.path)
        found = sorted(root.glob(f"*-ud-{_FILES[split]}.conllu"))
        if len(found) != 1:
            raise UserError(f"{root} has {len(found)} files *-ud-{_FILES[split]}.conllu; there must be one")
        return found[0]


def _blocks(text: str):
    """(number of its last line, lines) of each sentence."""
    block = []
    for number, line in enumerate([*text.split("\n"), ""]):
        if line.strip():
            block.append(line)
        elif block:
            yield number, block
            block = []


def _sentence(lines: list[str]) -> tuple[list[str], list[str]]:
    """Words and their parts of speech. Raises ValueError if a line is not CoNLL-U."""
    words, tags = [], []
    for line in lines:
        fields = line.split("\t")
        if line.startswith("#") or (len(fields) == 10 and not fields[0].isdigit()):
            continue
        if len(fields) != 10:
            raise ValueError(f"{len(fields)} fields, but CoNLL-U has 10")
        if fields[3] not in UPOS:
            raise ValueError(f"'{fields[3]}' is no universal part of speech")
        words.append(fields[1])
        tags.append(fields[3])
    if not words:
        raise ValueError("no words")
    return words, tags


def _stretches(word: np.ndarray, labels: list[str]) -> Intervals:
    """The token positions of each word with its label; word [T]: the word index of each token."""
    here = np.unique(word[word >= 0])
    places = [np.flatnonzero(word == number) for number in here]
    start, end = ([float(place[0]) for place in places], [float(place[-1] + 1) for place in places])
    return Intervals(np.array(start), np.array(end), np.array(labels)[here])
