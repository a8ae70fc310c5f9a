"""Strings with motifs, written in words; and what a run makes of them."""

import json
from collections import Counter

import numpy as np
import pytest
from analysed import finished, text_run
from conftest import compose

from sslzoo import build
from sslzoo.analysis.command import run_analyze
from sslzoo.data.builtin.dna import DNA, whole_words
from sslzoo.data.sampler import ByCount
from sslzoo.errors import ConfigError, UserError


def dna(**more) -> DNA:
    return DNA(ByCount(8), **{"count": 200, "length": 20, "motif": 4, "copies": 2, **more})


def test_a_motif_is_all_that_tells_classes_apart():
    data = dna(classes=3, symbols="ACGT", count=1200)
    assert len(set(data.motifs)) == 3 and len({tuple(sorted(m)) for m in data.motifs}) == 1
    strings, classes = data.strings("train")
    assert len(strings) == 1200 and all(len(s) == 20 for s in strings) and set(classes) == {0, 1, 2}
    for string, kind in zip(strings, classes, strict=True):
        assert string.count(data.motifs[kind]) >= 1
    counts = [
        np.mean([[s.count(x) for x in "ACGT"] for s, k in zip(strings, classes, strict=True) if k == c], 0)
        for c in range(3)
    ]
    assert np.abs(np.array(counts) - counts[0]).max() < 0.5, "of 20 symbols: no count tells"
    places = Counter(s.find(data.motifs[k]) for s, k in zip(strings, classes, strict=True))
    assert len(places) > 12, "anywhere"
    splits = [set(data.strings(name)[0]) for name in ("train", "valid", "test")]
    assert len(splits[1]) > 280 and not splits[0] & splits[1] & splits[2]
    assert dna(classes=3, count=1200).strings("train")[0] == strings
    assert dna(classes=3, count=1200, seed=1).strings("train")[0] != strings


def test_symbols_are_words_of_the_vocabulary(tmp_path):
    run = text_run(tmp_path)
    _, trained = build.load_encoder(run)
    data = dna()
    data.restore(run.folder)
    words = data.words()
    assert len(set(words.values())) == 4 and set(words.values()) <= set(whole_words(trained.tokenizer))
    again = dna(length=30)
    again.restore(run.folder)
    assert again.words() == words, "the same everywhere"
    split, (strings, classes) = data.split("test"), data.strings("test")
    back = {trained.tokenizer.encode_apart([word])[0][0]: symbol for symbol, word in words.items()}
    for i in (0, 7):
        ids = split.read(i).tolist()
        assert len(ids) == 22 and "".join(back[x] for x in ids[1:-1]) == strings[i]
    assert split.columns["motif"].tolist() == classes.tolist()


def test_without_a_vocabulary_it_is_refused():
    with pytest.raises(UserError, match="words of a run's vocabulary, and learns none: probe, adapt or analyze"):
        dna().split("train")
    for more, message in (
        ({"symbols": "AA"}, "two symbols or more, each once, got 'AA'"),
        ({"copies": 6}, "room for the motifs"),
        ({"classes": 100, "count": 4000}, "too few orders for data.classes=100"),
    ):
        with pytest.raises(ConfigError, match=message):
            dna(**more)


def test_a_run(tmp_path, capsys):
    run = text_run(tmp_path)
    small = ["count=160", "length=24", "motif=4", "copies=2"]
    words = ["analysis=symbols", *(f"analysis.task.data.{word}" for word in small)]
    config = compose(f"run={run.name}", f"root={run.folder.parent}", "device=cpu", *words, command="analyze")
    path, then = run_analyze(config)
    found = json.loads(path.read_text())
    assert path == run.analyses / "symbols.json" and found["n_test"] == 40
    assert set(found["probed"]) == {"pretrained", "untrained", "raw"} and found["chance"] == 0.5
    assert all(0 <= x <= 1 for x in found["probed"].values()) and found["fine_tuned"] == {}
    series = found["figures"][0]["lines"][0]["series"]
    assert set(series) == {"pretrained", "untrained"} and len(series["pretrained"]) == 3
    assert then == [
        ["adapt", f"run={run.folder}", "task=dna"],
        ["adapt", f"run={run.folder}", "task=dna", "untrained=true"],
    ]
    assert "dna: accuracy on 40 strings of test, chance 50.0" in capsys.readouterr().out
    # what was trained further stands beside it
    for name, untrained in (("dna-full", False), ("dna-full-untrained", True)):
        folder = run.folder / "adapted" / name
        folder.mkdir(parents=True)
        folder.joinpath("config.yaml").write_text(f"seed: 0\nuntrained: {str(untrained).lower()}\n")
        result = {"task": "dna", "metric": "accuracy", "method": "full", "test": {"accuracy": 0.75 - 0.25 * untrained}}
        folder.joinpath("result.json").write_text(json.dumps(result))
    found = json.loads(run_analyze(config)[0].read_text())
    assert found["fine_tuned"] == {"full": 0.75, "full from a random start": 0.5}
    assert "full from a random start 50.0" in capsys.readouterr().out
    image = finished(tmp_path / "runs" / "image", "data=tiny_image", "encoder=tiny_image")
    with pytest.raises(ConfigError, match="is about text, but .* reads image"):
        run_analyze({**config, "run": image.name})
