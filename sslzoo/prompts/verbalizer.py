"""Verbalizers: the words that stand for a task's labels."""

from collections.abc import Sequence

import numpy as np

from sslzoo.data.base import SPECIALS
from sslzoo.data.tokenizer import Tokenizer
from sslzoo.errors import ConfigError, UserError, nearest

Tokens = tuple[int, ...]  # the ids of a word


class Verbalizer:
    """Labels -> words -> tokens (2001.07676, section 3.1, v; 2012.15723, section 4.1, M).

    labels [C]: the names of the classes, by number. words [C]: the words of each label, whose scores are averaged.
    tokens [C]: the ids of each of those words.
    """

    def __init__(self, labels: Sequence[str], words: Sequence[Sequence[str]], tokens: Sequence[Sequence[Tokens]]):
        self.labels, self.words, self.tokens = list(labels), [list(w) for w in words], [list(t) for t in tokens]
        of: dict[Tokens, str] = {}
        for label, several, ids in zip(self.labels, self.words, self.tokens, strict=True):
            for word, token in zip(several, ids, strict=True):
                if of.get(token, label) != label:
                    raise ConfigError(
                        f"prompt.words: '{word}' stands for {of[token]} and for {label}: give each label words of its own"
                    )
                of[token] = label

    @property
    def masks(self) -> int:
        """The number of tokens of the longest word."""
        return max(len(ids) for several in self.tokens for ids in several)

    def check_single(self, who: str) -> None:
        """Raise ConfigError if a word is not one token. who: what needs that, for the message."""
        for several, tokens in zip(self.words, self.tokens, strict=True):
            for word, ids in zip(several, tokens, strict=True):
                if len(ids) > 1:
                    raise ConfigError(
                        f"prompt.words: '{word}' is {len(ids)} tokens of this run's vocabulary, and {who} needs words of "
                        "one: choose another word"
                    )


def tokens_of(words: Sequence[Sequence[str]], tokenizer: Tokenizer, spaced: bool) -> list[list[Tokens]]:
    """The ids of each word of each label. spaced: whether a word follows a space. Raises ConfigError for a word that
    the vocabulary does not know."""
    lead, found = " " if spaced and tokenizer.kind == "byte_bpe" else "", []
    for several in words:
        encoded = tokenizer.encode_apart([lead + word for word in several])
        for word, ids in zip(several, encoded, strict=True):
            if not len(ids) or (ids < SPECIALS).any():
                raise ConfigError(
                    f"prompt.words: '{word}' is unknown to the vocabulary of this run: choose another word"
                )
        found.append([tuple(ids.tolist()) for ids in encoded])
    return found


def word_numbers(labels: np.ndarray) -> np.ndarray:
    """The number of the label whose words each training item is an example of, int64 [N]: its class; of values, 1 for
    those above their median and 0 for the others (2012.15723, section 3, footnote on regression).

    labels [N]: class numbers (int64) or values (float). Raises UserError if no value is above the median.
    """
    if labels.dtype.kind != "f":
        return labels
    above = labels > np.median(labels)
    if not above.any():
        raise UserError(
            f"none of train's {len(labels):,} values is above their median, {np.median(labels):g}, and each of the two "
            "words needs examples: choose more items, or others"
        )
    return above.astype(np.int64)


def in_order(given: Sequence, labels: Sequence[str] | None, classes: Sequence[str]) -> list:
    """What is given for each of `labels` (None: `classes`), in the order of `classes`. Raises ConfigError for a label
    without a word, or a word without a label."""
    names = list(classes) if labels is None else list(labels)
    if strange := [name for name in names if name not in classes]:
        raise ConfigError(
            f"prompt.labels: '{strange[0]}' is no label of this data; there are {', '.join(classes)}"
            f"{nearest(strange[0], classes)}"
        )
    if lacking := [name for name in classes if name not in names]:
        raise ConfigError(f"prompt.labels has no '{lacking[0]}', a label of this data: every label needs a word")
    if len(given) != len(names):
        raise ConfigError(
            f"prompt.words has {len(given)} for {len(names)} labels ({', '.join(names)}): every label needs a word"
        )
    return [given[names.index(name)] for name in classes]
