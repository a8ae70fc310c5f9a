"""Where the sentences and documents of running text end, as places in its stream of token ids."""

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

_VERSION = 2  # of what is cached: another one makes it anew
_CHUNK = 10_000  # pieces of text that are encoded at a time
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
    """A text's sentences, each a stretch of its token ids, and its documents, each a run of sentences.

    ids [M]: the whole text, an array or a memory-mapped one. starts int64 [S + 1]: where each sentence begins in it.
    documents int64 [D + 1]: the first sentence of each document. name: what to call the text in a message. ident:
    stands for the content; "" where nothing made of it is to be cached.
    """

    ids: np.ndarray
    starts: np.ndarray
    documents: np.ndarray
    name: str
    ident: str = ""

    cut_texts = 0  # none loses its end

    def __len__(self) -> int:
        return max(len(self.starts) - 1, 0)

    @property
    def tokens(self) -> np.ndarray:
        """All ids [M]."""
        return self.ids

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """`starts` and `documents` as plain arrays, which are quicker to look at than memory-mapped ones."""
        return np.asarray(self.starts), np.asarray(self.documents)

    @classmethod
    def open(cls, folder: Path, name: str) -> "Sentences":
        """What `write_sentences` wrote, memory-mapped."""
        arrays = open_arrays(folder)
        return cls(arrays["ids"], arrays["starts"], arrays["documents"], name, folder.name)

    @classmethod
    def of_items(cls, items: Sequence[np.ndarray], document: Sequence, name: str, ident: str = "") -> "Sentences":
        """Of items that are sentences, ids [T] each; neighbours of one `document` [S] are one document."""
        kept = [i for i, item in enumerate(items) if len(item)]
        starts = np.cumsum([0, *(len(items[i]) for i in kept)], dtype=np.int64)
        changes = [n for n, i in enumerate(kept) if n == 0 or document[i] != document[kept[n - 1]]]
        ids = np.concatenate([items[i] for i in kept]) if kept else np.zeros(0, np.int64)
        return cls(ids, starts, np.array([*changes, len(kept)], np.int64), name, ident)


def split_sentences(
    lines: Iterable[str], by: SentencesBy, documents_by: DocumentsBy
) -> Iterator[tuple[str, bool, bool]]:
    """A document file's lines, with their ends, in pieces: (text, begins a sentence, begins a document).

    The pieces are the lines, cut where a sentence begins within one; a sentence may go on over line ends.

    by "line": a line is a sentence. "rule": a sentence ends at `. ! ? …` and the quotes or brackets that close there, if
    white space follows and then no small letter, and the word is no title (Mr.), initial or like abbreviation; at `。！？`;
    at a blank line; and around a heading.

    documents_by "file": all lines are one document. "blank_line": a blank line ends it (BERT's input is that, by line).
    "heading": it begins with a heading: "Chapter IV", "IV", "# …", WikiText's " = … = ".
    """
    fresh, begun = True, False  # the next line begins a document; there was text
    ended, stopped = True, False  # the sentence has ended; or has, if the next line may begin one
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
    """Where sentences end in a line, before the white space that follows."""
    for stop in _STOP.finditer(line):
        rest = line[stop.end() : stop.end() + 20]
        if rest.strip() and (
            line[stop.start()] in "。！？"
            or (_may_begin(rest) and not _abbreviated(line[max(stop.end() - 20, 0) : stop.end()]))
        ):
            yield stop.end()


def _may_begin(text: str) -> bool:
    """Whether a sentence may begin so: not with a small letter."""
    first = text.lstrip().lstrip(_OPENING).lstrip()[:1]
    return not first.islower()


def _abbreviated(text: str) -> bool:
    """Whether the full stop at the end is a title's or an initial's."""
    found = _WORD.search(text[-20:])  # no abbreviation is longer
    if found is None:
        return False
    word = found[1].lstrip(_OPENING)
    return word.lower() in _TITLES or (len(word) == 1 and word.isupper() and word != "I")


def encode_sentences(
    pieces: Iterable[tuple[str, bool, bool]], encode: Callable[[list[str]], list[np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pieces of `split_sentences` in parts: ids [n], and where in them sentences and documents begin, int64. A piece
    without ids belongs to the sentence before it. encode: texts -> ids of each, without specials."""
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
    """What `write_sentences` writes, from the cache, where it is written if it is not there yet. kind: stands for the
    documents and for what `encode` makes of them. Raises UserError where there is no text."""

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
    """Write what `Sentences.open` reads. documents: the lines of each, which `documents_by` may divide further."""
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
    # a sentence or a document without ids begins where the next one does, and is none
    first, begins = (np.unique(np.concatenate([*found, end]).astype(np.int64)) for found in (starts, begun))
    np.save(folder / "starts.npy", first, allow_pickle=False)
    np.save(folder / "documents.npy", np.searchsorted(first, begins).astype(np.int64), allow_pickle=False)
