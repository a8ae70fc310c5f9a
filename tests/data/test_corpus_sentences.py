"""Sentences of running text and of docstrings, as objectives that read them get them."""

import json

import numpy as np
import pytest
from conftest import compose
from given import own_cache  # noqa: F401

from sslzoo.build import build
from sslzoo.data.arranged import SentenceRows
from sslzoo.data.base import UNK
from sslzoo.data.builtin.docstrings import Docstrings
from sslzoo.data.corpus import PlainText, WikiText
from sslzoo.data.documents import Documents
from sslzoo.data.sampler import ByCount
from sslzoo.data.sentence_rows import NextSentence
from sslzoo.errors import ConfigError, UserError

BOOK = "".join(
    f"Chapter {n}\n\nMr. {n} said that {n * n} is a square. He went on,\nover the line. And  that\nwas all!\n\n"
    for n in range(1, 60)
)


def corpus(folder, **settings) -> PlainText:
    return PlainText(str(folder), ByCount(4), **{"vocab_size": 400, "max_tokens": 48, **settings})


@pytest.fixture
def book(tmp_path, own_cache):  # noqa: F811
    for split in ("train", "valid", "test"):
        (tmp_path / "text" / split).mkdir(parents=True)
        (tmp_path / "text" / split / "book.txt").write_text(BOOK if split == "train" else BOOK.replace("Mr.", split))
    return tmp_path / "text"


@pytest.mark.parametrize("tokens", ["wordpiece", "byte_bpe", "unigram", "characters"])
def test_the_ids_are_those_of_the_text(book, tokens):
    data = corpus(book, tokens=tokens, documents_by="heading")
    found = data.open_sentences("train")
    assert np.array_equal(found.ids, data.split("train").stream)
    assert len(found.documents) - 1 == 59 and len(found) == 4 * 59
    said = [" ".join(data.tokenizer.decode(found.ids[found.starts[i] : found.starts[i + 1]].tolist()).split())
            for i in range(4)]  # fmt: skip
    case = str if tokens in ("byte_bpe", "characters") else str.lower
    expected = ["Chapter 1", "Mr. 1 said that 1 is a square.", "He went on, over the line.", "And that was all!"]
    assert [s.replace(" ", "") for s in said] == [case(s).replace(" ", "") for s in expected]
    assert len(corpus(book, tokens=tokens).open_sentences("valid").documents) == 2, "a file is a document"


def test_opened_again_they_come_from_the_cache(book, own_cache, monkeypatch):  # noqa: F811
    first = corpus(book).open_sentences("train")
    assert len(list(own_cache.glob("sentences-*"))) == 1
    monkeypatch.setattr(PlainText, "_documents", lambda *a: pytest.fail("read again"))
    again = corpus(book).open_sentences("train")
    assert np.array_equal(again.starts, first.starts) and again.ident == first.ident
    monkeypatch.undo()
    assert corpus(book, documents_by="heading").open_sentences("train").ident != first.ident


def test_objects_of_json_lines_are_documents(tmp_path, own_cache):  # noqa: F811
    texts = [f"Number {n} begins.\n\nIt ends at {n}." for n in range(80)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    found = corpus(tmp_path, files={"train": "a.jsonl"}, shares={"valid": 0.2}).open_sentences("train")
    documents = len(found.documents) - 1
    assert documents == pytest.approx(64, abs=2) and len(found) == pytest.approx(2 * documents, abs=1)


def test_documents_have_sentences(tmp_path, own_cache):  # noqa: F811
    texts = [f"Number {n} begins.\n\nIt ends at {n}. Now." for n in range(40)]
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    data = Documents(str(tmp_path), ByCount(4), vocab_size=200, max_tokens=16)
    found = data.open_sentences("train")
    assert len(found.documents) - 1 == 40 and len(found) == 3 * 40
    items = data.split("train")
    assert np.array_equal(found.ids, np.concatenate([items.read(i)[1:-1].numpy() for i in range(len(items))]))


def test_articles_of_wikitext_are_documents(tmp_path, own_cache):  # noqa: F811
    article = " \n = Bird {} = \n \n It is a <unk> bird . It sings . \n \n = = Song = = \n \n It is <unk> . \n"
    for split in ("train", "valid", "test"):
        (tmp_path / f"wiki.{split}.tokens").write_text("".join(article.format(n) for n in range(9)))
    data = WikiText(str(tmp_path), ByCount(2), vocab_size=100, max_tokens=16)
    found = data.open_sentences("train")
    assert len(found.documents) - 1 == 9 and (found.ids == UNK).sum() == 18
    assert np.array_equal(found.ids, data.split("train").stream)


def test_a_module_of_docstrings_is_a_document():
    data = Docstrings(ByCount(4), per_package=200)
    found, items = data.open_sentences("train"), data.split("train")
    assert len(found) == len(items)
    assert (np.diff(found.starts) == items.lengths - 2).all()
    first = found.documents[1]
    assert (
        items.names[0].split(",")[0]
        == items.names[int(first) - 1].split(",")[0]
        != items.names[int(first)].split(",")[0]
    )


def job(objective: str, *words: str):
    return build(compose(f"objective={objective}", "encoder=tiny_text", *words))


def test_an_objective_gets_its_rows(book):
    words = [
        f"data.path={book}",
        "data=plain_text",
        "data.vocab_size=400",
        "data.max_tokens=48",
        "data.documents_by=heading",
    ]
    data = job("bert_nsp", *words).data
    train, valid = data.split("train"), data.split("valid")
    assert isinstance(train, SentenceRows) and set(train.item(0, 1)[3]) == {"pair"}
    said = data.describe(train.read(0))
    assert "square" in said and train.names[3] == f"{book} (train), block 3" and len(valid) > 10
    assert job("roberta", *words).data.split("train").labels is None


def test_data_without_sentences_is_refused_before_any_work(book):
    words = ["data=text_table", "data.path=nowhere", "data.files={train: a.tsv}", "data.text=sentence"]
    with pytest.raises(
        ConfigError,
        match=r"^ALBERT reads the sentences of documents, .* choose data=plain_text, documents, wikitext or",
    ):
        job("albert", *words)
    with pytest.raises(
        ConfigError, match=r"^objective\.rows: FullSentences makes other rows .* objective/rows=sentence_order"
    ):
        job("albert", "data=tiny_text", "objective/rows=full_sentences")
    with pytest.raises(
        ConfigError, match=r"^objective\.rows: NextSentence makes pairs, .* objective/rows=full_sentences or"
    ):
        job("roberta", "data=tiny_text", "objective/rows=next_sentence")
    one = job("bert_nsp", f"data.path={book}", "data=plain_text", "data.vocab_size=400")
    with pytest.raises(UserError, match=r"is one document, .*set data\.documents_by=heading or blank_line"):
        one.data.split("train")


def test_pairs_of_real_books(real, own_cache):  # noqa: F811
    """Three novels by chapter: half of the second parts follow the first, the others are from another chapter."""
    data = corpus(real / "text" / "gutenberg" / "valid", vocab_size=300, tokens="characters", documents_by="heading")
    found = data.open_sentences("train")
    chapters = found.starts[found.documents[1:]]
    spans, labels = NextSentence().spans(found, 512, seed=0)
    first, second = (np.searchsorted(chapters, spans[:, i], side="right") for i in (0, 2))
    assert len(chapters) > 50 and len(labels) > 1000
    assert (first[labels == 1] != second[labels == 1]).all() and (first[labels == 0] == second[labels == 0]).all()
    assert labels.mean() == pytest.approx(0.5, abs=0.06)
    assert (spans[labels == 0, 1] <= spans[labels == 0, 2]).all()
