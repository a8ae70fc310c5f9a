"""One word in many contexts, against a slow reading of each text by itself."""

import json

import numpy as np
import pytest
import torch
from analysed import finished, sentences, text_run
from conftest import compose

from sslzoo import build
from sslzoo.analysis.command import run_analyze
from sslzoo.analysis.contexts import cosine_matrix, self_similarity, word_spans
from sslzoo.errors import ConfigError, UserError


def analyse(run, *words):
    config = compose(
        f"run={run.name}", f"root={run.folder.parent}", "device=cpu", "analysis=contexts", *words, command="analyze"
    )
    path, _ = run_analyze(config)
    return path, json.loads(path.read_text())


def test_words_of_pieces():
    goes_on = np.zeros(20, bool)
    goes_on[[10, 11]] = True
    assert word_spans(np.array([2, 7, 10, 11, 8, 1, 10, 3, 11, 9, 3]), goes_on) == [
        (1, 4),
        (4, 5),
        (6, 7),
        (8, 9),
        (9, 10),
    ]


def test_similarity_is_the_mean_over_pairs():
    x = torch.randn(2, 5, 7)
    for layer in range(2):
        pairs = [torch.cosine_similarity(x[layer, i], x[layer, j], 0) for i in range(5) for j in range(i)]
        torch.testing.assert_close(self_similarity(x)[layer].float(), torch.stack(pairs).mean())
        torch.testing.assert_close(
            cosine_matrix(x)[layer, 3, 1].float(), torch.cosine_similarity(x[layer, 3], x[layer, 1], 0)
        )


def slow_cosines(run, word: str, count: int):
    """Cosines [L, N, N] of a word in the first texts that hold it, each text read alone."""
    encoder, data = build.load_encoder(run)
    texts = list(dict.fromkeys(t for t in sentences(120) if word in t.split()))
    vectors = []
    for i in np.linspace(0, len(texts) - 1, count).round().astype(int):
        ids = data.encode(texts[i])
        pieces = [data.tokenizer.decode([x]) for x in ids.tolist()]
        assert "".join(p.removeprefix("##") for p in pieces[1:-1]) == texts[i].replace(" ", "")
        start = len(data.encode(" ".join(texts[i].split()[: texts[i].split().index(word)]))) - 1
        stop = len(data.encode(" ".join(texts[i].split()[: texts[i].split().index(word) + 1]))) - 1
        with torch.no_grad():
            hidden = encoder(torch.from_numpy(ids)[None], torch.tensor([len(ids)])).hidden
        vectors.append(torch.stack([h[0, start:stop].mean(0) for h in hidden]))
    return cosine_matrix(torch.stack(vectors, 1))


def test_a_word_that_is_named(tmp_path, capsys):
    run = text_run(tmp_path)
    path, found = analyse(run, "analysis.word=Bank", "analysis.occurrences=6")
    assert path.name == "contexts-bank.json"
    lines, bank = found["figures"]
    expected = slow_cosines(run, "bank", 6)
    for layer, matrix in enumerate(bank["matrices"]):
        mine = torch.tensor(matrix["values"])
        assert matrix["title"] == f"layer {layer}" and torch.equal(mine, mine.T)
        # in another order
        torch.testing.assert_close(
            mine.flatten().sort()[0], expected[layer].flatten().sort()[0].float(), atol=2e-5, rtol=0
        )
    similar = found["words"]["bank"]["self_similarity"]
    assert similar == pytest.approx([float((c.sum() - 6) / 30) for c in expected], abs=1e-5)
    assert len(bank["legend"]) == 6 and all("[bank]" in row and "is near" in row for row in bank["legend"])
    assert lines["lines"][0]["series"]["the same word"] == found["the same word"]
    out = capsys.readouterr().out
    assert "word forms, each in 6 texts of test" in out and "  bank " in out


def test_words_are_chosen(tmp_path):
    """Those that differ most in the last layer are drawn; the word itself says more than its context at layer 0."""
    _, found = analyse(text_run(tmp_path), "analysis.occurrences=8", "analysis.drawn=3")
    words = found["words"]
    assert len(words) > 5 and all(w["texts"] >= 8 for w in words.values())
    assert found["the same word"][0] > found["different words"][0]
    last = sorted(words, key=lambda w: words[w]["self_similarity"][-1])
    drawn = [f["title"] for f in found["figures"][1:]]
    assert drawn == [f"‘{w}’ in 8 texts: cosines" for w in last[:3]]
    mean = np.mean([w["self_similarity"] for w in words.values()], 0)
    assert found["the same word"] == pytest.approx(mean.tolist(), abs=1e-5)


def test_what_cannot_be_analysed(tmp_path):
    run = text_run(tmp_path)
    for words, message in (
        (["analysis.word=river", "analysis.occurrences=500"], "'river' is in .* texts of test, and 500 are needed"),
        (["analysis.word='two words'"], "'two words' is not one word to the run's tokenizer"),
        (["analysis.occurrences=500"], "no word of test is in 500 texts .* smaller analysis.occurrences"),
    ):
        with pytest.raises(UserError, match=message):
            analyse(run, *words)
    with pytest.raises(ConfigError, match="occurrences of 2 or more"):
        analyse(run, "analysis.occurrences=1")
    image = finished(tmp_path / "runs" / "image", "data=tiny_image", "encoder=tiny_resnet")
    with pytest.raises(ConfigError, match="analysis=contexts is about text, but .* reads image"):
        analyse(image)


def test_ids_without_a_tokenizer_are_refused(tmp_path):
    run = finished(tmp_path / "runs" / "ids", "data=tiny_text", "encoder=tiny_text")
    with pytest.raises(ConfigError, match="reads ids of TinyText, which has no tokenizer"):
        analyse(run)
