from collections import Counter

import numpy as np
import pytest
import torch
from given import own_cache  # noqa: F401

from sslzoo.data.base import UNK
from sslzoo.data.corpus import PlainText
from sslzoo.data.documents import Documents
from sslzoo.data.loader import train_loader
from sslzoo.data.mixture import Mixture, smoothed
from sslzoo.data.sampler import ByCount, ByTokens, StepSampler
from sslzoo.data.text_folder import TextFolder
from sslzoo.data.text_mix import TextMix
from sslzoo.errors import ConfigError
from sslzoo.features.compatible import with_run_tokenizer

SIZES = {"de": 600, "es": 150, "zh": 30}  # lines


def test_shares_are_the_papers():
    sizes = np.array([1000, 100, 10])
    powers = [1000**0.7, 100**0.7, 10**0.7]
    assert smoothed(sizes, 0.7) == pytest.approx([p / sum(powers) for p in powers])
    assert smoothed(sizes, 1) == pytest.approx(sizes / 1110) and smoothed(sizes, 0) == pytest.approx([1 / 3] * 3)
    mixture = Mixture.of(sizes, 0.7)
    assert mixture.counts.sum() == 1110 and np.abs(mixture.counts - 1110 * smoothed(sizes, 0.7)).max() < 1
    assert mixture.counts[2] > 10 and mixture.counts[0] < 1000


def test_items_of_a_set_are_drawn_equally_often_over_epochs():
    mixture = Mixture(np.array([50, 20, 3]), np.array([30, 30, 13]))
    drawn = [mixture.items(7, epoch) for epoch in range(30)]
    assert all(
        len(x) == 73 and (np.bincount(np.searchsorted([50, 70], x, "right")) == [30, 30, 13]).all() for x in drawn
    )
    for epochs in (1, 2, 7, 30):
        seen = np.bincount(np.concatenate(drawn[:epochs]), minlength=73)
        for part in (seen[:50], seen[50:70], seen[70:]):
            assert part.max() - part.min() <= 1
    assert np.array_equal(mixture.items(7, 11), drawn[11]) and not np.array_equal(mixture.items(8, 11), drawn[11])
    assert sorted(drawn[0][:30]) != sorted(drawn[1][:30]), "a set that is drawn less often is not always the same"


def test_a_step_is_the_same_wherever_one_starts_and_over_ranks():
    mixture, lengths = Mixture(np.array([50, 20, 3]), np.array([30, 30, 13])), np.full(73, 8)
    whole = [rows.index for rows in StepSampler(ByCount(6), lengths, 3, 0, 40, mixture=mixture)]
    later = [rows.index for rows in StepSampler(ByCount(6), lengths, 3, 25, 40, mixture=mixture)]
    assert all(np.array_equal(a, b) for a, b in zip(whole[25:], later, strict=True))
    ranks = [[x.index for x in StepSampler(ByCount(6), lengths, 3, 0, 40, r, 2, mixture=mixture)] for r in (0, 1)]
    assert all(np.array_equal(w[r::2], x) for r in (0, 1) for w, x in zip(whole, ranks[r], strict=True))
    assert not np.array_equal(whole[0], next(iter(StepSampler(ByCount(6), lengths, 4, 0, 1, mixture=mixture))).index)


def test_batches_have_the_shares_on_average():
    """Within four standard deviations of a draw of that many, and exactly over an epoch."""
    mixture = Mixture.of([9000, 900, 100], 0.7)
    sampler = StepSampler(ByCount(50), np.full(10_000, 8), 0, 0, 100, mixture=mixture)
    sets = np.searchsorted([9000, 9900], np.concatenate([rows.index for rows in sampler]), side="right")
    found, want = np.bincount(sets) / len(sets), smoothed([9000, 900, 100], 0.7)
    assert (np.abs(found - want) < 4 * np.sqrt(want * (1 - want) / len(sets))).all()
    assert want[2] > 2 * 0.01 and found[2] > 2 * 0.01
    epoch = StepSampler(ByCount(50), np.full(10_000, 8), 0, 0, 200, mixture=mixture)
    assert np.array_equal(
        np.bincount(np.searchsorted([9000, 9900], np.concatenate([r.index for r in epoch]), "right")), mixture.counts
    )


WORDS = {"de": "der die das und ist", "es": "el la los y es", "zh": "人 生 字 海 山"}


@pytest.fixture
def corpora(tmp_path):
    g = np.random.default_rng(0)
    for name, count in SIZES.items():
        (tmp_path / name).mkdir()
        lines = [" ".join(g.choice(WORDS[name].split(), 12)) for _ in range(count)]
        (tmp_path / name / "a.txt").write_text("\n".join(lines))
    return tmp_path


def mix(root, batch=None, kind=PlainText, **how):
    batch = batch or ByCount(4)
    sets = {name: kind(str(root / name), batch) for name in SIZES}
    return TextMix(sets, batch, **{"vocab_size": 60, "max_tokens": 16, **how})


def test_one_tokenizer_knows_all_and_an_item_its_language(corpora):
    data = mix(corpora)
    split = data.split("train")
    assert len(data.tokenizer) <= 60 and UNK not in data.tokenizer.encode("der el 字")
    language = split.columns["language"]
    assert Counter(language.tolist()) == {name: len(part) for name, part in zip(SIZES, split.parts, strict=True)}
    for name in SIZES:
        words = set(data.describe(split.read(int(np.flatnonzero(language == name)[0]))).split())
        assert words and words <= {*WORDS[name].split(), *"".join(WORDS[name])}
    assert all(len(split.read(i)) <= 16 for i in (0, len(split) - 1)) and split.names[0].startswith("de: ")
    assert data.split("valid").mixture is None and len(data.split("valid")) > 0
    seen = Counter()
    for batch in train_loader(split, data.batch, 0, 0, 40):
        seen.update(language[batch.index].tolist())
    shares = smoothed([len(part) for part in split.parts], 0.7)
    assert seen["zh"] / seen.total() == pytest.approx(shares[2], abs=4 * (shares[2] / 160) ** 0.5)
    assert shares[2] > 1.3 * len(split.parts[2]) / len(split)


def test_the_tokenizer_learns_from_smoothed_shares(corpora):
    def characters(data):
        found = Counter()
        for line in data.lines("train"):
            found["zh" if set(line) & set(WORDS["zh"]) - {" "} else "de" if "d" in line or "u" in line else "es"] += (
                len(line)
            )
        return np.array([found[name] for name in SIZES])

    sizes = characters(mix(corpora, smoothing=1))
    got = characters(mix(corpora, smoothing=0.5))
    assert got / got.sum() == pytest.approx(smoothed(sizes, 0.5), abs=0.02)
    assert mix(corpora, smoothing=0.5).fingerprint("train") != mix(corpora).fingerprint("train")


def test_it_is_saved_and_taken_over(corpora, tmp_path):
    data = mix(corpora)
    (tmp_path / "run").mkdir()
    data.save(tmp_path / "run")
    other = mix(corpora, vocab_size=300, tokens="byte_bpe")
    used = with_run_tokenizer(other, data, tmp_path / "run")
    assert used.tokenizer.digest == data.tokenizer.digest
    assert torch.equal(used.split("valid").read(0), data.split("valid").read(0))
    assert 1 < data.unigram_entropy < np.log(60) and data.unigram_entropy != mix(corpora, smoothing=0).unigram_entropy


@pytest.mark.parametrize("kind", [Documents, TextFolder])
def test_sets_may_be_documents(corpora, kind):
    for name in SIZES:
        for i, line in enumerate((corpora / name / "a.txt").read_text().splitlines()[:30]):
            (corpora / name / f"{i}.txt").write_text(line)
        (corpora / name / "a.txt").unlink()
    split = mix(corpora, kind=kind).split("train")
    assert set(split.columns["language"]) == set(SIZES) and split.mixture.counts.sum() == len(split)


def test_what_cannot_be_mixed_is_one_line(corpora):
    with pytest.raises(ConfigError, match="data.sets is empty"):
        TextMix({}, ByCount(2))
    with pytest.raises(ConfigError, match="smoothing is an exponent from 0"):
        mix(corpora, smoothing=1.5)
    with pytest.raises(ConfigError, match=r"set data/batch=items_64, or data.smoothing=1"):
        mix(corpora, ByTokens())
    assert mix(corpora, ByTokens(64), smoothing=1).split("train").mixture is None


def test_a_run_says_the_shares(corpora, sslzoo, monkeypatch):
    monkeypatch.setenv("SSLZOO_DATA", str(corpora))
    small = ["encoder.trunk.dim=16", "encoder.trunk.depth=1", "encoder.trunk.heads=2", "encoder.frontend.dim=16"]
    sets = [f"data.sets.{name}.path={corpora}/{name}" for name in SIZES]
    what = [
        "data=multilingual",
        "~data.sets.ru",
        *sets,
        "data.vocab_size=60",
        "data.max_tokens=16",
        "data.batch.size=4",
    ]
    code, _, err = sslzoo(
        "pretrain", "objective=bert", "encoder=bert_small", *what, *small, "trainer.max_steps=3", "name=m"
    )
    assert code == 0, err
    assert any("% de" in line and "% zh" in line for line in err if line.strip().startswith("train"))
    code, _, err = sslzoo("probe", "run=m", *what, "task.label=language")
    assert code == 0, err


@pytest.mark.slow
def test_the_four_languages_and_english(real):
    texts = {name: real / "text/multilingual" / name for name in ("de", "es", "ru", "zh")} | {
        "en": real / "text/gutenberg"
    }
    batch = ByCount(8)
    data = TextMix({k: PlainText(str(path), batch) for k, path in texts.items()}, batch, vocab_size=12_000)
    split = data.split("train")
    sizes = np.array([len(part) for part in split.parts])
    assert split.mixture.shares == pytest.approx(smoothed(sizes, 0.7), abs=1e-4)
    assert sizes.argmax() == 4 and split.mixture.shares[4] < sizes[4] / sizes.sum()
    for part in split.parts:
        ids = part.read(len(part) // 2)
        assert (ids == UNK).float().mean() < 0.05
