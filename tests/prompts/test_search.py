"""Searching words and templates: against all of them, and what is kept of it."""

import itertools
import json
import math
import shutil

import numpy as np
import pytest
import torch
import yaml
from conftest import compose
from tiny_tasks import PROMPT, tiny_run, tiny_task

from sslzoo.adapt import lm_bff
from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import load_adapted
from sslzoo.data.base import MASK, SPECIALS
from sslzoo.data.tokenizer_training import train as learned
from sslzoo.errors import UserError
from sslzoo.prompts import search
from sslzoo.prompts.search import Labelled, label_words, templates, whole_words
from sslzoo.run import Run


def test_label_words_are_the_best_of_all_assignments():
    torch.manual_seed(0)
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    train, dev = torch.randn(7, 20).log_softmax(1), torch.randn(7, 20).log_softmax(1)
    allowed = np.arange(20) % 4 != 0
    found = label_words(train, labels, dev, labels, allowed, 4, 10)
    tops = []
    for c in range(3):
        mean = np.array([float(train[labels == c][:, v].mean()) if allowed[v] else -math.inf for v in range(20)])
        tops.append(np.argsort(-mean)[:4].tolist())

    def accuracy(log_probs, words):
        return np.mean(
            [np.argmax([float(row[w]) for w in words]) == y for row, y in zip(log_probs, labels, strict=True)]
        )

    words = [w for w in itertools.product(*tops) if len(set(w)) == 3]
    best = sorted((accuracy(train, w) for w in words), reverse=True)[:10]
    assert len(found) == 10 and sorted((right for _, right, _ in found), reverse=True) == pytest.approx(best)
    for w, right, on_dev in found:
        assert w in words and right == pytest.approx(accuracy(train, w)) and on_dev == pytest.approx(accuracy(dev, w))
    assert [on_dev for *_, on_dev in found] == sorted((on_dev for *_, on_dev in found), reverse=True)


def test_words_of_values_are_those_of_the_highest_correlation():
    """With the upper word's share; the likeliest words are those of either half of train."""
    torch.manual_seed(0)
    values = np.array([0.5, 4.0, 1.5, 5.0, 2.0, 3.0, 0.0], np.float32)
    train, dev = torch.randn(7, 12).log_softmax(1), torch.randn(7, 12).log_softmax(1)
    found = label_words(train, values, dev, values, np.ones(12, bool), 5, 6)
    tops = [
        train[torch.from_numpy((values > 2.0) == upper)].mean(0).topk(5).indices.tolist() for upper in (False, True)
    ]

    def correlation(log_probs, words):
        pairs = np.exp(log_probs.double().numpy()[:, list(words)])
        return float(np.corrcoef(pairs[:, 1] / pairs.sum(1), values)[0, 1])

    scores = {w: correlation(train, w) for w in itertools.product(*tops) if len(set(w)) == 2}
    assert sorted(on_train for _, on_train, _ in found) == pytest.approx(sorted(scores.values())[-6:])
    for words, on_train, on_dev in found:
        assert (on_train, on_dev) == pytest.approx((scores[words], correlation(dev, words)))
    assert [on_dev for *_, on_dev in found] == sorted((on_dev for *_, on_dev in found), reverse=True)
    assert search.zero_shot(torch.zeros(3, 4), values[:3], torch.tensor([[0, 1]])).tolist() == [0.0], "a constant"


def test_classes_that_share_their_words():
    same = torch.randn(1, 9).expand(4, 9)
    with pytest.raises(UserError, match="the 2 classes share the 1 words each .*: give them words by prompt.words"):
        label_words(same, np.array([0, 0, 1, 1]), same, np.array([0, 0, 1, 1]), np.ones(9, bool), 1, 5)


def test_a_template_is_the_likeliest_over_all_items(monkeypatch):
    """A beam as wide as the vocabulary finds what trying all pairs of tokens does."""
    tokenizer = learned("wordpiece", ["good bad film a b c d"] * 3, 60, True, False)
    g, size = torch.Generator().manual_seed(0), len(tokenizer)
    table = torch.randn(size, size, size, generator=g)
    monkeypatch.setattr(search, "SPANS", ((1, 1),))
    train = Labelled([("film a",), ("film b",)], np.array([0, 1]))
    words = [int(ids[0]) for ids in tokenizer.encode_apart(["bad", "good"])]
    seen = []

    def ask(rows, places):
        """The log-probabilities depend on the first of the text, the token before, and the word."""
        found = []
        for row, place in zip(rows, places, strict=True):
            seen.append((row.tolist(), place))
            found.append(table[int(row[place - 1]) if row[place - 1] != MASK else 0, int(row[2])].log_softmax(0))
        return torch.stack(found)

    best = templates(ask, tokenizer, ["text"], train, words, size, 20)[0]
    assert all(row[place] == MASK for row, place in seen)
    scores = {}
    texts = [ids.tolist() for ids in tokenizer.encode_apart(["film a", "film b"])]
    for x, y in itertools.product(range(SPECIALS, size), repeat=2):
        scores[x, y] = sum(
            float(table[text[-1], text[1]].log_softmax(0)[x] + table[word, text[1]].log_softmax(0)[y])
            for text, word in zip(texts, words, strict=True)
        )
    x, y = max(scores, key=lambda pair: scores[pair])
    assert best == f"{{text}} {tokenizer.decode([x]).strip()} {{mask}} {tokenizer.decode([y]).strip()}"


def test_whole_words():
    tokenizer = learned("wordpiece", ["film filming filmed 12 ."] * 5, 60, True, False)
    known = {tokenizer.decode([i]).strip() for i in np.flatnonzero(whole_words(tokenizer))}
    assert "film" in known and not known & {"12", ".", "ing", "##ing", "[MASK]"}


def test_what_is_found_is_kept_and_learned_by(tmp_path, monkeypatch):
    run, asked = Run(tmp_path / "runs" / "reviews"), []
    shutil.copytree(tiny_run("tiny_reviews", "text").folder, run.folder)
    monkeypatch.setattr(search, "SPANS", ((1, 0), (1, 1)))
    searched = lm_bff.LMBFF.searched
    monkeypatch.setattr(lm_bff.LMBFF, "searched", lambda self, what, *a: asked.append(what) or searched(self, what, *a))
    words = [f"run={run.folder}", "task=classification", "task.name=tiny", "task.shots=4", "method=lm_bff"]
    more = ["prompt.words=[bad,good]", "method.find=[template,words]", "method.beam=2", "method.per_class=5"]
    small = ["batch={_target_:sslzoo.data.sampler.ByCount,size:4}", "trainer.max_steps=2", "objective.sets=2"]
    config = compose(*words, *PROMPT, *more, *small, "trainer.progress=false", command="adapt")
    folder = Run(run_adapt({**config, "root": str(tmp_path / "runs")}, {"method": "lm_bff"}).parent)
    said = yaml.safe_load((folder.folder / "prompt.yaml").read_text())
    assert asked == list(said) == ["template", "words"]
    for one in said.values():
        assert [row["dev"] for row in one["candidates"]] == sorted((r["dev"] for r in one["candidates"]), reverse=True)
    assert (
        said["words"]["prompt"]["template"]
        == said["template"]["prompt"]["template"]
        == said["template"]["candidates"][0]["template"]
    )
    _, objective, data = load_adapted(run, folder.name)
    assert data.tokenizer.template.text == said["template"]["prompt"]["template"] != config["prompt"]["template"]
    assert [several[0] for several in objective.verbalizer.words] == said["words"]["prompt"]["words"]
    assert asked == ["template", "words"], "nothing is searched again"
    # stopped between the two: the template is there already, and the words are found for it as before
    result = json.loads(folder.result.read_text())
    for path in (folder.folder / "DONE", folder.result):
        path.unlink()
    (folder.folder / "prompt.yaml").write_text(yaml.safe_dump({"template": said["template"]}, sort_keys=False))
    config = compose(*words, *PROMPT, *more, *small, "trainer.progress=false", command="adapt")
    run_adapt({**config, "root": str(tmp_path / "runs")}, {"method": "lm_bff"})
    assert asked == ["template", "words", "words"]
    assert yaml.safe_load((folder.folder / "prompt.yaml").read_text()) == said
    assert json.loads(folder.result.read_text())["test"] == result["test"]


def test_prompts_of_values_are_searched(monkeypatch):
    monkeypatch.setattr(search, "SPANS", ((1, 0),))
    config, run = tiny_task("text-poles-demonstrated"), tiny_run("tiny_ratings", "text")
    for what in ("template", "words"):
        found, rows = lm_bff.LMBFF(beam=2, per_class=4, finalists=5).searched(what, config, run)
        assert found["labels"] == ["0", "5"] and len(set(found["words"])) == 2 and "{mask}" in found["template"]
        assert found[what] == rows[0][what] != config["prompt"][what]
        assert [row["dev"] for row in rows] == sorted((row["dev"] for row in rows), reverse=True)
        assert all(-1 <= row[part] <= 1 for row in rows for part in ("train", "dev"))
