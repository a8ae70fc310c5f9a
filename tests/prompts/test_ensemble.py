"""PET's combination of scores and iPET's sampling, on made-up logits."""

import numpy as np
import pytest

from sslzoo.prompts.ensemble import annotated, annotators, combined, growth, softmax

SCORES = np.random.default_rng(0).normal(size=(400, 3)) * 2


def test_scores_are_a_weighted_mean_of_logits_not_of_probabilities():
    a, b = np.array([[4.0, 0.0]]), np.array([[0.0, 1.0]])
    assert combined([a, b], [0.75, 0.25]) == pytest.approx(np.array([[3.0, 0.25]]))
    assert combined([a, b], [1, 1]) == pytest.approx(np.array([[2.0, 0.5]]))
    assert combined([a, b], [0.0, 0.0]) == pytest.approx(np.array([[2.0, 0.5]])), "no model has a hit: all alike"


def test_the_temperature_is_applied_once():
    """A softmax of a softmax would be nearly uniform."""
    found = softmax(np.array([[2.0, 0.0], [2000.0, 0.0]]), 2.0)
    assert found == pytest.approx(np.array([[1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], [1.0, 0.0]]))
    assert found.sum(1) == pytest.approx(1)


def test_a_quarter_of_the_other_models_annotates():
    for member in range(12):
        found = annotators(member, 12, 0.25, 0, "generation", 1)
        assert len(found) == 3 == len(set(found)) and member not in found and set(found) <= set(range(12))
    assert len(annotators(0, 2, 0.25, 0)) == 1, "never none"


def test_annotators_differ_between_members_generations_and_seeds():
    """A seed that generations ignored would give every generation the same ones."""
    found = [tuple(annotators(0, 12, 0.25, seed, generation)) for seed in range(4) for generation in range(4)]
    assert len(set(found)) > 8
    assert len({tuple(annotators(m, 12, 0.25, 0, 0)) for m in range(12)}) > 6


def test_a_generation_grows_by_its_factor():
    assert [growth(np.array([16, 8]), j, 5).tolist() for j in range(3)] == [[0, 0], [64, 32], [384, 192]]
    assert growth(np.array([0, 0, 0]), 1, 5).tolist() == [4, 3, 3] and growth(np.zeros(2), 2, 5).sum() == 50


def test_items_are_those_that_score_highest_for_their_class_and_balanced():
    items, classes = annotated(SCORES, [20, 20, 5], 0)
    assert np.bincount(classes).tolist() == [20, 20, 5]
    assert (SCORES[items].argmax(1) == classes).all() and len(set(items)) == 45, "no item twice"


def test_draws_are_in_proportion_to_the_probability():
    """The frequency of an item's first draw is its share; by the order of hashes it would be uniform."""
    scores = np.log(np.array([[0.9, 0.1], [0.6, 0.4]]))
    first = np.mean([annotated(scores, [1, 0], seed)[0][0] == 0 for seed in range(3000)])
    assert first == pytest.approx(0.9 / 1.5, abs=0.03)
    second = [annotated(scores, [2, 0], seed)[0] for seed in range(50)]
    assert all(sorted(x) == [0, 1] for x in second)


def test_draws_are_a_function_of_the_seed():
    a, b, c = (annotated(SCORES, [10, 10, 10], *seed)[0] for seed in ((0, 1), (0, 1), (0, 2)))
    assert (a == b).all() and not (a == c).all()


def test_without_labels_a_class_is_drawn_from_the_most_confident_whatever_scores_highest():
    scores = np.stack([SCORES[:, 0] + 100, SCORES[:, 1]], 1)  # class 1 is nowhere the highest
    items, classes = annotated(scores, [5, 5], 0, confident=50)
    probabilities = softmax(scores)
    for label in range(2):
        top = set(np.argsort(-probabilities[:, label], kind="stable")[:50])
        assert set(items[classes == label]) <= top
    assert np.bincount(annotated(scores, [5, 5], 0)[1]).tolist() == [5, 5], "an absent class is filled, not left out"


def test_too_few_items_are_taken_again():
    scores = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    items, classes = annotated(scores, [5, 2], 0)
    assert np.bincount(items).tolist()[2] == 2 and sorted(np.bincount(items[classes == 0])) == [2, 3]
