import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import processors

from sslzoo.data.base import CLS, MASK, PAD, SEP, UNK
from sslzoo.data.tokenizer import TOKENS, Tokenizer
from sslzoo.data.tokenizer_training import train
from sslzoo.errors import ConfigError, UserError

TEXTS = [
    "The lobster is a large crustacean of the sea.",
    "Lobsters are caught in pots; unbelievably, the pots are baited.",
    "A café by the sea serves the lobster — naïvely boiled.",
] * 3


@pytest.fixture(scope="module")
def words():
    return train("wordpiece", TEXTS, 90)


@pytest.fixture(scope="module")
def characters():
    return train("characters", TEXTS, 60)


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
    for kind in ("wordpiece", "unigram", "characters"):
        tokenizer = train(kind, texts, size)
        assert len(tokenizer) <= size
        assert max(x.max() for x in tokenizer.encode_batch(texts)) < size


def test_round_trip_of_words(words):
    assert words.decode(words.encode(TEXTS[0])) == TEXTS[0].lower()
    assert words.decode(words.encode("Cafe\u0301")) == words.decode(words.encode("Café")) == "café"
    stripped = train("wordpiece", TEXTS, 150, strip_accents=True)
    assert stripped.decode(stripped.encode("Café")) == "cafe"
    kept = train("wordpiece", TEXTS, 150, lowercase=False)
    assert kept.decode(kept.encode("The café")) == "The café"


@pytest.mark.parametrize("tokens", ["wordpiece", "unigram"])
@pytest.mark.parametrize("between", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r", "\r\n"])
def test_words_stay_apart_at_what_ends_a_line_elsewhere(tokens, between):
    texts = [f"the sea{between}the lobster", *TEXTS]
    tokenizer = train(tokens, texts, 150)
    assert tokenizer.encode(texts[0]).tolist() == tokenizer.encode("the sea the lobster").tolist()
    assert np.array_equal(
        tokenizer.encode(TEXTS[0]), train(tokens, ["the sea the lobster", *TEXTS], 150).encode(TEXTS[0])
    )


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


@pytest.fixture(scope="module")
def pairs():
    return train("byte_bpe", TEXTS, 320)


@pytest.fixture(scope="module")
def unigram():
    return train("unigram", TEXTS, 90)


def test_byte_pairs_know_every_text_and_keep_it(pairs):
    for text in (*TEXTS, "The [MASK]\tis  字 — ∞\n", " a\u0301\x00"):
        ids = pairs.encode_stream([text])
        assert UNK not in ids and ids.min() >= 5 and pairs.decode(ids) == text
    assert pairs.kind == "byte_bpe" and " lobster" in [pairs.decode([i]) for i in range(5, len(pairs))]
    assert pairs.decode(pairs.encode("the sea")[:-2]) == "the"  # spaces are of the pieces that they come before


def test_unigram_pieces_and_their_spaces(unigram):
    assert unigram.kind == "unigram" and 40 < len(unigram) <= 90
    assert unigram.decode(unigram.encode("The  sea\nserves\tＬobsters. ")) == "the sea serves lobsters."
    assert UNK in unigram.encode("字") and len(unigram.encode(" \n")) == 2
    exact = train("unigram", TEXTS, 120, lowercase=False)
    assert exact.decode(exact.encode("The café")) == "The café"
    bare = train("unigram", TEXTS, 120, strip_accents=True)
    assert bare.decode(bare.encode("Café")) == "cafe"


def test_chinese_characters_stand_apart_in_word_pieces():
    tokenizer = train("wordpiece", ["人生字母 sea字sea"] * 9, 60)
    assert tokenizer.tokens(tokenizer.encode("人生字sea")[1:-1]) == ["人", "生", "字", "sea"]


@pytest.mark.parametrize("kind", TOKENS)
def test_which_pieces_go_on_a_word(tmp_path, kind):
    texts = ["Unbelievably, the lobster's pots are baited: 人字 they don't boil"] * 9 + TEXTS
    made = train(kind, texts, 400 if kind == "byte_bpe" else 75)
    made.save(tmp_path / "t.json")
    for tokenizer in (made, Tokenizer.load(tmp_path / "t.json")):
        goes_on = tokenizer.is_continuation
        assert goes_on.shape == (len(tokenizer),) and goes_on.dtype == bool and not goes_on[:5].any()
        sentence = " ".join(texts[0].split()[1:])
        ids = tokenizer.encode_stream([f"a {sentence}"])
        words = [tokenizer.decode(x).strip() for x in np.split(ids, np.flatnonzero(~goes_on[ids]))]
        if kind == "characters":
            assert "".join(words[1:]).replace(" ", "") == "a" + sentence.replace(" ", "")
            assert not goes_on.any()
        else:
            said = "".join(f" {word} " if len(word) > 1 else word for word in words)
            assert {"the", "lobster", "pots", "are", "baited", "they"} <= set(said.replace(":", " ").split())
            assert goes_on[tokenizer.encode_stream(["a potsthe"])].any()


@pytest.mark.parametrize("kind", ["words", "characters", "pairs", "unigram"])
def test_each_piece_knows_its_word(request, kind):
    tokenizer = request.getfixturevalue(kind)
    sentence = ["Unbelievably", ",", "don't", "boil", "ünbaited", "pots"]
    ids, word = tokenizer.encode_words(sentence)
    assert len(ids) == len(word) and word[0] == word[-1] == -1
    assert sorted(set(word.tolist()) - {-1}) == list(range(len(sentence)))
    for number, text in enumerate(sentence):
        own = tokenizer.encode(text if kind != "pairs" or not number else f" {text}")[1:-1]
        if number and not tokenizer.decode(own[:1]).strip():  # the space before it is a piece, and nobody's
            own = own[1:]
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
        train("wordpiece", TEXTS, 5)
    with pytest.raises(ConfigError, match="vocab_size must be above 261, the special ids and the bytes"):
        train("byte_bpe", TEXTS, 261)
    for kind in TOKENS:
        with pytest.raises(UserError, match="no text to learn"):
            train(kind, ["", ""], 300)


@pytest.mark.parametrize(
    "tokens, size",
    [
        ("wordpiece", 300),
        ("unigram", 150),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in (("byte_bpe", 400), ("unigram", 300))),
    ],
)
def test_training_is_the_same_in_every_process(tmp_path, tokens, size):
    """The library alone gives another vocabulary every time: its ties follow a randomly seeded hash map."""
    code = (
        "import sys; from sslzoo.data.tokenizer_training import train\n"
        "texts = [' '.join(chr(97 + (i * j) % 26) * (1 + j % 3) + 'xyz'[i % 3] for j in range(30)) for i in range(99)]\n"
        f"train({tokens!r}, texts, {size}).save(sys.argv[1])"
    )
    paths = [tmp_path / f"{seed}.json" for seed in (1, 2)]
    begun = [
        subprocess.Popen([sys.executable, "-c", code, path], env=os.environ | {"PYTHONHASHSEED": path.stem})
        for path in paths
    ]
    assert [process.wait() for process in begun] == [0, 0]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(Tokenizer.load(paths[0])) > (250 if tokens == "wordpiece" else 100)


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
