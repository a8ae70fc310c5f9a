"""Templates and verbalizers: what they make of texts, and what they refuse."""

import numpy as np
import pytest

from sslzoo.data.base import CLS, MASK, SEP
from sslzoo.data.tokenizer_training import train
from sslzoo.errors import ConfigError, InputError
from sslzoo.prompts.template import Template
from sslzoo.prompts.tokenizer import PromptTokenizer
from sslzoo.prompts.verbalizer import Verbalizer, in_order, tokens_of

TEXTS = ["a fine film it was great .", "no it was a dull and terrible film , yes ?"] * 5
PAIR = ("premise", "hypothesis")


@pytest.fixture(scope="module", params=["wordpiece", "byte_bpe", "unigram", "characters"])
def tokenizer(request):
    return train(request.param, TEXTS, 330, True, False)


@pytest.fixture(scope="module")
def words():
    return train("wordpiece", TEXTS, 330, True, False)


def encoded(text: str, names, tokenizer, *values: str, most: int | None = None, filling=(MASK,)):
    [ids], cut = Template(text, names).encode(tokenizer, [values], [filling], most)
    return ids.tolist(), cut


def test_a_prompt_is_the_text_with_a_mask_in_it(tokenizer):
    ids, cut = encoded("{text} it was {mask} .", ["text"], tokenizer, "a fine film")
    assert cut == 0 and ids.count(MASK) == 1 and ids[0] == CLS and ids[-1] == SEP
    at = ids.index(MASK)
    # what stands before the mask is tokenized as one text, and what follows it too
    assert (
        ids[1:at] == tokenizer.encode_apart(["a fine film it was" + " " * (tokenizer.kind == "characters")])[0].tolist()
    )
    assert ids[at + 1 : -1] == tokenizer.encode_apart([" ."])[0].tolist()


def test_the_word_at_the_mask_makes_the_text_whole(tokenizer):
    [[word]] = tokens_of([["great"]], tokenizer, spaced=True)
    ids, _ = encoded("{text} it was {mask}", ["text"], tokenizer, "a fine film", filling=word)
    assert ids == tokenizer.encode("a fine film it was great").tolist()


def test_fields_come_in_the_templates_order_and_separators_where_it_says(words):
    ids, _ = encoded("{hypothesis} ? {sep} {mask} , {premise}", PAIR, words, "a film", "it was dull")
    parts = words.encode_apart(["it was dull ?", ", a film"])
    assert ids == [CLS, *parts[0], SEP, MASK, *parts[1], SEP]


@pytest.mark.parametrize("most", [9, 10, 11, 12, 14])
def test_texts_are_cut_and_the_template_is_not(words, most):
    own = words.encode_apart(["it was"])[0].tolist()
    first, second = ("a fine film it was great . " * 3).strip(), "no it was"
    ids, cut = encoded("{premise} it was {mask} {hypothesis}", PAIR, words, first, second, most=most)
    assert cut == 1 and len(ids) == most and ids[0] == CLS and ids[-1] == SEP
    at = ids.index(MASK)
    assert ids[at - 2 : at] == own
    kept = ids[1 : at - 2], ids[at + 1 : -1]
    for text, left in zip((first, second), kept, strict=True):
        assert words.encode_apart([text])[0][: len(left)].tolist() == left and left
    assert len(kept[1]) == min(3, (most - 5) // 2), "the shorter keeps up to half, as in a pair without a template"


def test_nothing_is_cut_of_what_fits(words):
    ids, cut = encoded("{text} {mask}", ["text"], words, "a fine film", most=6)
    assert cut == 0 and len(ids) == 6
    assert encoded("{text} {mask}", ["text"], words, "a fine film", most=5)[1] == 1


def test_a_mask_in_a_text_is_no_mask(words):
    ids, _ = encoded("{text} {mask}", ["text"], words, "it was [MASK]")
    assert ids.count(MASK) == 1


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{text} it was good", r"needs \{mask\} once, .* such as '\{text\} It was \{mask\}\.'; got"),
        ("{text} {mask} {mask}", r"needs \{mask\} once"),
        ("{sentence} {mask}", r"has \{sentence\}, a field that this data lacks; there are \{text\}, \{mask\}, \{sep\}"),
        ("{texts} {mask}", r"did you mean 'text'|text"),
        ("it was {mask}", "has none of the item's texts in it"),
        ("{text {mask}", "a brace without its other"),
        ("{text} {0.__class__} {mask}", r"has \{0.__class__\}, a field that this data lacks"),
    ],
)
def test_templates_that_are_none(text, match):
    with pytest.raises(ConfigError, match=match):
        Template(text, ["text"])


def test_a_template_that_leaves_no_room(words):
    long = Template("{text} " + "it was a film " * 5 + "{mask}", ["text"])
    long.check_room(words, [MASK], 24)
    with pytest.raises(ConfigError, match="has 23 tokens of its own, which leave no room for texts in the 23"):
        long.check_room(words, [MASK], 23)


def test_whoever_reads_texts_reads_prompts(words):
    prompts = PromptTokenizer(words, Template("{text} it was {mask}", ["text"]), masks=2)
    ids = prompts.encode("a fine film")
    assert ids.tolist() == [CLS, *words.encode_apart(["a fine film it was"])[0], MASK, MASK, SEP]
    with pytest.raises(InputError, match="the prompt is made of text: give 1 texts an item"):
        prompts.encode("a film", "it was dull")


def test_a_cache_keyed_by_too_little(words):
    """What is stored of a prompt's texts is found by its template, its columns and its masks, beside the vocabulary."""
    template = Template("{premise} {mask} {hypothesis}", PAIR)
    several = [
        words,
        PromptTokenizer(words, template, 1),
        PromptTokenizer(words, template, 2),
        PromptTokenizer(words, Template("{premise} {mask}", PAIR), 1),
        PromptTokenizer(words, Template("{premise} {mask} {hypothesis}", PAIR[::-1]), 1),
        PromptTokenizer(train("characters", TEXTS, 330, True, False), template, 1),
    ]
    assert len({one.digest for one in several}) == len(several)
    assert PromptTokenizer(words, template, 1).digest == several[1].digest
    assert several[1].saved_digest == words.saved_digest, "the vocabulary is the same"


def test_words_of_labels():
    assert in_order(["a", "b"], None, ["x", "y"]) == ["a", "b"]
    assert in_order(["a", "b"], ["y", "x"], ["x", "y"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("given", "labels", "match"),
    [
        (["a"], None, r"has 1 for 2 labels \(good, bad\): every label needs a word"),
        (["a"], ["good"], "prompt.labels has no 'bad', a label of this data"),
        (["a", "b"], ["good", "bat"], "'bat' is no label of this data; there are good, bad"),
    ],
)
def test_labels_and_words_that_do_not_go_together(given, labels, match):
    with pytest.raises(ConfigError, match=match):
        in_order(given, labels, ["good", "bad"])


def test_two_labels_with_one_word(words):
    tokens = tokens_of([["great"], ["dull", "great"]], words, True)
    with pytest.raises(ConfigError, match="'great' stands for good and for bad: give each label words of its own"):
        Verbalizer(["good", "bad"], [["great"], ["dull", "great"]], tokens)


def test_a_word_of_several_tokens(words):
    tokens = tokens_of([["greater"], ["dull"]], words, True)
    found = Verbalizer(["good", "bad"], [["greater"], ["dull"]], tokens)
    assert found.masks == len(tokens[0][0]) > 1
    with pytest.raises(
        ConfigError, match=r"'greater' is \d tokens of this run's vocabulary, and that needs words of one"
    ):
        found.check_single("that")
    with pytest.raises(ConfigError, match="'☃' is unknown to the vocabulary of this run"):
        tokens_of([["☃"]], words, True)


def test_pairs_are_cut_as_without_a_template(words):
    """Of two texts alone the same tokens are left as of a pair of the same room."""
    g = np.random.default_rng(0)
    template = Template("{premise}{sep}{mask}{hypothesis}", PAIR)
    for _ in range(20):
        first, second = (" ".join(["film"] * int(n)) for n in g.integers(1, 12, 2))
        most = int(g.integers(8, 20))
        plain = words.encode(first, second, most).tolist()
        ids, _ = encoded(template.text, PAIR, words, first, second, most=most + 1)
        assert [i for i in ids if i != MASK] == plain
