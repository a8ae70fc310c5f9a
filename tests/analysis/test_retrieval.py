"""Translations found, by hand-worked ranks, and through a run against a slow reading."""

import json

import pytest
import torch
from analysed import PLACES, finished, text_run
from conftest import compose

from sslzoo import build
from sslzoo.analysis.command import run_analyze
from sslzoo.analysis.retrieval import reciprocal_rank
from sslzoo.errors import ConfigError, UserError


def analyse(run, *words):
    config = compose(
        f"run={run.name}", f"root={run.folder.parent}", "device=cpu", "analysis=retrieval", *words, command="analyze"
    )
    path, _ = run_analyze(config)
    return path, json.loads(path.read_text())


def test_ranks_by_hand():
    source = torch.tensor([[[1.0, 0], [0, 1], [1, 1]]])
    target = torch.tensor([[[2.0, 0], [1, 0], [1, 1.1]]])
    # 0: its own is nearest, as near as 1's: the second of two that tie. 1: of (0, 0, .74) its own ties with 0's: the
    # third. 2: its own is nearest.
    assert float(reciprocal_rank(source, target)) == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    assert float(reciprocal_rank(source, source)) == 1
    assert float(reciprocal_rank(torch.ones(1, 4, 3), torch.ones(1, 4, 3))) == 0.25, "what says nothing finds nothing"


def test_a_mean_of_a_language_hides_what_is_the_same():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 50, 16, generator=g)
    y = x + 0.3 * torch.randn(1, 50, 16, generator=g) + 30 * torch.randn(16, generator=g)
    x = x + 30 * torch.randn(16, generator=g)
    assert float(reciprocal_rank(x, y)) < 0.5
    centred = [z - z.mean(1, keepdim=True) for z in (x, y)]
    assert float(reciprocal_rank(*centred)) > 0.95


def pairs(folder, header="de\ten", rows=None):
    rows = rows or [f"the {a} is near {b}\tnear the {b} is {a}" for a in PLACES for b in PLACES if a < b]
    path = folder / "pairs.tsv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def slow(run, texts, centred: bool):
    """The mean over a text's tokens of each layer, a text at a time."""
    encoder, data = build.load_encoder(run)
    found = []
    for text in texts:
        ids = torch.from_numpy(data.encode(text))
        with torch.no_grad():
            found.append(torch.stack([h[0].mean(0) for h in encoder(ids[None], torch.tensor([len(ids)])).hidden]))
    planes = torch.stack(found, 1)
    return planes - planes.mean(1, keepdim=True) if centred else planes


def test_a_run(tmp_path, capsys):
    run, path = text_run(tmp_path), pairs(tmp_path)
    file, found = analyse(run, f"analysis.pairs={path}")
    assert file == run.analyses / "retrieval.json" and found["pairs"] == 45 and found["layers"] == ["0", "1", "2"]
    columns = list(zip(*(row.split("\t") for row in path.read_text().splitlines()[1:]), strict=True))
    for name, centred in (("as they are", False), ("means taken away", True)):
        a, b = (slow(run, texts, centred) for texts in columns)
        for one, two, x, y in (("de", "en", a, b), ("en", "de", b, a)):
            ranks = []
            for layer in range(3):
                cosine = torch.cosine_similarity(x[layer][:, None], y[layer][None], dim=2)
                ranks.append([1 + sum(float(v) > float(row[i]) + 1e-7 for v in row) for i, row in enumerate(cosine)])
            expected = [sum(1 / r for r in row) / 45 for row in ranks]
            assert found["mrr"][f"{one} to {two}, {name}"] == pytest.approx(expected, abs=0.03)
    assert found["chance"] == pytest.approx(sum(1 / i for i in range(1, 46)) / 45)
    assert "45 pairs of pairs.tsv: mean reciprocal rank by layer, chance 0.098" in capsys.readouterr().out


def test_columns_are_named_and_long_and_unknown_texts_told(tmp_path, capsys):
    run = text_run(tmp_path)
    path = pairs(tmp_path, "id\tone\ttwo", [f"{i}\t{'river ' * 60}\tЖ ж {'ш' * i} щ" for i in range(1, 8)])
    _, found = analyse(run, f"analysis.pairs={path}", "analysis.source=one", "analysis.target=two")
    assert found["cut_texts"] == 7 and found["unknown"]["two"] > 0.3
    out = capsys.readouterr().out
    assert "7 of 14 texts are longer than" in out and "vocabulary does not know 0 % of one, " in out
    _, found = analyse(
        run, f"analysis.pairs={path}", "analysis.columns=[n,x,y]", "analysis.source=x", "analysis.target=y"
    )
    assert found["pairs"] == 8


def test_what_cannot_be_analysed(tmp_path):
    run = text_run(tmp_path)
    for rows, words, message in (
        (["a\tb", "c\t "], [], "line 3: 'en' is empty"),
        (["a\tb"], [], "has 1 pairs below its header: 2 or more"),
        (["a\tb", "c\td"], ["analysis.source=fr"], "has no column 'fr', but de, en"),
    ):
        with pytest.raises(UserError, match=message):
            analyse(run, f"analysis.pairs={pairs(tmp_path, rows=rows)}", *words)
    with pytest.raises(UserError, match="a pair has two columns, and there is de"):
        analyse(run, f"analysis.pairs={pairs(tmp_path, 'de', ['a', 'b'])}")
    with pytest.raises(ConfigError, match="must be a .tsv or .csv file"):
        analyse(run, "analysis.pairs=x.txt")
    with pytest.raises(ConfigError, match="analysis.pairs is required"):
        analyse(run)
    image = finished(tmp_path / "runs" / "image", "data=tiny_image", "encoder=tiny_image")
    with pytest.raises(ConfigError, match="is about text, but .* reads image"):
        analyse(image, "analysis.pairs=x.tsv")
