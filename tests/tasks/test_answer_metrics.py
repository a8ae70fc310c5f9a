"""Exact match and F1 by cases worked by hand."""

import pytest

from sslzoo.tasks.answer_metrics import best_threshold, cmrc_exact, cmrc_f1, exact_and_f1, normalized


def test_squads_normalisation():
    assert normalized("  The quick, (brown) fox!  An\tend. ") == "quick brown fox end"
    assert normalized("A.N. Other's theatre") == "others theatre"
    assert normalized("the") == normalized("...") == ""


@pytest.mark.parametrize(
    ("answers", "said", "exact", "f1"),
    [
        (["the Panthers"], "Panthers.", 1, 1),
        (["308 points", "308"], "just 308 points", 0, 0.8),  # 2 of 3 said, 2 of 2 asked
        (["a b b"], "b b c", 0, 0.8),  # the article goes; b b of b b c: 2/3 and 2/2
        (["1990"], "in May", 0, 0),
        ([], "", 1, 1),
        ([], "something", 0, 0),
        (["something"], "", 0, 0),
        (["the"], "", 1, 1),  # an article alone is no answer
    ],
)
def test_squad(answers, said, exact, f1):
    assert exact_and_f1(answers, said) == pytest.approx((exact, f1))


def test_cmrc_counts_characters_of_chinese_and_words_of_the_rest():
    assert cmrc_exact("《北京》", "北京") == 1 and cmrc_exact("北京市", "北京") == 0
    assert cmrc_f1("北京市", "在北京") == pytest.approx(2 * 2 / 6)
    assert cmrc_f1("使用Java 8，", "Java 8") == pytest.approx(2 * 2 / 6)
    assert cmrc_f1("甲乙丙丁", "甲丙") == pytest.approx(2 * 1 / 6)  # the longest stretch in common is one character
    assert exact_and_f1(["北京", "北京市"], "北京市。", "cmrc") == (1, 1)


def test_the_best_threshold():
    """Of three questions, by how likely each is to have no answer: right (0.5), none, right (1)."""
    assert best_threshold([-2.0, 1.0, 3.0], [0.5, 0.0, 1.0], [True, False, True]) == pytest.approx((1.5 / 3, -2.0))
    assert best_threshold([5.0, 6.0], [1.0, 1.0], [False, False]) == (1.0, -1e9)
    # two of one score cross together: one is right and one should have said nothing
    assert best_threshold([0.0, 0.0], [1.0, 0.0], [True, False]) == (0.5, -1e9)
