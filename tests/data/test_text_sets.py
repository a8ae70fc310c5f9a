import math
import multiprocessing
import os
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from given import own_cache, warnings  # noqa: F401

from sslzoo.data import text, text_files
from sslzoo.data.base import CLS, SEP, SPECIALS, UNK
from sslzoo.data.corpus import PlainText, WikiText
from sslzoo.data.loader import train_loader
from sslzoo.data.sampler import ByCount
from sslzoo.data.text import TextData, Texts, token_counts, unigram_entropy
from sslzoo.data.text_splits import TextBlocks
from sslzoo.data.tokenizer import TOKENS, Tokenizer
from sslzoo.data.tokenizer_training import train
from sslzoo.errors import ConfigError, UserError

BOOK = "".join(f"Line {i} says that {i * i} is a square.\n" for i in range(400))


class Letters(TextData):
    """Four texts a split, the second of which is long."""

    opened_from_disk = 0

    def texts(self, split):
        Letters.opened_from_disk += 1
        texts = [f"{split} a b", "c d e f g h i j k l m n o", "a", f"{split}"]
        return Texts(texts, [f"{split}:{i}" for i in range(4)], None, {"label": np.arange(4)})


@pytest.fixture
def letters():
    return Letters(ByCount(2), vocab_size=60, max_tokens=8)


def test_a_subclass_only_says_what_the_texts_are(letters):
    split = letters.split("valid")
    assert list(split.names) == [f"valid:{i}" for i in range(4)] and split.columns["label"].tolist() == [0, 1, 2, 3]
    items = [split.read(i) for i in range(4)]
    assert [len(x) for x in items] == split.lengths.tolist() and split.lengths.max() == 8
    assert all(x.dtype == torch.int64 and x[0] == CLS and x[-1] == SEP for x in items)
    assert letters.describe(items[1]) == "c d e f g h"
    batch = next(iter(train_loader(split, letters.batch, 0, 0, 1)))
    assert letters.describe(batch.inputs[0]) == letters.describe(split.read(int(batch.index[0])))


def test_the_tokenizer_is_learned_once_and_from_train_alone(letters, own_cache, monkeypatch):  # noqa: F811
    letters.split("test")
    assert len(list(own_cache.glob("tokenizer-*.json"))) == 1
    monkeypatch.setattr(text, "train", lambda *a, **k: pytest.fail("learned again"))
    again = Letters(ByCount(2), vocab_size=60, max_tokens=8)
    assert torch.equal(again.split("test").read(1), letters.split("test").read(1))
    assert UNK not in letters.tokenizer.encode("train") and UNK in letters.tokenizer.encode("valid")
    monkeypatch.undo()
    monkeypatch.setenv("SSLZOO_CACHE", str(own_cache))
    for how in ({"vocab_size": 50}, {"lowercase": False}, {"tokens": "characters"}):
        Letters(ByCount(2), **{"vocab_size": 60, **how}).split("train")
    assert len(list(own_cache.glob("tokenizer-*.json"))) == 4


def test_saved_and_restored_without_the_training_texts(letters, tmp_path):
    want = letters.split("test").read(1)
    letters.save(tmp_path)
    other = PlainText("nowhere", ByCount(2), vocab_size=10)
    other.restore(tmp_path)
    assert other.tokenizer.encode("c d e f g h i", max_tokens=8).tolist() == want.tolist()
    assert other.vocab_size == len(letters.tokenizer) > 10
    again = Letters(ByCount(2), vocab_size=60, max_tokens=8)
    again.restore(tmp_path)
    Letters.opened_from_disk = 0
    again.split("test")
    assert Letters.opened_from_disk == 1
    with pytest.raises(UserError, match="is not a tokenizer"):
        again.restore(tmp_path / "nowhere")


def test_pairs_share_the_room(letters):
    letters.texts = lambda split: Texts(["a b"], ["x"], ["c d e f g h i j k"])
    ids = letters.split("train").read(0)
    assert len(ids) == 8 and (ids == SEP).sum() == 2


@pytest.mark.parametrize("how, words", [({"vocab_size": 5}, "data.vocab_size"), ({"max_tokens": 4}, "data.max_tokens")])
def test_bad_values(how, words):
    with pytest.raises(ConfigError, match=words):
        PlainText("nowhere", ByCount(2), **how)


@pytest.mark.parametrize("wrap", [True, False])
def test_blocks(wrap):
    stream = np.arange(10, 10 + 103)
    split = TextBlocks(stream, 12, wrap, "here")
    room = 10 if wrap else 12
    assert len(split) == 103 // room and set(split.lengths.tolist()) == {12}
    bare = [x[1:-1] if wrap else x for x in (split.read(i) for i in range(len(split)))]
    assert torch.cat(bare).tolist() == stream[: room * len(split)].tolist()
    if wrap:
        assert all(split.read(i)[0] == CLS and split.read(i)[-1] == SEP for i in range(len(split)))
    starts = set()
    for key in range(200):
        item = split.read(3, key)
        item = item[1:-1] if wrap else item
        assert (item.diff() == 1).all() and len(item) == room
        starts.add(int(item[0]) - 10)
    assert starts == set(range(3 * room, 4 * room))
    last = [int(split.read(len(split) - 1, key).max()) for key in range(99)]
    assert max(last) == 112  # the text's end is trained on


def test_a_text_shorter_than_a_block_is_one_and_an_empty_one_is_refused():
    assert TextBlocks(np.arange(5), 12, True, "here").read(0).tolist() == [CLS, 0, 1, 2, 3, 4, SEP]
    with pytest.raises(UserError, match="here has no text"):
        TextBlocks(np.arange(0), 12, True, "here")


def characters(path, **how):
    return PlainText(str(path), ByCount(2), **{"max_tokens": 8, "tokens": "characters", **how})


def whole(data, name):
    split = data.split(name)
    return "".join(data.describe(split.read(i)) for i in range(len(split)))


def test_a_file_is_divided_by_place_at_line_ends(tmp_path):
    (tmp_path / "book.txt").write_text(BOOK)
    data = characters(tmp_path / "book.txt")
    train, valid, test = (data.opened(name).texts[0] for name in ("train", "valid", "test"))
    assert train + valid + test == BOOK
    assert train.endswith("\n") and valid.endswith("\n")
    assert 0.89 < len(train) / len(BOOK) < 0.92 and 0.04 < len(valid) / len(BOOK) < 0.06
    assert valid.startswith(whole(data, "valid"))


def test_a_text_without_lines_is_divided_all_the_same(tmp_path):
    (tmp_path / "book.txt").write_text("0123456789" * 100)
    data = characters(tmp_path / "book.txt")
    assert [len(data.opened(name).texts[0]) for name in ("train", "valid", "test")] == [900, 50, 50]


def test_shares_are_cut_exactly(tmp_path):
    """nanoGPT's prepare.py: train_data = data[:int(n*0.9)], val_data = data[int(n*0.9):]."""
    (tmp_path / "book.txt").write_text(BOOK)
    data, n = characters(tmp_path / "book.txt", shares={"valid": 0.1}), len(BOOK)
    assert n % 10 and data.opened("train").texts == [BOOK[: int(n * 0.9)]]
    assert data.opened("valid").texts == [BOOK[int(n * 0.9) :]]
    with pytest.raises(UserError, match="has no test split: .* set data.shares.test=0.05"):
        data.split("test")
    data = characters(tmp_path / "book.txt", shares={"test": 0.2, "valid": 0.3})
    assert [data.opened(name).texts[0] for name in ("train", "valid", "test")] == [
        BOOK[: int(n * 0.5)], BOOK[int(n * 0.5) : int(n * 0.8)], BOOK[int(n * 0.8) :]
    ]  # fmt: skip
    (tmp_path / "other.txt").write_text("another text")
    data = characters(tmp_path, files={"train": "book.txt", "test": "other.txt"}, shares={"valid": 0.1})
    assert data.opened("valid").texts == [BOOK[int(n * 0.9) :]] and data.opened("test").texts == ["another text"]


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ({"valid": 0.5, "test": 0.5}, "together below 1"),
        ({"valid": 0.0}, "above 0"),
        ({"train": 0.9}, "valid and test parts"),
        ({}, "valid and test parts"),
        ({"test": 0.1}, "test is in data.files and in data.shares: leave out one"),
    ],
)
def test_shares_that_cannot_be(shares, says):
    with pytest.raises(ConfigError, match=says):
        characters("nowhere", files={"train": "a", "test": "b"}, shares=shares)


def test_validation_reads_every_block_in_its_place(tmp_path):
    (tmp_path / "book.txt").write_text(BOOK)
    data = characters(tmp_path / "book.txt", shares={"valid": 0.1}, max_tokens=16)
    split, text = data.split("valid"), data.opened("valid").texts[0]
    read = "".join(data.describe(split.read(i, seed=77 + i)) for i in range(len(split)))
    assert read == text[: len(text) // 16 * 16]
    train = data.split("train")
    assert any(not torch.equal(train.read(3, key), train.read(3)) for key in range(5))


def test_every_file_of_a_folder_gives_its_share(tmp_path):
    for name in ("a.txt", "in/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name[-5] * 50 + BOOK)
    data = characters(tmp_path)
    assert data.opened("train").names == ["a.txt", "in/b.txt"]
    assert [text[:50] for text in data.opened("train").texts] == ["a" * 50, "b" * 50]
    assert "says" in whole(data, "test")


def test_files_name_the_splits(tmp_path):
    (tmp_path / "x.txt").write_text(BOOK)
    (tmp_path / "y.txt").write_text("says that a Line is an a")
    data = characters(tmp_path, files={"train": "x.txt", "test": "y.txt"})
    assert data.opened("train").texts[0] + data.opened("valid").texts[0] == BOOK
    assert whole(data, "test") == "says that a Line is an a"
    with pytest.raises(ConfigError, match="data.files names train and, if it likes, valid and test; got test"):
        characters(tmp_path, files={"test": "y.txt"})


def test_word_pieces_stand_between_specials_and_characters_alone(tmp_path):
    (tmp_path / "book.txt").write_text(BOOK)
    pieces = PlainText(str(tmp_path), ByCount(2), vocab_size=200, max_tokens=16).split("train").read(0)
    assert pieces[0] == CLS and pieces[-1] == SEP and len(pieces) == 16
    assert characters(tmp_path).split("train").read(0).min() >= 5


def test_bad_texts_are_named(tmp_path, warnings):  # noqa: F811
    with pytest.raises(UserError, match="there is no folder .*nowhere"):
        characters(tmp_path / "nowhere").split("train")
    with pytest.raises(UserError, match="has no .txt .jsonl files"):
        characters(tmp_path).split("train")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match="a.txt is empty"):
        characters(tmp_path).split("train")
    (tmp_path / "a.txt").write_text(BOOK)
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="b.txt is not UTF-8: byte 3 is 0xe9.*data.on_error=skip"):
        characters(tmp_path).split("train")
    assert characters(tmp_path, on_error="skip").opened("train").names == ["a.txt"]
    assert "left out 1 of 2: " in warnings() and "b.txt is not UTF-8" in warnings()


@pytest.fixture
def wiki(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"wiki.{name}.tokens").write_text(
            f" = {name} = \n\n" + "the <unk> sea is <unk> <unk> blue . \n" * 20
        )
    return tmp_path


@pytest.mark.parametrize("tokens", TOKENS)
def test_wikitext(wiki, tokens):
    data = WikiText(str(wiki), ByCount(2), {"byte_bpe": 300, "unigram": 40}.get(tokens, 120), 40, tokens)
    stream = data.stream(["the <unk> sea is <unk> <unk> blue"])
    assert data.tokenizer.decode(stream).replace(" ", "") == "the[UNK]seais[UNK][UNK]blue"
    assert (stream == UNK).sum() == 3
    assert "train" in data.describe(data.split("train").read(0)).replace(" ", "")
    assert data.opened("test").texts[0].startswith(" = test")


def test_wikitext_without_its_training_file(wiki):
    (wiki / "wiki.train.tokens").unlink()
    with pytest.raises(
        UserError, match=r"has no wiki.train.tokens — set data.files={train: wiki.valid.tokens} to train"
    ):
        WikiText(str(wiki), ByCount(2)).split("test")
    data = WikiText(str(wiki), ByCount(2), 120, 40, files={"train": "wiki.valid.tokens", "test": "wiki.test.tokens"})
    both = data.opened("train").texts[0] + data.opened("valid").texts[0]
    assert both == (wiki / "wiki.valid.tokens").read_text()
    assert len(data.split("train")) and len(data.split("valid")) and len(data.split("test"))
    for name in ("valid", "test"):
        (wiki / f"wiki.{name}.tokens").unlink()
    with pytest.raises(UserError, match="has no wiki.train.tokens$"):
        WikiText(str(wiki), ByCount(2)).split("train")


def whole_text_ids(data, name):
    """The ids of a split as they are without streaming: of all its text at once, by line."""
    return data.stream(data.opened(name).texts)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("sizes", [(1 << 20, 20_000, 1 << 20), (61, 3, 100)])
def test_streaming_changes_no_id(tmp_path, monkeypatch, tokens, sizes):
    for name, size in zip(("_BLOCK", "_LINES", "CHARACTERS"), sizes, strict=True):
        monkeypatch.setattr(text_files, name, size)
    (tmp_path / "a.txt").write_bytes((BOOK[:6000] + "Caf\u00e9\r\nna\u00efve \u5b57\u5b57\x0bend").encode())
    (tmp_path / "b.txt").write_text(BOOK[6000:])
    for shares in (None, {"valid": 0.1, "test": 0.2}):
        data = PlainText(str(tmp_path), ByCount(2), 300, 16, tokens, shares=shares)
        streams = {name: data.split(name).stream for name in ("train", "valid", "test")}
        assert all(np.array_equal(x, whole_text_ids(data, name)) for name, x in streams.items())
        assert all(x.dtype == np.uint16 and isinstance(x, np.memmap) for x in streams.values())
        assert train(tokens, data.opened("train").texts, 300).digest == data.tokenizer.digest
    parts = ["".join(data.opened(name).texts[i] for name in ("train", "test", "valid")) for i in (0, 1)]
    assert sorted(map(len, parts)) == sorted(
        [len(BOOK) - 6000, 6000 + len("Caf\u00e9\r\nna\u00efve \u5b57\u5b57\x0bend")]
    )


def test_a_corpus_is_tokenised_once_and_anew_when_it_changes(tmp_path, own_cache, monkeypatch):  # noqa: F811
    path = tmp_path / "book.txt"
    path.write_text(BOOK)
    first = [characters(path).split("train").read(i) for i in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(Tokenizer, "encode_stream", lambda *a: pytest.fail("tokenised again"))
        patch.setattr(text_files, "decoded", lambda *a: pytest.fail("read again"))
        assert all(torch.equal(a, characters(path).split("train").read(i)) for i, a in enumerate(first))
    assert len(list(own_cache.glob("corpus-*"))) == 1
    path.write_text(BOOK.replace("Line", "LINE"))
    os.utime(path, ns=(1, 1))
    assert characters(path).describe(characters(path).split("train").read(0)) == "LINE 0 s"
    assert len(list(own_cache.glob("corpus-*"))) == 2


def test_items_are_tokenised_once(letters, own_cache, monkeypatch):  # noqa: F811
    want = letters.split("train")
    monkeypatch.setattr(Tokenizer, "encode_batch_counted", lambda *a: pytest.fail("tokenised again"))
    again = Letters(ByCount(2), vocab_size=60, max_tokens=8)
    split = again.split("train")
    assert all(torch.equal(split.read(i), want.read(i)) for i in range(4)) and list(split.names) == list(want.names)
    assert len(list(own_cache.glob("texts-*"))) == 1
    with pytest.raises(pytest.fail.Exception):
        Letters(ByCount(2), vocab_size=60, max_tokens=9).split("train")


def _tokenise(path, marks, results):
    encode = Tokenizer.encode_apart

    def marked(self, texts):
        marks.put(1)
        return encode(self, texts)

    Tokenizer.encode_apart = marked
    results.put(characters(path).split("train").read(2).tolist())


def test_two_processes_make_one_file(tmp_path, own_cache):  # noqa: F811
    (tmp_path / "book.txt").write_text(BOOK)
    context = multiprocessing.get_context("fork")
    marks, results = context.Queue(), context.Queue()
    both = [context.Process(target=_tokenise, args=(tmp_path / "book.txt", marks, results)) for _ in range(2)]
    for process in both:
        process.start()
    found = [results.get(timeout=60) for _ in both]
    for process in both:
        process.join()
    assert found[0] == found[1] == characters(tmp_path / "book.txt").split("train").read(2).tolist()
    marks.get(timeout=1)
    assert marks.empty()
    assert len(list(own_cache.glob("corpus-*"))) == len(list(own_cache.glob("tokenizer-*"))) == 1
    assert not list(own_cache.glob(".*.partial"))


def test_what_a_worker_is_sent_does_not_grow_with_the_text(tmp_path):
    sizes = []
    for times in (1, 20):
        (tmp_path / str(times)).mkdir()
        (tmp_path / str(times) / "book.txt").write_text(BOOK * times)
        corpus = characters(tmp_path / str(times)).split("train")
        items = Letters(ByCount(2), vocab_size=60, max_tokens=8)
        items.texts = lambda split, n=times: Texts(
            ["a b c"] * 50 * n, [f"{i}" for i in range(50 * n)], None, {"label": np.array(["yes"] * 50 * n)}
        )
        items = items.split("train")
        for split in (corpus, items):
            assert len(split.lengths) == len(split) and len(split.names) == len(split)
            sent = pickle.loads(pickle.dumps(split))
            assert torch.equal(sent.read(3, 5), split.read(3, 5)) and sent.names[3] == split.names[3]
            assert sent.lengths.tolist() == split.lengths.tolist()
        sizes.append((len(pickle.dumps(corpus)), len(pickle.dumps(items))))
    assert max(map(max, sizes)) < 2500
    assert abs(sizes[0][0] - sizes[1][0]) < 20 and abs(sizes[0][1] - sizes[1][1]) < 20


def test_memory_is_bounded_by_a_chunk_and_not_by_the_corpus(tmp_path, monkeypatch):
    for name, size in (("_BLOCK", 8192), ("_LINES", 100), ("CHARACTERS", 8192)):
        monkeypatch.setattr(text_files, name, size)
    (tmp_path / "book.txt").write_text(BOOK * 30)
    size = (tmp_path / "book.txt").stat().st_size
    data = PlainText(str(tmp_path), ByCount(2), 300, 16)
    _ = characters(tmp_path).split("train").read(0)  # imports
    tracemalloc.start()
    try:
        data.split("train")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 2
    assert len(data.split("train").stream) > size / 10


def test_block_names_are_made_when_asked_for():
    names = TextBlocks(np.arange(103), 12, False, "here").names
    assert len(names) == 8 and names[0] == "here, block 0" and names[-1] == "here, block 7"
    assert names[6:] == ["here, block 6", "here, block 7"] and not isinstance(names, list)
    with pytest.raises(IndexError):
        names[8]


def test_the_real_vocabulary_is_what_the_tokenizer_learned(letters):
    assert 5 < letters.real_vocab_size == len(letters.tokenizer) < letters.vocab_size


def test_unigram_entropy_is_that_of_the_tokens_that_stand_for_text():
    rng = np.random.default_rng(0)
    ids = np.minimum(rng.geometric(0.2, 3000) - 1, 30).astype(np.uint16)
    counts = {}
    for token in ids.tolist():
        if token == UNK or token >= SPECIALS:
            counts[token] = counts.get(token, 0) + 1
    total = sum(counts.values())
    expected = -math.fsum(n / total * math.log(n / total) for n in counts.values())
    assert unigram_entropy(token_counts(ids)) == pytest.approx(expected, rel=1e-12)
    few = unigram_entropy(token_counts(ids, most=1000))
    assert few == pytest.approx(unigram_entropy(token_counts(ids[::3])), rel=1e-12)
    assert unigram_entropy(token_counts(np.array([CLS, SEP], np.uint16))) == math.inf
