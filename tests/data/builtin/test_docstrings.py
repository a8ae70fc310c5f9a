from collections import Counter

import numpy as np
import pytest

from sslzoo.data.base import SPLITS
from sslzoo.data.builtin import docstrings
from sslzoo.data.builtin.docstrings import PACKAGES, Docstrings, SwappedDocstrings, exchanged, prose
from sslzoo.data.sampler import ByCount
from sslzoo.errors import ConfigError, UserError

SMALL = {"per_package": 60, "vocab_size": 600}


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SSLZOO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def plain(own_cache):
    return Docstrings(ByCount(4), **SMALL)


@pytest.fixture(scope="module")
def swapped(own_cache):
    return SwappedDocstrings(ByCount(4), **SMALL)


DOCSTRING = """Fit the model to the data that is given.

    The sum of :func:`~torch.add` and the ``other`` term is returned, see [1]_. It is never
    larger than that of `the paper <https://example.org>`_ on the same data.

    Parameters
    ----------
    x : array_like
        The values that are to be fitted, one of each sample.
    n_jobs : int, the number of jobs to run in parallel.

    Args:
        alpha: The weight of the penalty that is added to the loss,
            as it is in the first paper.

    - Every item of a list is a sentence of its own.
    - This is the second item of the list.

    The code of this example is::

        This is code that looks as if it were a sentence of words.

    >>> print("The answer to this is not of interest to the reader.")
    The answer to this is not of interest to the reader.

    .. note:: This is a directive and the text is not read.

    The loss is x = 3 * y if a_b is set in the config. Too short. And a Half Sentence Without an End of
    """


def test_prose_is_sentences_and_nothing_else():
    assert list(prose(DOCSTRING)) == [
        "Fit the model to the data that is given.",
        "The sum of add and the other term is returned, see.",
        "It is never larger than that of the paper on the same data.",
        "The values that are to be fitted, one of each sample.",
        "The weight of the penalty that is added to the loss, as it is in the first paper.",
        "Every item of a list is a sentence of its own.",
        "This is the second item of the list.",
    ]


def test_two_makings_are_the_same():
    packages = {name: docstrings._folder(name) for name in ("torchmetrics", "networkx")}
    first, second = docstrings.make(packages, 50), docstrings.make(packages, 50)
    assert set(first) == set(second) and all(np.array_equal(first[key], second[key]) for key in first)


def test_modules_are_in_one_split_and_sentences_occur_once(plain):
    texts = {name: plain.opened(name) for name in SPLITS}
    modules = {name: {n.split(",")[0] for n in found.names} for name, found in texts.items()}
    assert not modules["train"] & (modules["valid"] | modules["test"]) and not modules["valid"] & modules["test"]
    sentences = [text.lower() for found in texts.values() for text in found.texts]
    assert len(sentences) == len(set(sentences)) == 60 * len(PACKAGES)


def test_every_package_is_in_every_split(plain):
    for name in SPLITS:
        counts = Counter(plain.split(name).column("package").tolist())
        assert set(counts) == set(PACKAGES)
    train = Counter(plain.split("train").column("package").tolist())
    assert all(30 <= count <= 55 for count in train.values())


def test_the_next_run_reads_what_was_made(plain, own_cache, monkeypatch):
    wanted = plain.opened("test").texts
    monkeypatch.setattr(docstrings, "make", lambda *_: pytest.fail("made again"))
    assert Docstrings(ByCount(4), **SMALL).opened("test").texts == wanted


def test_another_version_of_a_package_is_another_text(plain, monkeypatch):
    plain.opened("train")
    made = []
    monkeypatch.setattr(docstrings, "version", lambda name: "0.0.1")
    real = docstrings.make
    monkeypatch.setattr(docstrings, "make", lambda *how: made.append(how) or real(*how))
    Docstrings(ByCount(4), **SMALL).opened("train")
    assert len(made) == 1


def test_swapped_sentences_have_the_same_bags_of_words(plain, swapped):
    for name in SPLITS:
        original = dict(zip(plain.opened(name).names, plain.opened(name).texts, strict=True))
        found = swapped.opened(name)
        assert len(found.texts) > 0.9 * len(original)
        for text, where, label in zip(found.texts, found.names, found.columns["swapped"], strict=True):
            words, before = text.split(), original[where].split()
            differ = [i for i, (a, b) in enumerate(zip(words, before, strict=True)) if a != b]
            assert sorted(words) == sorted(before)
            assert len(differ) == 2 * label
            if label:
                assert differ[1] == differ[0] + 1 and differ[0] > 0 and differ[1] < len(words) - 1


def test_half_of_the_sentences_are_swapped(swapped):
    labels = np.concatenate([swapped.split(name).column("swapped") for name in SPLITS])
    assert set(labels) == {0, 1} and 0.45 < labels.mean() < 0.55


def test_swapping_leaves_the_tokens_what_they_are(plain, swapped):
    names = {name: i for i, name in enumerate(plain.opened("train").names)}
    split, ids = plain.split("train"), plain.tokenizer
    for text, where in list(zip(swapped.opened("train").texts, swapped.opened("train").names, strict=True))[:80]:
        assert sorted(ids.encode(text, max_tokens=64)) == sorted(split.read(names[where]).tolist())


def test_what_is_exchanged_is_plain_and_different():
    sentence = "Return the, the the Big cat of it."
    assert {exchanged(sentence, key) for key in range(50)} == {"Return the, the the Big of cat it."}


def test_a_package_that_is_not_here_is_named(own_cache, monkeypatch):
    monkeypatch.setitem(docstrings.PACKAGES, "no_such_package", "no-such")
    with pytest.raises(UserError, match="no_such_package"):
        Docstrings(ByCount(4), **SMALL).split("train")


def test_wrong_values_are_refused():
    with pytest.raises(ConfigError, match="data.per_package"):
        Docstrings(ByCount(4), per_package=0)
