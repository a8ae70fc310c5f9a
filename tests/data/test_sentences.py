"""Where sentences and documents end."""

import numpy as np
import pytest

from sslzoo.data import text_files
from sslzoo.data.sentences import Sentences, split_sentences, write_sentences


def pieces(text: str, by: str = "rule", documents_by: str = "file") -> list[tuple[str, bool, bool]]:
    return list(split_sentences(text.splitlines(keepends=True), by, documents_by))


def documents(text: str, by: str = "rule", documents_by: str = "file") -> list[list[str]]:
    """The sentences of each document, without white space around them."""
    found = []
    for piece, sentence, document in pieces(text, by, documents_by):
        if document:
            found.append([])
        if sentence:
            found[-1].append(piece)
        elif found:
            found[-1][-1] += piece
        else:
            assert not piece.strip()
    return [[" ".join(s.split()) for s in sentences] for sentences in found]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('"Stop!" said he. "Why?" She ran.', ['"Stop!" said he.', '"Why?"', "She ran."]),
        (
            "Mr. Hall met Dr. J. Smith at St. Ives. They spoke.",
            ["Mr. Hall met Dr. J. Smith at St. Ives.", "They spoke."],
        ),
        ("So did I. Nobody saw, e.g. Tom.", ["So did I.", "Nobody saw, e.g. Tom."]),
        ("It cost 3.50 in 1900. 1901 was dear... and so on.", ["It cost 3.50 in 1900.", "1901 was dear... and so on."]),
        ("A line that\ngoes on. And\nends.\nNext.", ["A line that goes on.", "And ends.", "Next."]),
        ("No end here\n\nBlank before.", ["No end here", "Blank before."]),
        ("Ends here.\nbut not so.\n", ["Ends here. but not so."]),
        ("Chapter IV\nIt began.", ["Chapter IV", "It began."]),
        ("“Été.” Élan (he said). Über uns.", ["“Été.”", "Élan (he said).", "Über uns."]),
        ("他走了。她笑道：「好！」你呢？", ["他走了。", "她笑道：「好！」", "你呢？"]),
        ("", []),
        ("\n\n", []),
    ],
)
def test_the_rule(text, sentences):
    assert [s for d in documents(text) for s in d] == sentences
    assert "".join(p for p, _, _ in pieces(text)) == text, "nothing is lost"


def test_berts_own_format():
    """A sentence a line, a blank line between documents."""
    text = "\nmr. smith came. he saw\nand went\n\n\nanother one\nits end\n"
    assert documents(text, "line", "blank_line") == [
        ["mr. smith came. he saw", "and went"],
        ["another one", "its end"],
    ]


def test_headings_begin_documents():
    wiki = " \n = Homarus gammarus = \n \n It is a lobster . It lives . \n \n = = Description = = \n Large . \n = Two = \n It . \n"
    assert documents(wiki, documents_by="heading") == [
        ["= Homarus gammarus =", "It is a lobster .", "It lives .", "= = Description = = Large ."],
        ["= Two =", "It ."],
    ]
    book = "THE BOOK\n\nCHAPTER I. Rowland\n\nHe came.\n\nIV\nNo.\nChapter Two THE MEN\nYes.\nChapter 2\nShe went. Part of it.\n# Notes\nNone.\n"
    assert [d[0] for d in documents(book, documents_by="heading")] == [
        "THE BOOK",
        "CHAPTER I. Rowland",
        "IV",
        "Chapter Two THE MEN",
        "Chapter 2",
        "# Notes",
    ]
    assert len(documents(book)) == 1
    plain = "Part of him was here.\nBook Of Job.\nChapters follow.\nI went.\n"
    assert documents(plain, documents_by="heading") == [
        ["Part of him was here.", "Book Of Job.", "Chapters follow.", "I went."]
    ]
    for heading in ("BOOK THE FIRST", "Chapter Twenty-one", "Part Two: More", "CHAPTER ONE"):
        assert len(documents(f"No.\n{heading}\nYes.\n", documents_by="heading")) == 2


def test_a_piece_begins_with_the_space_before_it():
    """So that byte BPE and word pieces give a sentence the ids that it has within its line."""
    assert [p for p, _, _ in pieces("One.  Two.\n")] == ["One.", "  Two.\n"]


def test_places_in_the_stream(monkeypatch, tmp_path):
    monkeypatch.setattr("sslzoo.data.sentences._CHUNK", 3)

    def encode(texts):
        return [np.array([len(w) for w in t.split() if w != "!"], np.int64) for t in texts]

    def written(*files: str) -> Sentences:
        write_sentences(tmp_path, [f.splitlines(True) for f in files], "rule", "blank_line", encode, 100)
        return Sentences.open(tmp_path, "a text")

    found = written("\nOne two. Three.\n\n!\n", "\nFour five six. Seven.\n")
    assert found.ids.tolist() == [3, 4, 6, 4, 4, 4, 6] and found.ids.dtype == np.uint16
    assert found.starts.tolist() == [0, 2, 3, 6, 7], "the sentence without ids is none"
    assert found.documents.tolist() == [0, 2, 4] and len(found) == 4
    assert len(written()) == len(written("\n")) == len(written("!")) == 0


def test_items_that_are_sentences():
    items = [np.array(x) for x in ([7, 8], [9], [], [5, 6, 7], [8])]
    found = Sentences.of_items(items, ["a", "a", "a", "b", "a"], "a text")
    assert found.ids.tolist() == [7, 8, 9, 5, 6, 7, 8] and found.starts.tolist() == [0, 2, 3, 6, 7]
    assert found.documents.tolist() == [0, 2, 3, 4] and len(found) == 4


def test_real_books(real):
    """Sentences are as long as sentences are, whether a book's lines are paragraphs or are wrapped."""
    books = sorted((real / "text" / "gutenberg" / "valid").glob("*.txt"))
    assert books
    for path in books:
        found = list(split_sentences(text_files.lines(text_files.decoded(path)), "rule", "heading"))
        words = sum(len(p.split()) for p, _, _ in found)
        assert 8 < words / sum(s for _, s, _ in found) < 40
        assert 5 < sum(d for _, _, d in found) < 80
