"""Strings of symbols, classified by motif and written in words of a run's vocabulary."""

from itertools import islice, permutations

import numpy as np

from sslzoo import rng
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts
from sslzoo.data.tokenizer import Tokenizer
from sslzoo.errors import ConfigError, UserError

SHORTEST = 3  # minimum letters of a word for a symbol
SPLIT_SEEDS = {"train": 0, "valid": 1, "test": 2}


class DNA(TextData):
    """Random strings of symbols, such as DNA, with a motif at random positions; each symbol is always written as the
    same word of a run's vocabulary. Tests whether a text encoder learned more than its language (Kao and Lee 2021,
    2103.07162). Label: motif, the number of the class.

    The motifs of the classes are permutations of the same symbols, so symbol counts do not separate them. Needs a run
    with a vocabulary: `sslzoo probe run=… task=dna`.

    symbols: the alphabet. classes: number of motifs. length: symbols per string. motif: symbols per motif. copies:
    occurrences of the motif per string. count: strings of train; valid and test have a quarter. seed: of strings,
    motifs and words.
    """

    def __init__(
        self,
        batch: ByCount | BySeconds,
        symbols: str = "ACGT",
        classes: int = 2,
        length: int = 48,
        motif: int = 6,
        copies: int = 1,
        count: int = 2000,
        seed: int = 0,
        vocab_size: int = 8000,
        max_tokens: int = 128,
    ):
        super().__init__(batch, vocab_size, max_tokens)
        if len(set(symbols)) < 2 or len(set(symbols)) < len(symbols):
            raise ConfigError(f"data.symbols must be two symbols or more, each once, got '{symbols}'")
        if classes < 2 or motif < 2 or copies < 1 or count < 4 * classes or copies * motif > length:
            raise ConfigError(
                "data=dna needs classes and motif of 2 or more, copies of 1 or more, a count of four a class or more and "
                f"room for the motifs: got classes={classes}, motif={motif}, copies={copies}, count={count}, length={length}"
            )
        self.symbols, self.classes, self.length, self.motif, self.copies = symbols, classes, length, motif, copies
        self.count, self.seed = count, seed
        self.motifs = self._motifs()

    def _motifs(self) -> list[str]:
        """One motif per class: distinct permutations of the same symbols."""
        drawn = np.random.default_rng(rng.derive_seed(self.seed, "motif"))
        for _ in range(1000):
            base = "".join(drawn.choice(list(self.symbols), self.motif))
            orders = sorted(set(islice(map("".join, permutations(base)), 5000)))
            if len(orders) >= self.classes:
                return [orders[i] for i in drawn.choice(len(orders), self.classes, replace=False)]
        raise ConfigError(f"data.motif={self.motif} symbols have too few orders for data.classes={self.classes}")

    def strings(self, split: str) -> tuple[list[str], np.ndarray]:
        """The strings of a split, and their motif numbers [N]."""
        count = self.count if split == "train" else self.count // 4
        classes = np.arange(count) % self.classes
        found = []
        for number, kind in enumerate(classes.tolist()):
            drawn = np.random.default_rng(rng.derive_seed(self.seed, "string", SPLIT_SEEDS[split], number))
            # motifs are inserted at random positions between the free symbols
            free = list(drawn.choice(list(self.symbols), self.length - self.copies * self.motif))
            places = np.sort(drawn.integers(0, len(free) + 1, self.copies))[::-1]
            for place in places.tolist():
                free[place:place] = list(self.motifs[kind])
            found.append("".join(free))
        return found, classes

    def words(self) -> dict[str, str]:
        """{symbol: word}, chosen from the vocabulary's whole words by a fixed hash."""
        words = whole_words(self.tokenizer)
        if len(words) < len(self.symbols):
            raise UserError(
                f"the run's vocabulary has {len(words)} whole words of {SHORTEST} letters or more, and data=dna writes each "
                f"of {len(self.symbols)} symbols as one: choose a run whose tokens are word pieces"
            )
        found: dict[str, str] = {}
        for symbol in self.symbols:
            word = words[rng.derive_seed(self.seed, "word", symbol) % len(words)]
            words.remove(word)
            found[symbol] = word
        return found

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise UserError(
                "data=dna is written in the words of a run's vocabulary, and learns none: probe, adapt or analyze a run with "
                "it (sslzoo probe run=… task=dna)"
            )
        return self._tokenizer

    def texts(self, split: str) -> Texts:
        strings, classes = self.strings(split)
        words = self.words()
        texts = [" ".join(words[symbol] for symbol in string) for string in strings]
        return Texts(texts, [f"{split} {i}: {string}" for i, string in enumerate(strings)], columns={"motif": classes})


def whole_words(tokenizer: Tokenizer) -> list[str]:
    """Words (letters only) that are always encoded as one id, sorted."""
    begins = [int(i) for i in np.flatnonzero(~tokenizer.is_continuation)]
    words = sorted({w for i in begins if (w := tokenizer.decode([i]).strip()).isalpha() and len(w) >= SHORTEST})
    twice = tokenizer.encode_apart([f"{word} {word}" for word in words])
    return [
        word
        for word, ids in zip(words, twice, strict=True)
        if len(ids) == 2 and tokenizer.decode(ids[1:]).strip() == word
    ]
