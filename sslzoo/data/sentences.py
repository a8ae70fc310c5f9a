"""Splits running text into sentences and documents, stored as offsets in its stream of token ids."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data.token_store import digest, open_arrays, stored, token_dtype, write_parts
from sslzoo.errors import UserError

DocumentsBy = Literal["file", "heading", "blank_line"]
SentencesBy = Literal["rule", "line"]

_VERSION = 2  # of the cached format: increasing it invalidates old caches
_CHUNK = 10_000  # pieces of text encoded at a time
_OPENING, _CLOSING = "'\"“‘«‹([{„—–-", "'\"”’»›)\\]}"
_STOP = re.compile(rf"[.!?…]+[{_CLOSING}]*(?=\s)|[。！？]+[{_CLOSING}」』）】]*")
_ENDS = re.compile(rf"[.!?…。！？][{_CLOSING}」』）】]*\s*$")
_WORD = re.compile(r"([^\s.]*(?:\.[^\s.]+)*)\.$")
_TITLES = frozenset(
    "mr mrs ms dr st prof rev hon capt col gen lt sgt messrs mme mlle sr jr vs cf e.g i.e viz vol fig no pp".split()  # noqa: SIM905
)
_NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty first second third fourth fifth sixth seventh eighth ninth tenth last"
)
_NUMBER = "|".join(word for number in _NUMBERS.split() for word in (number.title(), number.upper()))
_NUMERAL = rf"(?:[IVXLCDMivxlcdm]+|\d+|(?:THE |The |the )?(?:{_NUMBER})(?:-\w+)?)"
_HEADING = re.compile(
    rf"(?:CHAPTER|Chapter|BOOK|Book|PART|Part|VOLUME|Volume|ACT|Act|LETTER|Letter)\s+{_NUMERAL}(?:\s*$|[.:—-]|\s+[A-Z])"
    r"|[IVXLC]+\.?$"
    r"|#{1,6}\s+\S"  # Markdown
    r"|= [^=].*[^=] =$"  # WikiText: the title of an article
)


@dataclass
class Sentences:
    """A text's sentences, as ranges of its token ids, and its documents, as ranges of sentences.

    ids [M]: the whole text, in memory or memory-mapped. starts int64 [S + 1]: offset of each sentence in it.
    documents int64 [D + 1]: the first sentence of each document. name: of the text, for messages. ident: a hash of the
    content; "" if nothing derived from it is to be cached.
    """

    ids: np.ndarray
    starts: np.ndarray
    documents: np.ndarray
    name: str
    ident: str = ""

    cut_texts = 0  # never truncated

    def __len__(self) -> int:
        return max(len(self.starts) - 1, 0)

    @property
    def tokens(self) -> np.ndarray:
        """All ids [M]."""
        return self.ids

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """`starts` and `documents` as plain arrays, faster to index than memory-mapped ones."""
        return np.asarray(self.starts), np.asarray(self.documents)

    @classmethod
    def open(cls, folder: Path, name: str) -> "Sentences":
        """Open a folder written by `write_sentences`, memory-mapped."""
        arrays = open_arrays(folder)
        return cls(arrays["ids"], arrays["starts"], arrays["documents"], name, folder.name)

    @classmethod
    def of_items(cls, items: Sequence[np.ndarray], document: Sequence, name: str, ident: str = "") -> "Sentences":
        """From items that are sentences, ids [T] each; consecutive items with equal `document` [S] form a document."""
        kept = [i for i, item in enumerate(items) if len(item)]
        starts = np.cumsum([0, *(len(items[i]) for i in kept)], dtype=np.int64)
        changes = [n for n, i in enumerate(kept) if n == 0 or document[i] != document[kept[n - 1]]]
        ids = np.concatenate([items[i] for i in kept]) if kept else np.zeros(0, np.int64)
        return cls(ids, starts, np.array([*changes, len(kept)], np.int64), name, ident)


def split_sentences(
    lines: Iterable[str], by: SentencesBy, documents_by: DocumentsBy
) -> Iterator[tuple[str, bool, bool]]:
    """Split a file's lines (with their ends) into pieces: (text, begins a sentence, begins a document).

    A piece is a line, or part of one if a sentence begins within it; sentences may span several lines.

    by: "line": one sentence per line. "rule": a sentence ends after `. ! ? …` and closing quotes or brackets, if
    whitespace and no lowercase letter follow and the word is no title (Mr.), initial or abbreviation; after `。！？`;
    at a blank line; and before and after a heading.

    documents_by: "file": all lines are one document. "blank_line": documents end at blank lines (with by="line",
    BERT's input format). "heading": they begin with a heading: "Chapter IV", "IV", "# …", WikiText's " = … = ".
    """
    fresh, begun = True, False  # fresh: the next line begins a document; begun: text was seen
    ended, stopped = True, False  # stopped: ended, if the next line may begin a sentence
    for line in lines:
        if not line.strip():
            ended, fresh = True, fresh or (documents_by == "blank_line" and begun)
            yield line, False, False
            continue
        heading = _HEADING.match(line.strip()) is not None
        fresh = fresh or (documents_by == "heading" and heading)
        cuts = [0, *(_ends_within(line) if by == "rule" and not heading else ()), len(line)]
        for number, (start, stop) in enumerate(pairwise(cuts)):
            begins = number > 0 or fresh or heading or by == "line" or ended or (stopped and _may_begin(line))
            yield line[start:stop], begins, fresh and number == 0
        fresh, begun, ended = False, True, heading
        stopped = _ENDS.search(line) is not None and not _abbreviated(line.rstrip())


def _ends_within(line: str) -> Iterator[int]:
    """Offsets in a line at which sentences end, before the following whitespace."""
    for stop in _STOP.finditer(line):
        rest = line[stop.end() : stop.end() + 20]
        if rest.strip() and (
            line[stop.start()] in "。！？"
            or (_may_begin(rest) and not _abbreviated(line[max(stop.end() - 20, 0) : stop.end()]))
        ):
            yield stop.end()


def _may_begin(text: str) -> bool:
    """Whether a sentence may begin with this text: not with a lowercase letter."""
    first = text.lstrip().lstrip(_OPENING).lstrip()[:1]
    return not first.islower()


def _abbreviated(text: str) -> bool:
    """Whether the final full stop belongs to a title or an initial."""
    found = _WORD.search(text[-20:])  # no abbreviation is longer
    if found is None:
        return False
    word = found[1].lstrip(_OPENING)
    return word.lower() in _TITLES or (len(word) == 1 and word.isupper() and word != "I")


def encode_sentences(
    pieces: Iterable[tuple[str, bool, bool]], encode: Callable[[list[str]], list[np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Encode pieces of `split_sentences` in parts: ids [n], and int64 offsets of sentences and of documents in them. A
    piece without ids belongs to the previous sentence. encode: texts -> ids of each, without special tokens."""
    pieces = iter(pieces)
    while part := list(islice(pieces, _CHUNK)):
        found = encode([text for text, _, _ in part])
        ends = np.cumsum([len(ids) for ids in found], dtype=np.int64)
        begins = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        sentence, document = (np.array([piece[i] for piece in part]) for i in (1, 2))
        yield np.concatenate([np.zeros(0, np.int64), *found]), begins[sentence | document], begins[document]


def cached_sentences(
    name: str,
    kind: Sequence,
    documents: Callable[[], Iterable[Iterable[str]]],
    by: SentencesBy,
    documents_by: DocumentsBy,
    encode: Callable[[list[str]], list[np.ndarray]],
    vocab_size: int,
) -> Sentences:
    """The output of `write_sentences`, read from the cache or first written to it. kind: the cache key, for the
    documents and `encode`. Raises UserError if there is no text."""

    def write(folder: Path) -> None:
        write_sentences(folder, documents(), by, documents_by, encode, vocab_size)

    found = Sentences.open(stored(f"sentences-{digest(_VERSION, *kind, by, documents_by)}", write), name)
    if not len(found):
        raise UserError(f"{name} has no text")
    return found


def write_sentences(
    folder: Path,
    documents: Iterable[Iterable[str]],
    by: SentencesBy,
    documents_by: DocumentsBy,
    encode: Callable[[list[str]], list[np.ndarray]],
    vocab_size: int,
) -> None:
    """Write a folder for `Sentences.open`. documents: the lines of each; `documents_by` may split them further."""
    none = np.zeros(0, np.int64)
    starts, begun, total = [none], [none], 0

    def parts() -> Iterator[np.ndarray]:
        nonlocal total
        pieces = (piece for lines in documents for piece in split_sentences(lines, by, documents_by))
        for ids, sentence, document in encode_sentences(pieces, encode):
            starts.append(total + sentence)
            begun.append(total + document)
            total += len(ids)
            yield ids

    write_parts(folder / "ids.npy", parts(), token_dtype(vocab_size))
    end = [total] if total else []
    # drop sentences and documents without ids: they have the offset of the next one
    first, begins = (np.unique(np.concatenate([*found, end]).astype(np.int64)) for found in (starts, begun))
    np.save(folder / "starts.npy", first, allow_pickle=False)
    np.save(folder / "documents.npy", np.searchsorted(first, begins).astype(np.int64), allow_pickle=False)
