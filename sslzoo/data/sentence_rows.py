"""Builds rows from the sentences of a text: sentence pairs (BERT, ALBERT) and full sentences (RoBERTa)."""

from array import array
from typing import Protocol

import numpy as np

from sslzoo import rng
from sslzoo.data.sentences import Sentences
from sslzoo.errors import ConfigError, UserError

_BLOCK = 1 << 14  # rows whose random numbers are drawn at a time


class RowsOfSentences(Protocol):
    """Selects rows from a text. pairs: the name of the pairs' label; None for rows of one part."""

    pairs: str | None

    def spans(self, sentences: Sentences, max_tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows of at most `max_tokens`, with special tokens: (start, stop) of their parts in the token stream, int64
        [N, 2 P]; and the labels of pairs, uint8 [N] (see `data.base.PAIR`). Raises UserError if there are
        none."""


class Pairs:
    """Base class of sentence pairs (Devlin et al. 2019, appendix A.2, as in their `create_pretraining_data.py`):
    sentences of a document are taken until they fill the row, and split at random into two parts.

    short: probability that a row is filled to a random length only. The authors' code draws it once per document, so
    that all rows of a book may be short; here it is drawn per row.
    """

    def __init__(self, short: float = 0.1):
        if not 0 <= short <= 1:
            raise ConfigError(f"objective.rows.short is a chance from 0 to 1, got {short}")
        self.short = short

    def take(self, draws: "Draws", starts: np.ndarray, room: int, first: int, end: int) -> tuple[int, int, int, bool]:
        """The next row of a document: (first sentence of its second part, first sentence after it, length to fill, a
        coin flip). first, end: the first remaining sentence, and the first of the next document."""
        target = room if draws.uniform("short") >= self.short else 2 + draws.integer("length", room - 1)
        stop = min(int(np.searchsorted(starts, starts[first] + target)), end)
        middle = first + 1 + (draws.integer("middle", stop - first - 1) if stop - first > 1 else 0)
        return middle, stop, target, draws.uniform("other") < 0.5

    def cut(self, draws: "Draws", spans: tuple[int, int, int, int], room: int) -> tuple[int, int, int, int]:
        """Truncate both parts to `room` ids together: one id at a time from the longer part (the second if equal), at
        its front or back by a coin flip."""
        a, a_end, b, b_end = spans
        first, second = a_end - a, b_end - b
        excess = first + second - room
        if excess > 0:
            apart = min(excess, abs(first - second))
            of_first = apart * (first > second) + (excess - apart) // 2
            of_second = excess - of_first
            front_a, front_b = draws.heads("cut", of_first), draws.heads("cut second", of_second)
            a, a_end = a + front_a, a_end - (of_first - front_a)
            b, b_end = b + front_b, b_end - (of_second - front_b)
        return a, a_end, b, b_end


class NextSentence(Pairs):
    """BERT's pairs: half of the second parts follow the first; the others are sentences from a random position in
    another document, and the sentences that they replace begin the next row. After a single sentence, the second part
    is always from another document."""

    pairs = "next_sentence"

    def spans(self, sentences: Sentences, max_tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        starts, documents, room = *sentences.places(), max_tokens - 3
        if len(documents) < 3:
            raise UserError(
                f"{sentences.name} is one document, and next sentences need others to draw from: set "
                "data.documents_by=heading or blank_line, or read more files"
            )
        draws, spans, labels = Draws(seed), array("q"), bytearray()
        for document in range(len(documents) - 1):
            first, end = int(documents[document]), int(documents[document + 1])
            while first < end:
                draws.next_row()
                middle, stop, target, other = self.take(draws, starts, room, first, end)
                other = other or stop - first == 1
                a, a_end = int(starts[first]), int(starts[middle])
                if other:
                    number = draws.integer("document", len(documents) - 2)
                    number += number >= document  # uniform over the other documents
                    begin, last = int(documents[number]), int(documents[number + 1])
                    begin += draws.integer("sentence", last - begin)
                    filled = int(np.searchsorted(starts, starts[begin] + max(target - (a_end - a), 1)))
                    b, b_end, first = int(starts[begin]), int(starts[min(filled, last)]), middle
                else:
                    b, b_end, first = a_end, int(starts[stop]), stop
                spans.extend(self.cut(draws, (a, a_end, b, b_end), room))
                labels.append(other)
        return _spans(spans, 4), np.frombuffer(bytes(labels), np.uint8)


class SentenceOrder(Pairs):
    """ALBERT's pairs (Lan et al. 2020, section 3.1): two consecutive parts of a document, swapped in half of the rows.
    Rows of one sentence are dropped."""

    pairs = "sentence_order"

    def spans(self, sentences: Sentences, max_tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        starts, documents, room = *sentences.places(), max_tokens - 3
        draws, spans, labels = Draws(seed), array("q"), bytearray()
        for document in range(len(documents) - 1):
            first, end = int(documents[document]), int(documents[document + 1])
            while first < end:
                draws.next_row()
                middle, stop, _, swapped = self.take(draws, starts, room, first, end)
                if stop - first > 1:
                    a, b, b_end = int(starts[first]), int(starts[middle]), int(starts[stop])
                    parts = (b, b_end, a, b) if swapped else (a, b, b, b_end)
                    spans.extend(self.cut(draws, parts, room))
                    labels.append(swapped)
                first = stop
        if not labels:
            raise UserError(
                f"{sentences.name} has no two sentences after each other in {room} tokens: raise data.max_tokens, or see "
                "data.sentences_by and data.documents_by"
            )
        return _spans(spans, 4), np.frombuffer(bytes(labels), np.uint8)


class FullSentences:
    """RoBERTa's rows (Liu et al. 2019, section 4.2): as many consecutive whole sentences as fit, across documents, with
    a separator between documents. A sentence longer than a row is split into rows."""

    pairs, crosses = None, True

    def spans(self, sentences: Sentences, max_tokens: int, seed: int) -> tuple[np.ndarray, None]:
        starts, documents, room = *sentences.places(), max_tokens - 2
        # ids and separators before the end of each sentence, and before its beginning
        number = np.arange(len(sentences))
        separators = np.searchsorted(documents[1:-1], number, side="right")
        ends, begins = starts[1:] + separators, starts[:-1] + separators
        limits = documents[np.searchsorted(documents, number, side="right")]  # the end of each sentence's document
        spans, first = array("q"), 0
        while first < len(sentences):
            stop = int(np.searchsorted(ends, begins[first] + room, side="right"))
            if not self.crosses:
                stop = min(stop, int(limits[first]))
            if stop <= first:
                long, stop = range(int(starts[first]), int(starts[first + 1]), room), first + 1
                for begin in long:
                    spans.extend((begin, min(begin + room, int(starts[stop]))))
            else:
                spans.extend((int(starts[first]), int(starts[stop])))
            first = stop
        return _spans(spans, 2), None


class DocSentences(FullSentences):
    """As `FullSentences`, but rows do not cross documents; the last row of a document may be short, so batch by tokens
    (`data/batch=tokens`)."""

    crosses = False


class Draws:
    """Random numbers for consecutive rows: one per row and name."""

    def __init__(self, seed: int):
        self.seed, self.row = seed, -1
        self.blocks: dict = {}

    def next_row(self) -> None:
        self.row += 1
        if self.row % _BLOCK == 0:
            self.blocks = {}

    def bits(self, name: str) -> int:
        """63 random bits of the current row."""
        if name not in self.blocks:
            first = self.row // _BLOCK * _BLOCK
            rows = np.arange(first, first + _BLOCK)
            self.blocks[name] = rng.derive_row_seeds(self.seed, "pairs", name, rows=rows).tolist()
        return self.blocks[name][self.row % _BLOCK]

    def uniform(self, name: str) -> float:
        return self.bits(name) / 2**63

    def integer(self, name: str, high: int) -> int:
        return self.bits(name) % high

    def heads(self, name: str, coins: int) -> int:
        """The number of heads in `coins` coin flips."""
        found, bits, number = 0, self.bits(name), 0
        while coins > 0:
            found += (bits & ((1 << min(coins, 63)) - 1)).bit_count()
            coins, number = coins - 63, number + 1
            bits = rng.derive_seed(self.seed, name, self.row, number) if coins > 0 else 0
        return found


def _spans(flat: array, width: int) -> np.ndarray:
    return np.frombuffer(flat, np.int64).reshape(-1, width)
