"""Query by example: DTW against a slow one, term-weighted values worked by hand, and the command."""

import json

import numpy as np
import pytest
import soundfile
import torch
from analysed import finished, text_run
from conftest import compose
from data.given import own_cache  # noqa: F401 (an index of its own)

from sslzoo.analysis.command import run_analyze
from sslzoo.analysis.dtw import frame_distances, subsequence_costs
from sslzoo.analysis.queries import BETA, Moments, costs, mtwv, standardised
from sslzoo.data.quesst import Quesst14
from sslzoo.data.sampler import ByCount
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
    documents, moments = [*others, inside], Moments()
    everything = torch.cat([query, query[:4], *documents])
    for rows in (everything[:20], everything[20:]):
        moments.add(rows[:, None])
    torch.testing.assert_close(moments.mean[0], everything.mean(0))
    torch.testing.assert_close(moments.std[0], everything.std(0))
    query, *documents = [(x - moments.mean[0]) / moments.std[0] for x in (query, *documents)]
    lengths = torch.tensor([len(x) for x in documents])
    padded = torch.nn.utils.rnn.pad_sequence(documents, batch_first=True, padding_value=9.0)
    found = standardised(costs([query, query[:4]], padded, lengths))
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


def test_quesst14_has_queries_and_documents_of_its_own(tmp_path, capsys):
    root, g = tmp_path / "quesst14Database", np.random.default_rng(0)
    tones = [0.3 * np.sin(np.arange(2400) * f).astype(np.float32) for f in (0.06, 0.15, 0.4, 0.9)]
    hums = {"a": np.concatenate(tones), "b": np.concatenate(tones[::-1])}  # up, and down

    def write(name: str, *parts: np.ndarray) -> str:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, np.concatenate(parts) + 0.01 * g.standard_normal(sum(map(len, parts))), 16000)
        return f"quesst14Database/{name}"

    noise = 0.3 * g.standard_normal(6000)
    keys = {"utterances": [], "dev": [], "eval": []}
    truth = {"dev": [], "eval": []}
    for i in range(8):
        hum = "ab"[i % 2]
        keys["utterances"].append(write(f"Audio/quesst14_{i:05}.wav", noise, hums[hum], noise) + " nnenglish")
        for word, lines in truth.items():
            lines.append(f"LEXEME quesst14_{i:05} 1 0.37 0.56 quesst14_{word}_{i % 2} lex spk 0.5 0.5")
    keys["utterances"].append(write("Audio/quesst14_00009.wav", noise) + " basque")
    for word, lines in truth.items():
        keys[word] += [write(f"{word}_queries/quesst14_{word}_{i}.wav", hums["ab"[i]]) + " nnenglish" for i in (0, 1)]
        folder = root / "scoring" / f"groundtruth_quesst14_{word}"
        folder.mkdir(parents=True)
        (folder / f"quesst14_{word}.rttm").write_text("\n".join(["SPKR-INFO quesst14_00000 1", *lines]))
    for word, lines in keys.items():
        (root / "scoring" / f"language_key_{word}.lst").write_text("\n".join(lines) + "\n")

    data = Quesst14(str(tmp_path), ByCount(2))
    queries, documents, true = data.trials("valid")
    assert [len(data.split(part)) for part in ("train", "valid", "test")] == [8, 2, 2] and true.shape == (2, 8)
    assert queries.names[1] == "dev_queries/quesst14_dev_1.wav" and np.array_equal(true[1], np.arange(8) % 2 == 1)
    assert documents.columns["queries"][0] == "quesst14_dev_0 quesst14_eval_0"
    assert len(Quesst14(str(tmp_path), ByCount(2), language=None).split("train")) == 9

    run = finished(tmp_path / "runs" / "one", "data=tiny_speech", "encoder=tiny_speech")
    words = [f"run={run.folder}", "analysis=qbe", "analysis.queries=null", "analysis.documents=null", "device=cpu"]
    config = compose(*words, "data=quesst14", f"data.path={tmp_path}", command="analyze")
    path, _ = run_analyze(config)
    assert json.loads(path.read_text())["mtwv"] > 0.9, "hums are found where they are"
    (root / "scoring" / "language_key_dev.lst").write_text("quesst14Database/dev_queries/x.wav\n")
    with pytest.raises(UserError, match="language_key_dev.lst, line 1 is not of the form"):
        Quesst14(str(tmp_path), ByCount(2)).split("valid")
    (root / "scoring" / "language_key_dev.lst").unlink()
    with pytest.raises(UserError, match="there is no .*language_key_dev.lst, which QUESST 2014 has"):
        Quesst14(str(tmp_path), ByCount(2)).split("valid")
    with pytest.raises(UserError, match="lists no file of the language 'czech'"):
        Quesst14(str(tmp_path), ByCount(2), language="czech").split("valid")
