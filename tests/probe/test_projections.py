import json

import numpy as np
import pytest
import torch

from sslzoo.probe.projections import SHOWN, confusion, discriminant, projections


def clouds(n: int = 90, classes: int = 3, width: int = 20, gap: float = 6.0):
    """Classes apart along a direction each, and much more variance along another that says nothing of them."""
    rng = np.random.default_rng(0)
    truth = np.arange(n) % classes
    x = rng.standard_normal((n, width))
    x[np.arange(n), truth] += gap
    x[:, -1] *= 40
    answers = x[:, :classes] - x[:, :classes].mean(1, keepdims=True)
    answers = torch.from_numpy(answers)
    return torch.from_numpy(x), answers, truth, answers.argmax(1).numpy(), (answers, truth)


def apart(plane, truth) -> float:
    """How far the classes' means lie from each other, in spreads within a class."""
    at = np.array(plane, float)
    means = np.array([at[truth == c].mean(0) for c in np.unique(truth)])
    within = np.mean([at[truth == c].std() for c in np.unique(truth)])
    return float(min(np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]) / within)


def test_classes_show_where_the_head_looks_and_not_where_the_variance_is():
    x, answers, truth, predicted, learned = clouds()
    found = projections(x, answers, truth, predicted, learned, True)
    assert list(found["planes"]) == ["probe", "tsne", "pca"]
    assert apart(found["planes"]["probe"], truth) > 2.5 and apart(found["planes"]["pca"], truth) < 1
    assert found["label"] == truth.tolist() and found["predicted"] == predicted.tolist()


def test_they_are_the_same_each_time_and_are_json():
    given = clouds()
    one, other = (projections(*given, True) for _ in range(2))
    assert one == other == json.loads(json.dumps(one))


def test_two_classes_lie_apart_along_the_first_axis():
    given = clouds(classes=2)
    truth, at = given[2], np.array(projections(*given, True)["planes"]["probe"])
    assert at[truth == 1, 0].mean() - at[truth == 0, 0].mean() > 3 * at[truth == 0, 0].std()
    assert at[:, 1].std() > 0 and abs(np.corrcoef(at.T)[0, 1]) < 0.05


def test_a_value_is_the_first_axis():
    x, answers, *_ = clouds()
    value = answers[:, 0].numpy()
    found = projections(x, answers[:, :1], value, value, (answers[:, :1], value), False)
    assert np.corrcoef(np.array(found["planes"]["probe"])[:, 0], value)[0, 1] > 0.999
    assert found["label"] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("x", [torch.ones(40, 5), torch.ones(1, 1), torch.eye(3)])
def test_what_has_no_neighbourhoods_has_no_map_of_them(x):
    truth = np.zeros(len(x), int)
    answers = torch.zeros(len(x), 2)
    found = projections(x, answers, truth, truth, (answers, truth), True)
    assert list(found["planes"]) == ["probe", "pca"]
    assert all(len(plane) == len(x) and np.isfinite(plane).all() for plane in found["planes"].values())


def test_many_rows_are_thinned_evenly():
    n = 5 * SHOWN
    x, answers = torch.arange(n).float()[:, None].expand(n, 3), torch.zeros(n, 2)
    place = np.arange(n)
    found = projections(x, answers, place, place, (answers, place % 2), True)
    assert len(found["label"]) == SHOWN == len(found["planes"]["pca"])
    assert found["label"][0] == 0 and found["label"][-1] == n - 1


def test_discriminants_are_scikit_learns():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, _, truth, *_ = clouds(300, 4, 6)
    ours = discriminant(x, truth, x)
    theirs = LinearDiscriminantAnalysis(n_components=2).fit(x, truth).transform(x)
    for mine, other in zip(ours.T, theirs.T, strict=True):
        assert abs(np.corrcoef(mine, other)[0, 1]) > 0.99


def test_confusion_counts_pairs():
    truth, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 2])
    assert confusion(truth, predicted) == [[0, 0, 1], [0, 1, 1], [1, 1, 1], [2, 0, 2], [2, 2, 1]]
