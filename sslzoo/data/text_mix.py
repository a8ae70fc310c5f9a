"""Several text sets, such as one per language, with one tokenizer and smoothed sampling."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from sslzoo.data.base import Data
from sslzoo.data.concat import ConcatSplit
from sslzoo.data.mixture import Mixture, smoothed
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts, unigram_entropy
from sslzoo.data.text_files import Repeatable
from sslzoo.data.token_store import digest
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import ConfigError


class TextMix(TextData):
    """Text sets, by name, with one vocabulary (multilingual BERT; XLM, Lample and Conneau 2019, 1901.07291). The label
    "language" of each item is the name of its set.

    smoothing: exponent s of the shares p_k ~ n_k^s of the sets, in drawing training items (n_k: a set's training
    items) and in learning the tokenizer (n_k: its characters). Valid and test are those of all sets, unweighted.
    vocab_size, max_tokens and tokens are those of the mixture, for all sets.
    """

    def __init__(
        self,
        sets: dict[str, Data],
        batch: ByCount | BySeconds,
        smoothing: float = 0.7,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        tokens: Tokens = "wordpiece",
        lowercase: bool = True,
        strip_accents: bool = False,
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents)
        if not sets:
            raise ConfigError("data.sets is empty: name at least one set")
        for name, data in sets.items():
            if not isinstance(data, TextData):
                raise ConfigError(f"data.sets.{name} is no text: a mixture of texts is of text sets")
        if not 0 <= smoothing <= 1:
            raise ConfigError(
                f"data.smoothing is an exponent from 0, equal shares, to 1, those of the sizes; got {smoothing}"
            )
        if smoothing != 1 and not isinstance(batch, ByCount):
            raise ConfigError(
                "data.smoothing draws items one by one, which batches by length cannot: set data/batch=items_64, or "
                "data.smoothing=1"
            )
        self.sets: dict[str, Any] = dict(sets)
        self.smoothing = smoothing

    def texts(self, split: str) -> Texts:
        found = {name: data.texts(split) for name, data in self._parts().items()}
        language = np.repeat(list(found), [len(x.texts) for x in found.values()])
        names = [f"{name}: {item}" for name, x in found.items() for item in x.names]
        return Texts([text for x in found.values() for text in x.texts], names, None, {"language": language})

    def fingerprint(self, split: str) -> str:
        return digest([(name, data.fingerprint(split)) for name, data in self._parts().items()], self.smoothing)

    def lines(self, split: str) -> Iterable[str]:
        """Lines of all sets; those of each are repeated or thinned out to its smoothed share of characters."""
        lines = {name: data.lines(split) for name, data in self._parts().items()}
        sizes = np.array([max(sum(map(len, found)), 1) for found in lines.values()])
        times = smoothed(sizes, self.smoothing) * sizes.sum() / sizes
        return Repeatable(
            lambda: (x for found, often in zip(lines.values(), times, strict=True) for x in _repeated(found, often))
        )

    def split(self, name: str) -> ConcatSplit:
        parts = {key: data.split(name) for key, data in self._parts(self.tokenizer).items()}
        mixture = None
        if name == "train" and self.smoothing != 1:
            mixture = Mixture.of([len(part) for part in parts.values()], self.smoothing)
        return ConcatSplit(parts, "language", mixture)

    @cached_property
    def unigram_entropy(self) -> float:
        split = self.split("train")
        shares = np.array([len(part) for part in split.parts]) if split.mixture is None else split.mixture.shares
        counts = [data.train_counts() for data in self.sets.values()]
        mixed = np.zeros(max(map(len, counts)))
        for share, found in zip(shares, counts, strict=True):
            mixed[: len(found)] += share * found / max(found.sum(), 1)
        return unigram_entropy(mixed)

    def _parts(self, tokenizer=None) -> dict[str, TextData]:
        """The sets, with the settings and tokenizer of the mixture."""
        for data in self.sets.values():
            data.vocab_size, data.max_tokens, data.tokens = self.vocab_size, self.max_tokens, self.tokens
            if tokenizer is not None:
                data.use(tokenizer)
        return self.sets


def _repeated(lines: Iterable[str], times: float) -> Iterator[str]:
    """Each line `times` times on average, evenly spread; below 1, some are left out."""
    for number, line in enumerate(lines):
        for _ in range(int((number + 1) * times) - int(number * times)):
            yield line
