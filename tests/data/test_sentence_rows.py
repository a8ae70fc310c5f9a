"""Rows of sentences: pairs as BERT's and ALBERT's papers make them, and RoBERTa's full rows."""

import numpy as np
import pytest
import torch
from given import own_cache  # noqa: F401

from sslzoo.data.arranged import Arranged, SentenceRows
from sslzoo.data.base import CLS, PAIR, SEP, SPECIALS, Data
from sslzoo.data.loader import collate
from sslzoo.data.sentence_rows import DocSentences, Draws, FullSentences, NextSentence, SentenceOrder
from sslzoo.data.sentences import Sentences
from sslzoo.errors import ConfigError, UserError

ROOM = 64 - 3


def text(documents: int = 40, sentences: int = 4000, longest: int = 30) -> Sentences:
    """A text whose ids are their places, so that a row shows where it is from."""
    g = np.random.default_rng(documents)
    starts = np.concatenate([[0], np.cumsum(g.integers(1, longest, sentences))])
    cuts = np.sort(g.choice(np.arange(1, sentences), documents - 1, replace=False))
    ids = np.arange(starts[-1]) + SPECIALS
    return Sentences(ids, starts, np.array([0, *cuts, sentences]), "a text")


def document_of(sentences: Sentences, places: np.ndarray) -> np.ndarray:
    return np.searchsorted(sentences.starts[sentences.documents[1:]], places, side="right")


def whole(monkeypatch, rows: type) -> None:
    """Pairs that are not cut."""
    monkeypatch.setattr(rows, "cut", lambda self, draws, spans, room: spans)


def bound(n: int, p: float) -> float:
    """Five standard deviations of a share of n."""
    return 5 * (p * (1 - p) / n) ** 0.5


def test_half_of_the_second_parts_go_on_with_the_first(monkeypatch):
    whole(monkeypatch, NextSentence)
    given = text(documents=10, sentences=60_000)
    spans, labels = NextSentence(short=0).spans(given, 64, seed=1)
    a, a_end, b, b_end = spans.T
    lone = np.searchsorted(given.starts, a_end) == np.searchsorted(given.starts, a) + 1
    full = (a_end - a < ROOM) | ~lone  # a row of one sentence alone has no second part of its own
    assert full.sum() > 10_000
    assert abs(labels[full].mean() - 0.5) < bound(full.sum(), 0.5)
    assert (b[labels == 0] == a_end[labels == 0]).all()
    assert (document_of(given, a)[labels == 0] == document_of(given, b_end - 1)[labels == 0]).all()
    assert ((a_end > a) & (b_end > b)).all()


def test_a_random_second_part_is_always_from_another_document(monkeypatch):
    whole(monkeypatch, NextSentence)
    given = text()
    spans, labels = NextSentence().spans(given, 64, seed=2)
    a, _, b, b_end = spans[labels == 1].T
    assert len(a) > 500
    mine, theirs = document_of(given, a), document_of(given, b)
    assert (mine != theirs).all() and (theirs == document_of(given, b_end - 1)).all(), "one document, whole sentences"
    assert np.isin(b, given.starts).all() and np.isin(b_end, given.starts).all()
    # each of the others alike, in either direction
    assert set(theirs) == set(range(40)) and abs((theirs < mine).mean() - 0.5) < 0.2


def test_unused_sentences_are_put_back(monkeypatch):
    """First parts and the second parts that go on with them are every sentence of the text, once, in order."""
    whole(monkeypatch, NextSentence)
    given = text()
    spans, labels = NextSentence().spans(given, 64, seed=3)
    used = np.concatenate([np.r_[a:a_end] if other else np.r_[a:b_end] for (a, a_end, _, b_end), other in
                           zip(spans.tolist(), labels.tolist(), strict=True)])  # fmt: skip
    assert np.array_equal(used, np.arange(len(given.ids)))


def test_a_tenth_of_the_rows_is_short(monkeypatch):
    whole(monkeypatch, SentenceOrder)
    given = text(documents=2, sentences=100_000, longest=2)  # a sentence is an id
    spans, _ = SentenceOrder(short=0.1).spans(given, 64, seed=4)
    lengths = (spans[:, 1] - spans[:, 0] + spans[:, 3] - spans[:, 2])[:-1]  # the text's end may leave less
    short = lengths < ROOM
    expected = 0.1 * (ROOM - 2) / (ROOM - 1)  # lengths from 2 to all of it alike
    assert abs(short.mean() - expected) < bound(len(lengths), expected)
    assert lengths.min() == 2 and np.mean(lengths[short]) == pytest.approx((2 + ROOM - 1) / 2, rel=0.15)
    assert (SentenceOrder(short=0).spans(given, 64, seed=4)[0][:-1, 3] > 0).all()


def slow_lengths(a: int, b: int, room: int) -> tuple[int, int]:
    """`truncate_seq_pair` of the authors' code."""
    while a + b > room:
        if a > b:
            a -= 1
        else:
            b -= 1
    return a, b


@pytest.mark.parametrize("sizes", [(3, 4), (40, 90), (90, 40), (61, 61), (5, 200), (31, 30), (33, 29)])
def test_a_pair_loses_what_is_too_much_at_both_ends(sizes):
    rows, draws = NextSentence(), Draws(5)
    a, b = sizes
    fronts = []
    for _ in range(400):
        draws.next_row()
        found = rows.cut(draws, (1000, 1000 + a, 5000, 5000 + b), ROOM)
        assert (found[1] - found[0], found[3] - found[2]) == slow_lengths(a, b, ROOM)
        assert 1000 <= found[0] and found[1] <= 1000 + a and 5000 <= found[2] and found[3] <= 5000 + b
        fronts.append((found[0] - 1000, found[2] - 5000))
    lost = [size - left for size, left in zip(sizes, slow_lengths(a, b, ROOM), strict=True)]
    for side, n in enumerate(lost):  # a coin for each id: binomial
        front = np.array([f[side] for f in fronts])
        assert abs(front.mean() - n / 2) <= 5 * (n / 4 / 400) ** 0.5
        assert front.var() == pytest.approx(n / 4, rel=0.4, abs=0.05)


def test_coins_are_fair_beyond_a_word():
    draws, found = Draws(0), []
    for _ in range(300):
        draws.next_row()
        found.append(draws.heads("cut", 200))
    assert np.mean(found) == pytest.approx(100, abs=5 * (50 / 300) ** 0.5) and np.var(found) == pytest.approx(
        50, rel=0.4
    )


def test_parts_are_exchanged_half_of_the_time_and_nothing_else(monkeypatch):
    whole(monkeypatch, SentenceOrder)
    given = text(documents=5, sentences=60_000)
    spans, labels = SentenceOrder().spans(given, 64, seed=6)
    assert abs(labels.mean() - 0.5) < bound(len(labels), 0.5)
    ordered = np.where(labels[:, None] == 1, spans[:, [2, 3, 0, 1]], spans)
    a, a_end, b, b_end = ordered.T
    assert (a_end == b).all() and (a < a_end).all() and (b < b_end).all()
    assert (document_of(given, a) == document_of(given, b_end - 1)).all(), "never over a document's end"
    # what is left out are rows of a single sentence: the last of a document, or as long as the row
    used = np.zeros(len(given.ids), int)
    for begin, end in zip(a, b_end, strict=True):
        used[begin:end] += 1
    assert used.max() == 1
    missing = np.flatnonzero(np.add.reduceat(used, given.starts[:-1]) == 0)
    assert 0 < len(missing) < 0.05 * len(given)
    sizes, last = np.diff(given.starts)[missing], np.isin(missing + 1, given.documents)
    assert ((sizes >= 2) | last).all()


def test_a_text_of_lone_sentences_has_no_order():
    lone = Sentences(np.arange(30), np.array([0, 10, 20, 30]), np.array([0, 1, 2, 3]), "verses")
    with pytest.raises(UserError, match=r"^verses has no two sentences after each other in 61 tokens: raise"):
        SentenceOrder().spans(lone, 64, 0)
    one = Sentences(np.arange(30), np.array([0, 10, 20, 30]), np.array([0, 3]), "a book")
    with pytest.raises(UserError, match=r"^a book is one document, .*set data\.documents_by=heading"):
        NextSentence().spans(one, 64, 0)
    with pytest.raises(ConfigError, match=r"objective\.rows\.short is a chance from 0 to 1, got 1\.5"):
        NextSentence(short=1.5)


@pytest.mark.parametrize("rows", [NextSentence(), SentenceOrder(), FullSentences(), DocSentences()])
def test_a_row_is_its_stretches_between_specials(rows):
    given = text()
    found = SentenceRows(given, *rows.spans(given, 64, seed=7))
    assert found.lengths.max() == 64 and found.lengths.min() >= 4 - 1
    for index in range(0, len(found), 7):
        row = found.read(index).tolist()
        assert len(row) == found.lengths[index] and row[0] == CLS and row[-1] == SEP
        parts = [p.split() for p in " ".join("|" if i in (CLS, SEP) else str(i) for i in row).split("|") if p.strip()]
        for part in parts:
            ids = np.array(part, int) - SPECIALS
            assert (np.diff(ids) == 1).all() and len(set(document_of(given, ids))) == 1
        if found.labels is not None:
            assert len(parts) == 2
            goes_on = int(parts[1][0]) == int(parts[0][-1]) + 1
            assert goes_on <= (found.targets(index)[PAIR] == 0)
    if found.labels is not None:
        batch = collate([found.item(i, 5) for i in range(6)])
        assert batch.targets[PAIR].shape == (6,) and batch.targets[PAIR].dtype == torch.int64
    else:
        assert found.targets(0) == {}


def test_full_rows_hold_every_sentence_once_and_as_many_as_fit():
    given = text(documents=30, sentences=3000)
    full = SentenceRows(given, FullSentences().spans(given, 64, 0)[0], None)
    apart = SentenceRows(given, DocSentences().spans(given, 64, 0)[0], None)
    for rows in (full, apart):
        assert np.array_equal(rows.spans[:, 0], [0, *rows.spans[:-1, 1]]) and rows.spans[-1, 1] == len(given.ids)
        assert np.isin(rows.spans, given.starts).all() and rows.lengths.max() <= 64
        following = np.searchsorted(given.starts, rows.spans[:-1, 1])
        more = given.starts[following + 1] - given.starts[following]
        begins = np.isin(following, given.documents)  # with a separator before it
        fits = rows.lengths[:-1] + more + begins <= 64
        assert not fits.any() if rows is full else (begins[fits].all() and fits.any())
    separators = [int((full.read(i) == SEP).sum()) for i in range(len(full))]
    assert sum(separators) - len(full) == 29 - np.isin(full.spans[1:, 0], given.starts[given.documents]).sum()
    assert len(apart) > len(full) and all((apart.read(i) == SEP).sum() == 1 for i in range(len(apart)))


def test_a_sentence_longer_than_a_row_is_cut_into_rows():
    given = Sentences(np.arange(SPECIALS, 205), np.array([0, 20, 190, 200]), np.array([0, 3]), "a text")
    found, _ = FullSentences().spans(given, 64, 0)
    assert found.tolist() == [[0, 20], [20, 82], [82, 144], [144, 190], [190, 200]]


class Book(Data):
    modality, max_tokens, has_sentences = "text", 32, True

    def __init__(self, ident: str = "a book"):
        self.ident = ident

    def open_sentences(self, name):
        given = text(documents=6, sentences=300)
        given.ident = self.ident and f"{self.ident}, {name}"
        return given


def rows_of(split) -> list:
    return [split.read(i).tolist() for i in range(len(split))]


def test_rows_follow_from_seed_and_split_and_are_made_once(own_cache, monkeypatch):  # noqa: F811
    first = rows_of(Arranged(Book(), NextSentence(), 0).split("train"))
    assert len(list(own_cache.glob("rows-*"))) == 1
    assert rows_of(Arranged(Book(""), NextSentence(), 0).split("train")) == first, "in memory they are the same"
    others = [Arranged(Book(), NextSentence(), 1).split("train"), Arranged(Book(), NextSentence(), 0).split("valid")]
    others.append(Arranged(Book(), NextSentence(0.5), 0).split("train"))
    assert all(rows_of(other) != first for other in others)
    # what is validated on does not depend on the run's seed
    assert rows_of(Arranged(Book(), NextSentence(), 1).split("valid")) == rows_of(others[1])
    monkeypatch.setattr(NextSentence, "spans", lambda *a: pytest.fail("made again"))
    assert rows_of(Arranged(Book(), NextSentence(), 0).split("train")) == first
