"""What is said of texts that a vocabulary or a length does not hold."""

import pytest
from given import own_cache, warnings  # noqa: F401

from sslzoo.data.sampler import ByCount
from sslzoo.data.table import TextTable
from sslzoo.errors import UserError


def table(path, texts, **how):
    (path / "train.tsv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    return TextTable(str(path), ByCount(2), {"train": "train.tsv"}, "text", **how)


def test_texts_that_lose_their_end_are_counted_once(tmp_path, warnings):  # noqa: F811
    texts = [f"a b c {i}" for i in range(40)] + [f"{i} " + "a b c " * 9 for i in range(40)]
    data = table(tmp_path, texts, vocab_size=60, max_tokens=16)
    for _ in range(2):
        found = [data.split(name) for name in ("train", "valid", "test")]
    assert sum(split.cut_texts for split in found) == 40
    assert warnings().count("lose their end") == 1 and "are longer than data.max_tokens=16" in warnings()
    assert f"of the train texts ({found[0].cut_texts} of {len(found[0])})" in warnings()


def test_nothing_is_said_of_texts_that_fit(tmp_path, warnings):  # noqa: F811
    data = table(tmp_path, [f"a b c {i}" for i in range(40)], vocab_size=60, max_tokens=16)
    assert not data.split("train").cut_texts and not warnings()


def test_a_vocabulary_that_knows_too_little_is_a_warning(tmp_path, warnings):  # noqa: F811
    texts = [" ".join(chr(0x4E00 + 7 * i + j) for j in range(12)) for i in range(60)]
    data = table(tmp_path, texts, vocab_size=100)
    data.split("train")
    assert "tokens are unknown to its vocabulary of" in warnings() and "larger data.vocab_size" in warnings()


def test_a_run_does_not_go_on_with_another_tokenizer(tmp_path):
    texts = [f"é b c {i}" for i in range(40)]
    table(tmp_path, texts, vocab_size=60).save(tmp_path)
    table(tmp_path, texts, vocab_size=60).save(tmp_path)
    with pytest.raises(UserError, match="tokenizer.json is another tokenizer than this data's"):
        table(tmp_path, texts, vocab_size=60, strip_accents=True).save(tmp_path)
