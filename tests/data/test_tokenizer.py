import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import processors

from sslzoo.data.base import CLS, MASK, PAD, SEP, UNK
from sslzoo.data.tokenizer import CharTokenizer, Tokenizer
from sslzoo.errors import ConfigError, UserError

TEXTS = [
    "The lobster is a large crustacean of the sea.",
    "Lobsters are caught in pots; unbelievably, the pots are baited.",
    "A café by the sea serves the lobster — naïvely boiled.",
] * 3


@pytest.fixture(scope="module")
def words():
    return Tokenizer.train(TEXTS, 90)


@pytest.fixture(scope="module")
def characters():
    return CharTokenizer.train(TEXTS, 60)


def test_specials_are_the_first_ids_and_the_size_is_kept(words, characters):
    for tokenizer, size in ((words, 90), (characters, 60)):
        assert tokenizer.tokens([PAD, UNK, CLS, SEP, MASK]) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        assert 5 < len(tokenizer) <= size
    assert len(words) == 90
    assert len(characters) == 5 + len(set("".join(TEXTS)))


@pytest.mark.parametrize("size", [12, 20, 40])
def test_a_small_vocabulary_is_never_exceeded(size):
    """An id beyond vocab_size would be no row of an embedding."""
    texts = [chr(0x3B1 + i) * 2 + chr(0x430 + i) for i in range(24)]
    for kind in (Tokenizer, CharTokenizer):
        tokenizer = kind.train(texts, size)
        assert len(tokenizer) <= size
        assert max(x.max() for x in tokenizer.encode_batch(texts)) < size


def test_round_trip_of_words(words):
    assert words.decode(words.encode(TEXTS[0])) == TEXTS[0].lower()
    assert words.decode(words.encode("Cafe\u0301")) == words.decode(words.encode("Café")) == "café"
    stripped = Tokenizer.train(TEXTS, 150, strip_accents=True)
    assert stripped.decode(stripped.encode("Café")) == "cafe"
    kept = Tokenizer.train(TEXTS, 150, lowercase=False)
    assert kept.decode(kept.encode("The café")) == "The café"


def test_round_trip_of_characters(characters):
    text = "The sea —  the\tsea.\n"
    got = characters.decode(characters.encode(text))
    assert got == text.replace("\t", "[UNK]").replace("\n", "[UNK]")


def test_pairs_and_their_cut(words):
    one, two = words.encode("the sea"), words.encode("lobster pots")
    both = words.encode("the sea", "lobster pots")
    assert both.dtype == np.int64
    assert both.tolist() == [*one, *two[1:]]
    assert (both == SEP).sum() == 2 and both[0] == CLS


@pytest.mark.parametrize(
    "first, second, limit, kept",
    [(10, 2, 11, (6, 2)), (2, 10, 11, (2, 6)), (9, 9, 10, (4, 3)), (3, 3, 9, (3, 3))],
)
def test_the_longer_of_a_pair_is_cut(characters, first, second, limit, kept):
    ids = characters.encode("t" * first, "s" * second, max_tokens=limit)
    assert len(ids) <= limit
    assert characters.decode(ids) == "t" * kept[0] + "s" * kept[1]
    assert ids[0] == CLS and ids[kept[0] + 1] == SEP and ids[-1] == SEP


def test_a_single_text_is_cut(words):
    ids = words.encode(TEXTS[1], max_tokens=8)
    assert len(ids) == 8 and ids[0] == CLS and ids[-1] == SEP
    assert ids[:-1].tolist() == words.encode(TEXTS[1])[:7].tolist()


def test_a_stream_is_the_texts_without_specials(words):
    stream = words.encode_stream(iter(TEXTS))
    assert stream.tolist() == [i for text in TEXTS for i in words.encode(text)[1:-1]]
    assert len(words.encode_stream([])) == 0


def test_specials_that_are_written_in_a_text_are_text(words):
    assert not {CLS, SEP, MASK, PAD} & set(words.encode("the [MASK] and [SEP] of [PAD]")[1:-1].tolist())


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_each_piece_knows_its_word(request, kind):
    tokenizer = request.getfixturevalue(kind)
    sentence = ["Unbelievably", ",", "don't", "boil", "ünbaited", "pots"]
    ids, word = tokenizer.encode_words(sentence)
    assert len(ids) == len(word) and word[0] == word[-1] == -1
    assert sorted(set(word.tolist()) - {-1}) == list(range(len(sentence)))
    for number, text in enumerate(sentence):
        own = tokenizer.encode(text)[1:-1]
        assert ids[word == number].tolist() == own.tolist()
    short, word = tokenizer.encode_words(sentence, max_tokens=6)
    assert short.tolist() == [*ids[:5], SEP] and len(word) == 6


def test_saved_and_loaded(words, characters, tmp_path):
    for tokenizer in (words, characters):
        tokenizer.save(tmp_path / "tokenizer.json")
        loaded = Tokenizer.load(tmp_path / "tokenizer.json")
        text = "The lobster [MASK] sea — ∞"
        assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist()
        assert loaded.decode(loaded.encode(text)) == tokenizer.decode(tokenizer.encode(text))


def test_what_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(UserError, match="a.json is not a tokenizer"):
        Tokenizer.load(tmp_path / "a.json")
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    Backend(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "b.json"))
    with pytest.raises(UserError, match="b.json is not a tokenizer of sslzoo"):
        Tokenizer.load(tmp_path / "b.json")
    with pytest.raises(ConfigError, match="vocab_size must be above 6"):
        Tokenizer.train(TEXTS, 5)
    for kind in (Tokenizer, CharTokenizer):
        with pytest.raises(UserError, match="no text to learn"):
            kind.train(["", ""], 100)


def test_training_is_the_same_in_every_process(tmp_path):
    """The library alone gives another vocabulary every time: its ties follow a randomly seeded hash map."""
    code = (
        "import sys; from sslzoo.data.tokenizer import Tokenizer\n"
        "texts = [' '.join(chr(97 + (i * j) % 26) * (1 + j % 3) + 'xyz'[i % 3] for j in range(30)) for i in range(99)]\n"
        "Tokenizer.train(texts, 300).save(sys.argv[1])"
    )
    paths = [tmp_path / f"{seed}.json" for seed in (1, 2)]
    begun = [
        subprocess.Popen([sys.executable, "-c", code, path], env=os.environ | {"PYTHONHASHSEED": path.stem})
        for path in paths
    ]
    assert [process.wait() for process in begun] == [0, 0]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(Tokenizer.load(paths[0])) > 250


def test_words_are_counted_as_by_the_splitter_line_by_line():
    """Words are split once for each distinct run between spaces; the ids must be those of counting every line."""
    from tokenizers import normalizers, pre_tokenizers

    texts = [
        "Caf\u00e9 caf\u00e9,  \u5b57a\u5b57 don't\tstop a\x1cb \u03a3\u03a3 x\u0301y\n\n stop. a\x85b",
        "a\u00a0b a b a\u2003b",
    ]
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    whole, parts = Counter(), Counter()
    for line in (line for text in texts for line in text.splitlines()):
        whole.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(line)))
        for part in line.split(" "):
            parts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(part)))
    assert parts == whole and len(whole) > 8


@pytest.mark.parametrize(
    "single, pair, one, two",
    [
        ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]", [CLS, 0, SEP], [CLS, 0, SEP, SEP, 1, SEP]),
        ("$A", "$A $B", [0], [0, 1]),
    ],
    ids=["roberta", "gpt2"],
)
def test_a_template_says_what_stands_around_texts(words, tmp_path, single, pair, one, two):
    words.save(tmp_path / "tokenizer.json")
    backend = Backend.from_file(str(tmp_path / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing(single, pair, [("[CLS]", CLS), ("[SEP]", SEP)])
    tokenizer = Tokenizer(backend)
    texts = [words.encode_stream(["the sea"]).tolist(), words.encode_stream(["lobster pots"]).tolist()]

    def filled(places):
        return [i for place in places for i in (texts[place] if place < 2 else [place])]

    assert tokenizer.encode("the sea").tolist() == filled(one)
    assert tokenizer.encode("the sea", "lobster pots").tolist() == filled(two)
    assert tokenizer.wraps == (one != [0])
    assert len(tokenizer.encode("the sea" * 4, "lobster pots", max_tokens=7)) == 7
    ids, word = tokenizer.encode_words(["the", "sea"])
    assert ids.tolist() == filled(one) and word[word >= 0].tolist() == [0] * 1 + [1] * (len(texts[0]) - 1)
    found, cut = tokenizer.encode_batch_counted(["the sea"], None, len(filled(one)))
    assert cut == 0 and len(found[0]) == len(filled(one))
