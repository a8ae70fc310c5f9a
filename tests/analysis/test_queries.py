"""Query by example: DTW against a slow one, term-weighted values worked by hand, and the command."""

import json

import numpy as np
import pytest
import torch
from analysed import finished, text_run
from conftest import compose

from sslzoo.analysis.command import run_analyze
from sslzoo.analysis.dtw import frame_distances, subsequence_costs
from sslzoo.analysis.queries import BETA, mtwv, scores
from sslzoo.errors import ConfigError, UserError


def slow_cost(distances) -> float:
    """Over all paths, by recursion."""
    rows, columns = distances.shape

    def least(i: int, j: int) -> float:
        if j < 0:
            return np.inf
        return distances[i, j] + (0 if i == 0 else min(least(i - 1, j - step) for step in (0, 1, 2)))

    return min(least(rows - 1, j) for j in range(columns)) / rows


def test_costs_are_those_of_the_best_path():
    g = torch.Generator().manual_seed(0)
    query, documents = torch.randn(5, 4, generator=g), torch.randn(3, 8, 4, generator=g)
    lengths = torch.tensor([8, 6, 3])
    found = frame_distances(query, documents, lengths)
    for m, length in enumerate(lengths.tolist()):
        x = documents[m, :length]
        slow = (1 - torch.nn.functional.cosine_similarity(query[:, None], x[None], dim=2)).exp() - 1
        slow = (slow - slow.amin(1, keepdim=True)) / (slow.amax(1, keepdim=True) - slow.amin(1, keepdim=True))
        torch.testing.assert_close(found[m, :, :length], slow, rtol=1e-4, atol=1e-5)
        assert torch.isinf(found[m, :, length:]).all()
        assert float(subsequence_costs(found[m : m + 1])) == pytest.approx(slow_cost(slow.double().numpy()), rel=1e-4)


def test_a_query_is_found_where_it_is_said_and_short_ones_score_nothing():
    g = torch.Generator().manual_seed(1)
    query = torch.randn(8, 16, generator=g)
    others = [torch.randn(20, 16, generator=g) for _ in range(5)]
    inside = torch.cat([others[0][:6], query + 0.1 * torch.randn(8, 16, generator=g), others[1][:6]])
    found = scores([query, query[:4]], [*others, inside])
    assert found[0].argmax() == 5 and found[0, 5] > 2 and not found[1].any()
    assert found[0].mean() == pytest.approx(0, abs=1e-9) and found[0].std() == pytest.approx(1)


def test_term_weighted_values_by_hand():
    true = np.array([[1, 1, 0, 0], [0, 1, 0, 0]], bool)
    assert mtwv(np.array([[4, 3, 1, 0], [0, 4, 1, 1.0]]), true) == pytest.approx(1)
    # the first query's second document comes after a false alarm: better to miss it
    assert mtwv(np.array([[4, 1, 3, 0], [0, 4, 1, 1.0]]), true) == pytest.approx(1 - (0.5 + 0) / 2)
    assert mtwv(np.zeros((2, 4)), true) == 0 and BETA == pytest.approx(12.49)
    assert mtwv(-true.astype(float), true) == 0
    assert mtwv(np.array([[4, 3, 1, 0], [9, 9, 9, 9.0]]), true & [[True], [False]]) == pytest.approx(
        1
    )  # nothing to find


def test_the_command(tmp_path, capsys):
    run = finished(tmp_path / "runs" / "one", "data=tiny_speech", "encoder=tiny_speech")
    words = [f"run={run.folder}", "analysis=qbe", "analysis.queries=6", "analysis.documents=12", "device=cpu"]
    config = compose(*words, "analysis.label=digits", command="analyze")
    path, _ = run_analyze(config)
    found = json.loads(path.read_text())
    assert path.name == "qbe.json" and found["layer"] in found["layers"] and 0 <= found["mtwv"] <= 1
    assert len(found["by_layer"]["test"]) == len(found["layers"]) == 3
    best = found["layers"].index(found["layer"])
    assert found["mtwv"] == found["by_layer"]["test"][best] and found["by_layer"]["valid"][best] == max(
        found["by_layer"]["valid"]
    )
    assert "MTWV" in capsys.readouterr().out
    with pytest.raises(UserError, match="valid needs items of two classes of 'one'"):
        run_analyze(compose(*words, "analysis.label=one", command="analyze"))
    with pytest.raises(ConfigError, match="analysis=qbe is about frames of speech"):
        run_analyze(compose(f"run={text_run(tmp_path, 'two').folder}", "analysis=qbe", command="analyze"))
