import numpy as np
import pytest

from sslzoo.tasks.metrics import score


def test_accuracy_and_matthews():
    truth, guess = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    assert score("accuracy", truth, guess) == 0.75
    assert score("matthews", truth, guess) == pytest.approx((2 * 1 - 0 * 1) / np.sqrt(1 * 2 * 2 * 3))


def test_f1_of_two_classes_is_the_seconds_and_of_more_the_mean():
    assert score("f1", np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])) == pytest.approx(2 / 3)
    # the classes' own: 1, 2/3, 0
    assert score("f1", np.array([0, 1, 1, 2]), np.array([0, 1, 1, 1])) == pytest.approx((1 + 0.8 + 0) / 3)


def test_glues_metrics_by_hand():
    """3 right of "1", 1 wrong "1", 2 "1" missed, 4 right of "0"."""
    truth = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    guess = np.array([1, 1, 1, 0, 0, 1, 0, 0, 0, 0])
    assert score("accuracy", truth, guess) == pytest.approx(0.7)
    assert score("f1", truth, guess) == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))  # 2/3
    assert score("accuracy_f1", truth, guess) == pytest.approx((0.7 + 2 / 3) / 2)
    assert score("matthews", truth, guess) == pytest.approx((3 * 4 - 1 * 2) / np.sqrt(4 * 5 * 5 * 6))
    assert score("matthews", truth, 1 - truth) == -1.0


def test_correlations_are_averaged():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    guess = np.array([1.0, 2.0, 3.0, 100.0])
    pearson = np.corrcoef(truth, guess)[0, 1]
    assert score("pearson_spearman", truth, guess) == pytest.approx((pearson + 1) / 2)


@pytest.mark.parametrize("truth, guess", [([1.0, 2.0], [5.0, 5.0]), ([3.0, 3.0], [1.0, 2.0]), ([1.0], [1.0])])
def test_a_constant_correlates_with_nothing(truth, guess):
    assert score("pearson_spearman", np.array(truth), np.array(guess)) == 0.0


def test_one_guess_for_all_has_no_matthews():
    assert score("matthews", np.array([0, 1, 1]), np.array([1, 1, 1])) == 0.0


def test_tied_values_share_a_rank():
    """Ranks 1, 2.5, 2.5, 4 against 2, 1, 3.5, 3.5, both of mean 2.5 and of squares that sum to 4.5."""
    truth, guess = np.array([1.0, 3.0, 3.0, 9.0]), np.array([2.0, 0.0, 7.0, 7.0])
    assert score("spearman", truth, guess) == pytest.approx((-1.5 * -0.5 + 1.5 * 1.0) / 4.5)
    assert score("pearson", truth, 2 * truth + 1) == pytest.approx(1)
